"""Connecting for a phase."""

from __future__ import annotations

from typing import Any

import pytest

from aksara_signals import (
    InvalidOptionError,
    InvalidPhaseError,
    NoSessionError,
    Signal,
    m2m_changed,
    post_bulk_create,
    post_init,
    post_relation_add,
    post_save,
    pre_delete,
    pre_init,
    pre_migrate,
    pre_relation_add,
    pre_save,
)

COMMIT, ROLLBACK = "after_commit", "after_rollback"


@pytest.mark.parametrize(
    "signal", [pre_save, pre_delete, pre_init, post_init, pre_relation_add, pre_migrate], ids=str
)
@pytest.mark.parametrize("phase", [COMMIT, ROLLBACK])
def test_what_precedes_the_fact_has_no_outcome(signal: Signal, phase: str) -> None:
    """Pre and init signals refuse a phase, however they are connected to."""
    with pytest.raises(InvalidPhaseError, match="no outcome"):
        signal.connect(lambda **kwargs: None, phase=phase)
    with pytest.raises(InvalidPhaseError):
        signal(int, phase=phase)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"phase": "later"}, InvalidPhaseError, "after_commit"),
        ({"coalesce": True}, InvalidOptionError, "deferred receivers"),
        ({"timeout_seconds": 1}, InvalidOptionError, "deferred receivers"),
        ({"phase": COMMIT, "timeout_seconds": 0}, InvalidOptionError, "positive"),
        ({"phase": COMMIT, "timeout_seconds": "1"}, InvalidOptionError, "positive"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """With the way out in the message."""
    with pytest.raises(error, match=message):
        post_save.connect(lambda **kwargs: None, sender=int, **options)


def test_options_that_say_what_holds_anyway_are_taken() -> None:
    """A wrapper may pass its own defaults on."""

    def receive(**kwargs: Any) -> None: ...

    post_save.connect(receive, sender=int, coalesce=False, timeout_seconds=None)
    assert [each.receiver for each in post_save.connections] == [receive]


@pytest.mark.parametrize("signal", [m2m_changed, post_bulk_create, post_relation_add], ids=str)
def test_only_signals_of_one_row_coalesce(signal: Signal) -> None:
    """Links and bulk operations differ from send to send."""
    with pytest.raises(InvalidOptionError, match="single rows"):
        signal.connect(lambda **kwargs: None, phase=COMMIT, coalesce=True)


async def test_nothing_waits_without_a_transaction() -> None:
    """A dispatcher without transactions raises an error that says so, and calls no receiver."""
    signal = Signal("waited_for")
    called: list[Any] = []
    signal.connect(lambda **kwargs: called.append(kwargs))
    signal.connect(lambda **kwargs: called.append(kwargs), phase=COMMIT)
    with pytest.raises(NoSessionError, match="session="):
        await signal.send("any sender")
    assert called == []


def test_a_receiver_is_connected_once_per_phase() -> None:
    """Again for the same phase does nothing; a dispatch_uid is one connection in any phase."""
    signal = Signal("waited_for")

    def receiver(**kwargs: Any) -> None: ...

    for phase in (COMMIT, ROLLBACK, "immediate", COMMIT):
        signal.connect(receiver, phase=phase)
        signal.connect(receiver, phase=phase, dispatch_uid="named")
    assert [each.phase for each in signal.connections] == [COMMIT, COMMIT, ROLLBACK, "immediate"]
    assert signal.disconnect(receiver)
    assert [each.dispatch_uid for each in signal.connections] == ["named"]
    assert signal.receivers_for(None) == [receiver]
    assert signal.has_receivers()

"""Connecting a receiver again: ignored, a connection of its own, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from aksara_signals import InvalidOptionError, Signal, post_save
from aksara_signals.testing import restored_signals


class Model: ...


class Child(Model): ...


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with restored_signals():
        yield


@pytest.fixture
def received() -> list[Any]:
    return []


@pytest.fixture
def note(received: list[Any]) -> Any:
    def note(created: Any, **kwargs: Any) -> None:
        received.append(created)

    return note


OPTIONS: list[dict[str, Any]] = [
    {"priority": 1},
    {"exact": True},
    {"weak": True},
    {"concurrent": True},
    {"phase": "after_commit", "coalesce": True},
    {"phase": "after_commit", "timeout_seconds": 5},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_same_options_are_one_connection(options: Any, note: Any) -> None:
    """Equal in every option, however it is spelled, it is ignored."""
    plain = {"phase": options["phase"]} if "phase" in options else {}
    post_save.connect(note, Model, **options)
    post_save.connect(note, Model, **options)
    post_save.connect(note, Child, **plain)
    post_save.connect(note, Child, **plain, priority=0, exact=False, created=None)
    assert [each.sender for each in post_save.connections] == [Model, Child]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_other_options_are_refused(options: Any, note: Any) -> None:
    """Different in an option that is no filter, it is refused, and both are named."""
    option = list(options)[-1]
    plain = {"phase": options["phase"]} if "phase" in options else {}
    for first, second in ((options, plain), (plain, options)):
        with restored_signals():
            post_save.connect(note, Model, **first)
            with pytest.raises(InvalidOptionError) as refused:
                post_save.connect(note, [Child, Model], **second)
            assert len(post_save.connections) == 1  # not to the other sender either
            assert str(refused.value).count(f"{option}=") == 2
            assert "note" in str(refused.value)
            assert "Model" in str(refused.value)
            assert "dispatch_uid" in str(refused.value)
            post_save.connect(note, Model, dispatch_uid="second", **second)
            assert len(post_save.connections) == 2


def test_a_name_is_a_name(note: Any) -> None:
    """A second connection of a dispatch_uid is ignored, whatever its options."""
    post_save.connect(note, Model, dispatch_uid="x")
    post_save.connect(note, Model, dispatch_uid="x", priority=1, created=True)
    [connection] = post_save.connections
    assert (connection.priority, connection.created) == (0, None)


@pytest.mark.parametrize(
    ("filters", "called"),
    [
        ([True], {True: 1, False: 0, None: 0}),
        ([True, False], {True: 1, False: 1, None: 0}),
        ([True, None], {True: 1, False: 1, None: 1}),
        ([None, True], {True: 1, False: 1, None: 1}),
        ([False, True, None], {True: 1, False: 1, None: 1}),
        ([True, True], {True: 1, False: 0, None: 0}),
    ],
)
def test_filters_are_connections_of_their_own(
    filters: Any, called: Any, note: Any, received: list[Any]
) -> None:
    """A receiver is called once if any of its connections lets the send through."""
    for each in filters:
        post_save.connect(note, Model, created=each)
    assert len(post_save.connections) == len(set(filters))
    for created, times in called.items():
        post_save.send_sync(Model, instance=None, created=created)
        assert received == [created] * times
        received.clear()
    assert post_save.receivers_for(Model) == [note]
    assert post_save.has_listeners(Model)
    assert post_save.disconnect(note, Model)
    assert post_save.connections == ()


def test_filters_of_several_senders(note: Any, received: list[Any]) -> None:
    """Reached by a base with one filter and by the class with another, it is called for both."""
    post_save.connect(note, Model, created=True)
    post_save.connect(note, Child, created=False)
    post_save.connect(note, created=True)
    for created in (True, False):
        post_save.send_sync(Child, instance=None, created=created)
        post_save.send_sync(Model, instance=None, created=created)
    assert received == [True, True, False]


def test_a_filter_is_disconnected(note: Any) -> None:
    """disconnect with a filter leaves the other connections; without, it takes out all phases."""
    for phase in ("immediate", "after_commit"):
        post_save.connect(note, Model, created=True, phase=phase)
        post_save.connect(note, Model, created=False, phase=phase)
    post_save.connect(note, Model)
    assert post_save.disconnect(note, Model, created=True)
    assert not post_save.disconnect(note, Model, created=True)
    assert [each.created for each in post_save.connections] == [False, False, None]
    assert post_save.disconnect(note, Model, created=None)
    assert [each.created for each in post_save.connections] == [False, False]
    assert post_save.disconnect(note, Model)
    assert not post_save.has_receivers(Model)


def test_disconnect_knows_filters_only(note: Any) -> None:
    """Another option, or a filter that the signal doesn't have, is refused."""
    with pytest.raises(InvalidOptionError, match="priority="):
        post_save.disconnect(note, Model, priority=1)
    with pytest.raises(InvalidOptionError, match="created="):
        Signal("plain").disconnect(note, Model, created=True)

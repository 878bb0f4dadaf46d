"""What a signal promises to send, and how a receiver's parameters are filled from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aksara_signals import InvalidOptionError, InvalidReceiverError, SignalPayloadError
from aksara_signals.dispatch.receivers.payload import Payload, call_shape

SAVE = Payload(("instance",), ("created", "session"), ("changes",))
BULK = Payload(("instances",), ("session",))
CUSTOM = Payload(("text", "number"))
UNDECLARED = Payload()


def shape(receiver: Callable[..., Any], payload: Payload) -> tuple[tuple[str, ...], set[str]]:
    found = call_shape(receiver, payload, "happened")
    return found.positional, set(found.on_demand)


@pytest.mark.parametrize(
    ("receiver", "payload", "positional"),
    [
        (lambda **k: None, SAVE, ()),
        (lambda sender, instance, **k: None, SAVE, ()),
        (lambda s, **k: None, SAVE, ("sender",)),
        (lambda s, i, **k: None, SAVE, ("sender", "instance")),
        (lambda s, i, created, **k: None, SAVE, ("sender", "instance")),
        (lambda sender, i, **k: None, SAVE, ("sender", "instance")),
        (lambda i, sender, **k: None, SAVE, ("instance",)),
        (lambda s, instance, **k: None, SAVE, ("sender",)),
        (lambda signal, s, **k: None, SAVE, ("signal", "sender")),
        (lambda s, i, m=3, **k: None, SAVE, ("sender", "instance")),
        (lambda s, i, m=3, created=None, **k: None, SAVE, ("sender", "instance")),
        (lambda s, i, /, created, **k: None, SAVE, ("sender", "instance")),
        (lambda created, /, **k: None, SAVE, ("created",)),
        (lambda sender, created, /, instance, **k: None, SAVE, ("sender", "created")),
        (lambda created, *, instance, **k: None, SAVE, ()),
        (lambda s, i, **k: None, BULK, ("sender", "instances")),
        (lambda s, instances, **k: None, BULK, ("sender",)),
        (lambda s, text, **k: None, CUSTOM, ("sender",)),
        (lambda s, i, **k: None, CUSTOM, ("sender", "instance")),
        (lambda text, number, **k: None, CUSTOM, ()),
        (lambda anything, **k: None, UNDECLARED, ()),
        (lambda sender, /, **k: None, UNDECLARED, ("sender",)),
        (lambda instance, sender, /, **k: None, UNDECLARED, ("instance", "sender")),
    ],
)
def test_parameters_are_filled(
    receiver: Any, payload: Payload, positional: tuple[str, ...]
) -> None:
    """By keyword where the names are known; leading other ones take the sender and the instance."""
    assert shape(receiver, payload) == (positional, set())


@pytest.mark.parametrize(
    ("receiver", "payload", "name"),
    [
        (lambda s, i, x, **k: None, SAVE, "x"),
        (lambda created, s, **k: None, SAVE, "s"),
        (lambda sender, instance, x, **k: None, SAVE, "x"),
        (lambda s, i, m=3, *, x, **k: None, SAVE, "x"),
        (lambda *, x, **k: None, SAVE, "x"),
        (lambda s, i, x, **k: None, BULK, "x"),
        (lambda sender, instances, instance, **k: None, BULK, "instance"),
        (lambda x, /, **k: None, UNDECLARED, "x"),
    ],
)
def test_a_parameter_that_nothing_fills_is_refused(
    receiver: Any, payload: Payload, name: str
) -> None:
    """It is named, with what there is instead."""
    with pytest.raises(InvalidReceiverError) as caught:
        shape(receiver, payload)
    assert f"of signal happened has a parameter {name} that nothing fills" in str(caught.value)
    offered = ", ".join(("signal", "sender", *payload.names, "provenance"))
    assert f"the signal sends {offered}:" in str(caught.value)


def test_arguments_on_demand_are_for_who_names_them() -> None:
    """For other receivers they are not computed."""
    assert shape(lambda changes, **k: None, SAVE) == ((), {"changes"})
    assert shape(lambda s, i, changes, **k: None, SAVE) == (("sender", "instance"), {"changes"})
    assert shape(lambda changes, **k: None, UNDECLARED) == ((), set())


@pytest.mark.parametrize(
    ("receiver", "problem"),
    [
        (3, "is not callable"),
        (lambda sender: None, r"must accept \*\*kwargs"),
        (lambda *args: None, r"must accept \*\*kwargs"),
        (type, "has no signature that can be read"),
    ],
)
@pytest.mark.parametrize("payload", [SAVE, UNDECLARED])
def test_what_is_no_receiver_is_refused(receiver: Any, problem: str, payload: Payload) -> None:
    """In words that say what to do."""
    with pytest.raises(InvalidReceiverError, match=f"of signal happened {problem}"):
        call_shape(receiver, payload, "happened")


def test_names_come_in_one_order() -> None:
    """Required ones, optional ones, those on demand."""
    assert SAVE.names == ("instance", "created", "session", "changes")
    assert SAVE.defaults == {"created": None, "session": None}
    assert (SAVE.is_declared, BULK.is_declared, UNDECLARED.is_declared) == (True, True, False)
    assert Payload(optional=("a",)).is_declared


def test_variants_of_a_payload() -> None:
    """Before the fact nothing can wait; further names have defaults."""
    before = SAVE.before_the_fact()
    assert before.names == SAVE.names
    assert (SAVE.can_defer, before.can_defer) == (True, False)
    assert (SAVE.is_of_one_row, before.is_of_one_row) == (True, True)
    assert not Payload(is_of_one_row=False).before_the_fact().is_of_one_row
    more = SAVE.with_defaults({"colour": "red"})
    assert more.names == ("instance", "created", "session", "colour", "changes")
    assert more.defaults == {"created": None, "session": None, "colour": "red"}


def test_names_given_by_a_user() -> None:
    """Each once; what is no name of an argument is refused."""
    assert Payload.of(["a", "b", "a"]).required == ("a", "b")
    assert Payload.of(None).names == ()
    assert Payload.of(SAVE) is SAVE
    with pytest.raises(InvalidOptionError, match="'text' is one string; give a list of names"):
        Payload.of("text")
    for name in ("two words", 3, "sender", "signal", ""):
        with pytest.raises(InvalidOptionError, match="must be the name of an argument"):
            Payload.of(["fine", name])


def test_what_is_wrong_with_what_was_sent() -> None:
    """What is missing, or a name that is taken."""
    with pytest.raises(SignalPayloadError, match=r"sent without number; it declares text, number:"):
        CUSTOM.reject("happened", {"text": "x"})
    with pytest.raises(SignalPayloadError, match="was sent without text, number;"):
        CUSTOM.reject("happened", {})
    with pytest.raises(SignalPayloadError, match="an argument named signal"):
        CUSTOM.reject("happened", {"signal": 1, "text": "x"})

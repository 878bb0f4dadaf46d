"""Signal: connecting and disconnecting receivers, and what becomes of those that die."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from kit.senders import Model, Other, echo
from kit.support import answering

from aksara_signals import (
    InvalidOptionError,
    InvalidReceiverError,
    InvalidSenderError,
    Signal,
    post_delete,
    post_save,
    receiver,
)
from aksara_signals.dispatch.connections import lock, routing
from aksara_signals.dispatch.receivers import identity, naming

# -- connecting and disconnecting -----------------------------------------------------------------


def test_duplicates_are_ignored(signal: Signal) -> None:
    """The same receiver for the same sender is one connection; a uid is its own identity."""

    class Auditor:
        def audit(self, **kwargs: Any) -> None: ...

    auditor = Auditor()
    for _ in range(2):
        signal.connect(auditor.audit, sender=Model)
        signal.connect(echo("x"), dispatch_uid="once")
        signal.connect(auditor.audit, sender=Other)
    assert len(signal.connections) == 3
    assert signal.disconnect(auditor.audit, sender=Model)
    assert not signal.disconnect(auditor.audit, sender=Model)
    assert not signal.disconnect(echo("x"))
    assert signal.disconnect(dispatch_uid="once")
    assert signal.disconnect(auditor.audit, sender=[Model, Other])
    assert signal.connections == ()


def test_disconnect_needs_a_receiver(signal: Signal) -> None:
    """Neither a receiver nor a uid is an error."""
    with pytest.raises(InvalidOptionError):
        signal.disconnect()


def test_connect_decorates_in_every_form(signal: Signal) -> None:
    """connect and the call give back the receiver itself."""
    forms: list[Any] = [
        signal.connect,
        signal.connect(sender=Model),
        signal,
        signal(),
        signal(Model),
        signal(Model, Other),
        signal([Model, Other]),
        signal("Model", priority=3),
        signal(None),
        receiver(signal),
        receiver([signal, Signal()], sender=Model),
    ]
    senders: list[Any] = []
    for form in forms:
        before = len(signal.connections)
        one = echo("x")
        assert form(one) is one
        senders.append([each.sender for each in signal.connections[before:]])
    both = [Model, Other]
    assert senders == [
        [None], [Model], [None], [None], [Model], both, both, ["Model"], [None], [None], [Model]
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [[], Model, [Model], None])
def test_the_receiver_decorator_takes_signals(wrong: Any) -> None:
    """@receiver without a signal is refused."""
    with pytest.raises(InvalidOptionError):
        receiver(wrong)


def test_senders_that_can_not_be(signal: Signal) -> None:
    """An empty list and an empty string are no senders."""
    for wrong in ([], ""):
        with pytest.raises(InvalidSenderError):
            signal.connect(echo("x"), sender=wrong)
    assert signal.connections == ()


@pytest.mark.parametrize(
    "options",
    [{"nonsense": 1}, {"created": True}, {"priority": "high"}, {"dispatch_uid": []}],
)
def test_options_that_can_not_be(signal: Signal, options: Any) -> None:
    """Unknown options, and options that don't fit the signal, are refused at once."""
    for connect in (
        lambda: signal.connect(echo("x"), **options),
        lambda: signal.connect(**options),
        lambda: signal(Model, **options),
    ):
        with pytest.raises(InvalidOptionError):
            connect()
    with pytest.raises(InvalidOptionError):
        post_save.connect(echo("x"), created="yes")
    with pytest.raises(InvalidOptionError):
        post_delete.connect(echo("x"), created=True)


def test_connected_to_restores_what_it_changed(signal: Signal) -> None:
    """Inside it is connected; outside everything is as before, also when it was there already."""
    one = echo("x")
    with signal.connected_to(one, sender=Model) as same:
        assert same is one
        assert signal.has_receivers(Model)
    assert not signal.has_listeners(Model)
    signal.connect(one, sender=Model)
    with signal.connected_to(one, sender=[Model, Other]):
        assert signal.has_receivers(Other)
    assert [each.sender for each in signal.connections] == [Model]
    with signal.connected_to(one, sender=Other):
        signal.disconnect(one, sender=Other)
    assert not signal.has_receivers()


def test_a_connection_shows_its_options(signal: Signal) -> None:
    """A Connection has the receiver, the sender and every option, and can't be changed."""
    one = echo("x")
    signal.connect(one, Model, priority=2, exact=True, concurrent=True, dispatch_uid="u")
    [connection] = signal.connections
    assert (connection.receiver, connection.sender, connection.priority) == (one, Model, 2)
    assert (connection.exact, connection.concurrent, connection.weak) == (True, True, False)
    assert (connection.dispatch_uid, connection.created) == ("u", None)
    assert "echo" in repr(connection)
    with pytest.raises(AttributeError):
        connection.priority = 3


def test_representations() -> None:
    """A signal shows its name, if it has one."""
    assert repr(Signal("paid")) == "<Signal paid>"
    assert repr(Signal()).startswith("<Signal at 0x")
    assert Signal("paid", doc="Money came.").__doc__ == "Money came."


def test_the_adapter_follows_changes(signal: Signal) -> None:
    """It is called when receivers come or go, and only then."""
    seen: list[tuple[Any, bool]] = []
    with answering(connections_changed=lambda payload: seen.append((payload, signal.is_connected))):
        one = signal.connect(echo("x"))
        signal.connect(one)
        signal.disconnect(one)
        signal.disconnect(one)
    assert seen == [(signal.payload, True), (signal.payload, False)]


# -- life and death -------------------------------------------------------------------------------


async def test_references_are_strong_unless_weak(signal: Signal, send: Any) -> None:
    """Lambdas live on; weak receivers, functions and methods alike, go when they die."""

    class Auditor:
        def audit(self, **kwargs: Any) -> str:
            return "audited"

    auditor, function = Auditor(), echo("function")
    signal.connect(lambda **k: "strong")
    signal.connect(auditor.audit, weak=True)
    signal.connect(function, weak=True)
    assert [r for _, r in await send(signal)] == ["strong", "audited", "function"]
    del auditor, function
    gc.collect()
    assert [r for _, r in await send(signal)] == ["strong"]
    assert len(signal.connections) == 1
    signal.connect(echo("swept"))
    assert len(signal._table.index.all) == 2


def test_what_supports_no_weak_references(signal: Signal) -> None:
    """A receiver that can't be referenced weakly is refused with weak=True."""

    class Slotted:
        __slots__ = ()

        def __call__(self, **kwargs: Any) -> None: ...

    with pytest.raises(InvalidReceiverError, match="weak=False"):
        signal.connect(Slotted(), weak=True)
    signal.connect(Slotted())


async def test_dead_senders_take_their_connections_along(signal: Signal, send: Any) -> None:
    """A class made in a test can be collected, and another one at its address sends to no receiver."""

    def make() -> weakref.ref[type]:
        class Short: ...

        signal.connect(echo("x"), sender=Short)
        return weakref.ref(Short)

    reference = make()
    await send(signal, Model)
    gc.collect()
    assert reference() is None
    assert signal.connections == ()
    for _ in range(50):
        assert await send(signal, type("Heir", (), {})) == []


def test_collection_takes_no_lock(signal: Signal) -> None:
    """A receiver may die while this very thread holds the lock of all signals."""
    held = [echo("x")]
    signal.connect(held[0], weak=True)
    with lock._state.lock:
        held.clear()
        gc.collect()
    assert signal.connections == ()


def test_a_dead_receiver_is_in_no_new_plan(signal: Signal) -> None:
    """A weak receiver that died before the first send is passed over."""
    held = [echo("x")]
    signal.connect(held[0], weak=True)
    held.clear()
    gc.collect()
    assert signal.send_sync(Model) == []
    assert not signal.has_receivers(Model)


# -- which receivers and senders are the same -----------------------------------------------------


async def test_addresses_that_collide_are_distinguished(
    signal: Signal, send: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Look-ups go by address and end with a comparison of the live objects."""
    for module in (identity, routing):
        monkeypatch.setattr(module, "id", lambda _: 7, raising=False)
    one, two = echo("one"), echo("two")
    for sender in (Model, Other):
        signal.connect(one, sender=sender)
        signal.connect(two, sender=sender)
    assert len(signal.connections) == 4
    assert [r for _, r in await send(signal, Model)] == ["one", "two"]
    assert signal.disconnect(one, sender=Other)
    assert [r for _, r in await send(signal, Other)] == ["two"]
    assert [r for _, r in await send(signal, Model)] == ["one", "two"]


def test_what_is_the_same(signal: Signal) -> None:
    """Methods of one object are one receiver, of another object another one."""
    first: list[Any] = []
    second: list[Any] = []
    assert identity.same_receiver(first.append, first.append)
    assert not identity.same_receiver(first.append, second.append)
    assert not identity.same_receiver(first.append, first.pop)
    assert not identity.same_receiver(first.append, echo("x"))
    assert identity.receiver_address(first.append) == identity.receiver_address(first.append)
    assert not identity.sender_key(Model).same(identity.sender_key("Model"))
    assert naming.describe_sender(first) == "<list object>"
    assert naming.describe_receiver(None) == "a receiver that is gone"

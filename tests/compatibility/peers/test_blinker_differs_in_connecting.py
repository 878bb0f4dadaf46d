"""Where we connect, and silence, otherwise than blinker: each test shows what both of them do.

``docs/howto/from-blinker.rst`` lists them; the documentation is not built if one is missing there.
"""

from __future__ import annotations

import asyncio
from typing import Any

from kit.peers.dispatchers import AKSARA, BLINKER, Dispatcher, Essay, Notes, OnlyHere, Post, Tag

from aksara_signals import SignalContext

PEERS = [BLINKER, AKSARA]


# -- senders ----------------------------------------------------------------------------------------


def test_none_is_every_sender(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """blinker's ANY; there, None is a sender like others."""
    signal.connect(notes.receiver("received"), None, weak=False)
    peer.send(signal, None)
    assert notes.taken() == ["received"]
    peer.send(signal, Post)
    assert notes.taken() == peer.choose(blinker=[], aksara=["received"])


def test_a_class_stands_for_its_subclasses(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """A class stands for its subclasses here, unless exact=True."""
    peer.connect(signal, notes.receiver("posts"), Post)
    if peer is AKSARA:
        peer.connect(signal, notes.receiver("just posts"), Post, exact=True)
    peer.send(signal, Essay)
    assert notes == peer.choose(blinker=[], aksara=["posts"])


def test_a_string_stands_for_a_class(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """In blinker a string is a string."""
    peer.connect(signal, notes.receiver("posts"), "OnlyHere")
    peer.send(signal, OnlyHere)
    assert notes == peer.choose(blinker=[], aksara=["posts"])


def test_any_number_matches_by_equality(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """In blinker only integers do, and booleans, which are integers."""
    peer.connect(signal, notes.receiver("half"), 0.5)
    peer.send(signal, float("0.5"))
    assert notes == peer.choose(blinker=[], aksara=["half"])


# -- disconnecting ----------------------------------------------------------------------------------


def test_disconnect_undoes_one_connect(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """Without a sender, blinker takes the receiver from all its senders."""
    receiver = notes.receiver("posts")
    peer.connect(signal, receiver, Post)
    peer.disconnect(signal, receiver)
    peer.send(signal, Post)
    assert notes == peer.choose(blinker=[], aksara=["posts"])


def test_disconnect_says_whether_there_was_anything(
    peer: Dispatcher, signal: Any, notes: Notes
) -> None:
    """blinker's gives nothing back."""
    receiver = notes.receiver("once")
    peer.connect(signal, receiver)
    found = peer.disconnect(signal, receiver), peer.disconnect(signal, receiver)
    assert found == peer.choose(blinker=(None, None), aksara=(True, False))


def test_connected_to_undoes_only_what_it_did(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """blinker's disconnects the receiver altogether, also where it was connected before."""
    receiver = notes.receiver("kept")
    peer.connect(signal, receiver, Tag)
    with signal.connected_to(receiver, sender=Post) as given:
        assert given is peer.choose(blinker=None, aksara=receiver)
    peer.send(signal, Tag)
    assert notes == peer.choose(blinker=[], aksara=["kept"])


def test_connect_via_is_a_call(peer: Dispatcher, signal: Any) -> None:
    """@signal.connect_via(sender) is @signal(sender) here."""
    via = signal.connect_via if peer is BLINKER else signal

    @via(Post)
    def receive(sender: Any, **kwargs: Any) -> str:
        return "received"

    assert peer.send(signal, Post) == [(receive, "received")]
    assert peer.send(signal, Tag) == []
    assert hasattr(signal, "connect_via") is peer.choose(blinker=True, aksara=False)


# -- silence, and looking inside --------------------------------------------------------------------


def silence(peer: Dispatcher, signal: Any) -> Any:
    if peer is BLINKER:
        return signal.muted()
    return SignalContext.disable_for(signals=[signal])


async def test_silence_is_for_one_task(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """signal.muted() is SignalContext.disable_for(signals=[signal]), and silences no other task."""
    peer.connect(signal, notes.async_receiver("received"))
    is_silent, is_sent = asyncio.Event(), asyncio.Event()

    async def other() -> None:
        await is_silent.wait()
        await peer.go("asend", signal, Post)
        is_sent.set()

    task = asyncio.create_task(other())
    with silence(peer, signal):
        await peer.go("asend", signal, Post)
        is_silent.set()
        await is_sent.wait()
    await task
    assert notes == peer.choose(blinker=[], aksara=["received"])


def test_silence_nests(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """In blinker the end of the inner block ends the outer one's silence."""
    peer.connect(signal, notes.receiver("received"))
    with silence(peer, signal):
        with silence(peer, signal):
            peer.send(signal, Post)
        peer.send(signal, Post)
    assert notes == peer.choose(blinker=["received"], aksara=[])


def test_what_is_connected_is_looked_up_otherwise(
    peer: Dispatcher, signal: Any, notes: Notes
) -> None:
    """`if signal.receivers` is `if signal.is_connected`, and receivers_for gives a list."""
    peer.connect(signal, notes.receiver("received"), Post)
    assert bool(signal.receivers if peer is BLINKER else signal.is_connected)
    found = signal.receivers_for(Post)
    assert isinstance(found, list) is peer.choose(blinker=False, aksara=True)
    assert hasattr(signal, "receivers") is peer.choose(blinker=True, aksara=False)


def test_has_receivers_counts_the_living(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """blinker still counts a sender whose only receiver was disconnected from it."""
    receiver = notes.receiver("gone")
    peer.connect(signal, receiver, Post)
    peer.connect(signal, receiver, Tag)
    peer.disconnect(signal, receiver, Post)
    has = signal.has_receivers_for if peer is BLINKER else signal.has_receivers
    assert has(Post) is peer.choose(blinker=True, aksara=False)


def test_connections_are_looked_at(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """There are signals receiver_connected and receiver_disconnected; here, the connections."""
    receiver = notes.receiver("received")
    changes: list[str] = []

    def change(*args: Any, **kwargs: Any) -> None:
        changes.append("changed")

    if peer is BLINKER:
        signal.receiver_connected.connect(change)
        signal.receiver_disconnected.connect(change)
    peer.connect(signal, receiver)
    peer.connect(signal, receiver)
    if peer is not BLINKER:
        assert [each.receiver for each in signal.connections] == [receiver]
    peer.disconnect(signal, receiver)
    peer.disconnect(signal, receiver)
    assert len(changes) == peer.choose(blinker=4, aksara=0)

"""What blinker says of its signals, held against blinker's and against ours by one and the same test.

Where the two differ, on purpose, is in ``test_blinker_differs_in_…``.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import blinker
import pytest
from kit.peers.dispatchers import AKSARA, BLINKER, Dispatcher, Notes, Post, Tag

import aksara_signals

PEERS = [BLINKER, AKSARA]
WAYS = ("send", "asend")


# -- signals ----------------------------------------------------------------------------------------


def test_signals_may_be_nameless(peer: Dispatcher, notes: Notes) -> None:
    """Each call of the class makes a signal of its own."""
    one, two = peer.signal(), peer.signal()
    peer.connect(one, notes.receiver("one"))
    peer.send(two, Post)
    assert notes == []


def test_a_named_signal_shows_its_name(peer: Dispatcher) -> None:
    """In its representation."""
    make = peer.choose(blinker=blinker.NamedSignal, aksara=aksara_signals.Signal)
    assert "page_saved" in repr(make("page_saved"))


def test_a_signal_is_documented(peer: Dispatcher) -> None:
    """Its doc is what help() shows."""
    assert peer.signal(doc="A page has been saved.").__doc__ == "A page has been saved."


# -- sending ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_no_receiver_is_connected(peer: Dispatcher, signal: Any, way: str) -> None:
    """A send without receivers returns an empty list."""
    assert await peer.go(way, signal, Post, size=1) == []


def test_receivers_get_sender_and_data(peer: Dispatcher, signal: Any) -> None:
    """The object that sends, and whatever is sent with it by keyword; the answer comes back."""
    seen: list[Any] = []

    def take(sender: Any, **data: Any) -> str:
        data.pop("signal", None)  # ours comes along, as test_blinker_differs_in_sending shows
        seen.append((sender, data))
        return "taken"

    peer.connect(signal, take)
    assert peer.send(signal, "page", size=3, of=[1]) == [(take, "taken")]
    assert seen == [("page", {"size": 3, "of": [1]})]


async def test_async_receivers_are_awaited(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """One after another, by a send that is awaited itself."""
    slow, slower = notes.async_receiver("slow", 1), notes.async_receiver("slower", 2)
    peer.connect(signal, slow)
    peer.connect(signal, slower)
    assert await peer.go("asend", signal, Post) == [(slow, 1), (slower, 2)]
    assert notes == ["slow", "slower"]


@pytest.mark.parametrize("way", WAYS)
async def test_an_error_ends_the_send(
    peer: Dispatcher, signal: Any, notes: Notes, way: str
) -> None:
    """It reaches the caller as it is, and receivers behind it are not called."""

    async def burn(sender: Any, **kwargs: Any) -> None:
        raise ValueError("no flour")

    def fail(sender: Any, **kwargs: Any) -> None:
        raise ValueError("no flour")

    make = notes.receiver if way == "send" else notes.async_receiver
    peer.connect(signal, make("before"))
    peer.connect(signal, fail if way == "send" else burn)
    peer.connect(signal, make("behind"))
    with pytest.raises(ValueError, match="no flour"):
        await peer.go(way, signal, Post)
    assert notes == ["before"]


def test_the_sender_may_be_left_out(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """Receivers of every sender are called with None."""
    seen: list[Any] = []
    peer.connect(signal, lambda sender, **kwargs: seen.append(sender))
    peer.connect(signal, notes.receiver("posts"), Post)
    peer.send(signal)
    assert (seen, notes) == ([None], [])


# -- connecting -------------------------------------------------------------------------------------


def test_connect_decorates(peer: Dispatcher, signal: Any) -> None:
    """It gives the function back."""

    @signal.connect
    def receive(sender: Any, **kwargs: Any) -> str:
        return "received"

    assert peer.send(signal, Post) == [(receive, "received")]


def test_a_receiver_is_called_for_its_sender(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """An object by identity, a string or a number by equality."""
    page = Post()
    peer.connect(signal, notes.receiver("page"), page)
    peer.connect(signal, notes.receiver("word"), "page")
    peer.connect(signal, notes.receiver("number"), 123456789)
    peer.send(signal, page)
    peer.send(signal, str(b"page", "ascii"))
    peer.send(signal, int("123456789"))
    peer.send(signal, Post())
    peer.send(signal, "other")
    assert notes == ["page", "word", "number"]


def test_one_receiver_of_several_senders(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """A receiver disconnected from one of its senders is still called for the others."""
    odd = notes.receiver("odd")
    for number in (1, 3, 5):
        peer.connect(signal, odd, number)
    for number in range(6):
        peer.send(signal, number)
    assert notes.taken() == ["odd"] * 3
    peer.disconnect(signal, odd, 3)
    for number in range(6):
        peer.send(signal, number)
    assert notes.taken() == ["odd"] * 2


def test_a_receiver_reached_twice_is_called_once(
    peer: Dispatcher, signal: Any, notes: Notes
) -> None:
    """Connected to every sender and to this one, it is called once."""
    both = notes.receiver("both")
    peer.connect(signal, both, 123)
    peer.connect(signal, both)
    peer.send(signal, 123)
    assert notes == ["both"]


def test_a_receiver_of_every_sender_is_not_taken_from_one(
    peer: Dispatcher, signal: Any, notes: Notes
) -> None:
    """Disconnecting it from one sender changes nothing."""
    every = notes.receiver("every")
    peer.connect(signal, every)
    peer.disconnect(signal, every, Post)
    peer.send(signal, Post)
    assert notes == ["every"]


def test_disconnecting_a_stranger_is_no_error(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """What was never connected can be disconnected."""
    peer.disconnect(signal, notes.receiver("stranger"))
    peer.disconnect(signal, notes.receiver("stranger"), Post)


def test_receivers_of_a_sender(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """The receivers of this sender and of every sender, as objects and as a yes or no."""
    has = signal.has_receivers_for if peer is BLINKER else signal.has_receivers
    every, posts = notes.receiver("every"), notes.receiver("posts")
    assert has(Post) is has(peer.every) is False
    peer.connect(signal, posts, Post)
    assert (has(Post), has(Tag), has(peer.every)) == (True, False, False)
    peer.connect(signal, every)
    assert (has(Post), has(Tag), has(peer.every)) == (True, True, True)
    assert set(signal.receivers_for(Post)) == {every, posts}
    assert [*signal.receivers_for(Tag)] == [every]


def test_connected_for_a_time(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """Until a with block ends, be it by an error."""
    receiver = notes.receiver("inside")
    with signal.connected_to(receiver, sender=Post):
        peer.send(signal, Post)
        peer.send(signal, Tag)
    with pytest.raises(KeyError), signal.connected_to(receiver):
        raise KeyError
    peer.send(signal, Post)
    assert notes == ["inside"]


# -- references -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["function", "method"])
def test_a_weak_receiver_goes_with_its_owner(
    peer: Dispatcher, signal: Any, notes: Notes, kind: str
) -> None:
    """A weakly held function lives as long as another reference to it, a method as its object."""

    class Reader:
        def read(self, sender: Any, **kwargs: Any) -> None:
            notes.append("read")

    owner: Any = Reader() if kind == "method" else notes.receiver("read")
    peer.connect(signal, owner.read if kind == "method" else owner, weak=True)
    gc.collect()
    peer.send(signal, Post)
    assert notes.taken() == ["read"]
    del owner
    gc.collect()
    assert peer.send(signal, Post) == []
    assert [*signal.receivers_for(Post)] == []


def test_a_strong_receiver_stays(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """With weak=False a receiver lives as long as the signal."""
    peer.connect(signal, notes.receiver("kept"), weak=False)
    gc.collect()
    peer.send(signal, Post)
    assert notes == ["kept"]


def test_a_sender_is_not_kept_alive(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """It takes its connections along, so that none is left under its address."""
    page = Post()
    peer.connect(signal, notes.receiver("page"), page)
    peer.send(signal, page)
    gone = weakref.ref(page)
    del page
    gc.collect()
    assert gone() is None
    left = signal._by_sender.values() if peer is BLINKER else signal.connections
    assert not any(left)


# -- changes while a signal is sent -----------------------------------------------------------------


def test_a_receiver_that_disconnects_itself(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """It runs once, and no receiver behind it is passed over."""

    def once(sender: Any, **kwargs: Any) -> None:
        notes.append("once")
        peer.disconnect(signal, once)

    peer.connect(signal, once)
    peer.connect(signal, notes.receiver("behind"))
    peer.send(signal, Post)
    peer.send(signal, Post)
    assert notes == ["once", "behind", "behind"]


def test_who_is_connected_meanwhile_is_called_next(
    peer: Dispatcher, signal: Any, notes: Notes
) -> None:
    """A send calls only receivers that were connected when it began."""
    coming = notes.receiver("coming")

    def fetch(sender: Any, **kwargs: Any) -> None:
        notes.append("fetch")
        peer.connect(signal, coming)

    peer.connect(signal, fetch)
    peer.send(signal, Post)
    assert notes.taken() == ["fetch"]
    peer.send(signal, Post)
    assert notes.taken() == ["fetch", "coming"]


def test_a_weak_receiver_may_die_in_mid_send(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """It is passed over."""
    owners = [notes.receiver("dies")]

    def kill(sender: Any, **kwargs: Any) -> None:
        owners.clear()
        gc.collect()

    peer.connect(signal, kill)
    peer.connect(signal, owners[0], weak=True)
    peer.send(signal, Post)
    assert notes == []

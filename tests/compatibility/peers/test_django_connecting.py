"""What Django says of connecting and disconnecting, held against its dispatcher and ours alike."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from kit.peers.dispatchers import AKSARA, ASYNC, DJANGO, SYNC, Dispatcher, Notes, Post, Tag

PEERS = [DJANGO, AKSARA]
WAYS = SYNC + ASYNC


# -- connecting -------------------------------------------------------------------------------------


def test_a_receiver_is_called_for_its_sender(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """A receiver of one sender is called for that one only, a receiver without a sender for all."""
    instance = Post()
    peer.connect(signal, notes.receiver("every"))
    peer.connect(signal, notes.receiver("posts"), Post)
    peer.connect(signal, notes.receiver("this"), instance)
    peer.send(signal, Tag)
    assert notes.taken() == ["every"]
    peer.send(signal, Post)
    assert notes.taken() == ["every", "posts"]
    peer.send(signal, instance)
    assert notes.taken() == ["every", "this"]
    peer.send(signal, None)
    assert notes.taken() == ["every"]


@pytest.mark.parametrize("kind", ["function", "method", "object"])
def test_connecting_twice_is_connecting_once(
    peer: Dispatcher, signal: Any, notes: Notes, kind: str
) -> None:
    """For a function, for a method (a new object at each look) and for an object with a call."""

    class Baker:
        def __call__(self, sender: Any, **kwargs: Any) -> None:
            notes.append(kind)

        def bake(self, sender: Any, **kwargs: Any) -> None:
            notes.append(kind)

    baker, function = Baker(), notes.receiver(kind)
    for _ in range(3):
        receiver = {"function": function, "method": baker.bake, "object": baker}[kind]
        peer.connect(signal, receiver)
    assert len(peer.send(signal, Post)) == 1
    assert notes == [kind]


def test_methods_of_two_objects_are_two_receivers(peer: Dispatcher, signal: Any) -> None:
    """Even of objects that are equal."""

    class Baker:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = object.__hash__

        def bake(self, sender: Any, **kwargs: Any) -> Any:
            return id(self)

    one, two = Baker(), Baker()
    peer.connect(signal, one.bake)
    peer.connect(signal, two.bake)
    assert [response for _, response in peer.send(signal, Post)] == [id(one), id(two)]


def test_one_receiver_of_two_senders(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """A receiver is called for both senders, and can be disconnected from one of them alone."""
    both = notes.receiver("both")
    peer.connect(signal, both, Post)
    peer.connect(signal, both, Tag)
    peer.send(signal, Post)
    peer.send(signal, Tag)
    assert notes.taken() == ["both", "both"]
    assert peer.disconnect(signal, both, Post) is True
    peer.send(signal, Post)
    peer.send(signal, Tag)
    assert notes.taken() == ["both"]


def test_a_dispatch_uid_is_taken_once(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """A second receiver under one name is ignored, for one sender; another sender has its own."""
    first, second = notes.receiver("first"), notes.receiver("second")
    peer.connect(signal, first, Post, dispatch_uid="note")
    peer.connect(signal, second, Post, dispatch_uid="note")
    peer.connect(signal, second, Tag, dispatch_uid="note")
    peer.send(signal, Post)
    assert notes.taken() == ["first"]
    peer.send(signal, Tag)
    assert notes.taken() == ["second"]


def test_a_dispatch_uid_is_anything_hashable(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """Such as a tuple, of which an equal one disconnects."""
    peer.connect(signal, notes.receiver("once"), dispatch_uid=("app", 1))
    assert peer.disconnect(signal, dispatch_uid=("app", 2)) is False
    assert peer.disconnect(signal, dispatch_uid=("app", 1)) is True
    assert peer.send(signal, Post) == []


def test_what_has_a_dispatch_uid_is_disconnected_by_it(
    peer: Dispatcher, signal: Any, notes: Notes
) -> None:
    """The receiver alone does not say which connection is meant; the name does, with any receiver."""
    receiver = notes.receiver("kept")
    peer.connect(signal, receiver, Post, dispatch_uid="note")
    assert peer.disconnect(signal, receiver, Post) is False
    assert peer.disconnect(signal, dispatch_uid="note") is False  # of another sender: of all
    assert len(peer.send(signal, Post)) == 1
    assert peer.disconnect(signal, None, Post, dispatch_uid="note") is True
    assert peer.send(signal, Post) == []


def test_one_receiver_under_two_names_is_two_connections(
    peer: Dispatcher, signal: Any, notes: Notes
) -> None:
    """Taking out one name leaves the other connected."""
    receiver = notes.receiver("named")
    peer.connect(signal, receiver, dispatch_uid="a")
    peer.connect(signal, receiver, dispatch_uid="b")
    assert peer.disconnect(signal, dispatch_uid="a") is True
    assert [found for found, _ in peer.send(signal, Post)] == [receiver]


def test_disconnect_says_whether_there_was_anything(
    peer: Dispatcher, signal: Any, notes: Notes
) -> None:
    """It takes out what was connected with the same arguments, once, and nothing else."""
    receiver = notes.receiver("once")
    peer.connect(signal, receiver, Post)
    assert peer.disconnect(signal, receiver) is False
    assert peer.disconnect(signal, receiver, Tag) is False
    assert peer.disconnect(signal, notes.receiver("other"), Post) is False
    assert peer.disconnect(signal, receiver, Post) is True
    assert peer.disconnect(signal, receiver, Post) is False


def test_has_listeners(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """It asks for one sender; without one, for the receivers of every sender only."""
    assert signal.has_listeners() is signal.has_listeners(sender=Post) is False
    receiver = notes.receiver("here")
    peer.connect(signal, receiver, Post)
    assert (signal.has_listeners(), signal.has_listeners(Post), signal.has_listeners(Tag)) == (
        False,
        True,
        False,
    )
    peer.connect(signal, receiver)
    assert signal.has_listeners() is signal.has_listeners(Tag) is True


@pytest.mark.parametrize("several", [list, tuple])
def test_the_receiver_decorator(peer: Dispatcher, notes: Notes, several: Any) -> None:
    """It connects to one signal or to several, with connect's options, and gives the function back."""
    one, two = peer.signal(), peer.signal()

    @peer.receiver(one, sender=Post, weak=False)
    @peer.receiver(several([one, two]), sender=Tag, weak=False, dispatch_uid="by name")
    def note(sender: Any, **kwargs: Any) -> None:
        notes.append(sender)

    assert callable(note)
    for each in (one, two):
        peer.send(each, Post)
        peer.send(each, Tag)
    assert notes == [Post, Tag, Tag]
    assert one.disconnect(sender=Tag, dispatch_uid="by name") is True


# -- references -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["function", "method"])
def test_a_weak_receiver_goes_with_its_owner(
    peer: Dispatcher, signal: Any, notes: Notes, kind: str
) -> None:
    """A weakly held function lives as long as another reference to it, a method as its object."""

    class Baker:
        def bake(self, sender: Any, **kwargs: Any) -> None:
            notes.append("baked")

    owner: Any = Baker() if kind == "method" else notes.receiver("baked")
    peer.connect(signal, owner.bake if kind == "method" else owner, weak=True)
    gc.collect()
    peer.send(signal, Post)
    assert notes.taken() == ["baked"]
    del owner
    gc.collect()
    assert peer.send(signal, Post) == []
    assert signal.has_listeners(Post) is False


def test_a_strong_receiver_stays(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """With weak=False a receiver lives as long as the signal."""
    peer.connect(signal, notes.receiver("kept"), weak=False)
    gc.collect()
    peer.send(signal, Post)
    assert notes == ["kept"]


@pytest.mark.parametrize("options", [{}, {"use_caching": True}], ids=["plain", "caching"])
def test_senders_are_not_kept_alive(peer: Dispatcher, notes: Notes, options: Any) -> None:
    """A class that has sent, and has been connected to, is collected like any other."""
    signal = peer.signal(**options) if peer is DJANGO else peer.signal()

    class Passing:
        pass

    peer.connect(signal, notes.receiver("received"))
    peer.connect(signal, notes.receiver("of it"), Passing)
    peer.send(signal, Passing)
    peer.send(signal, Passing)
    gone = weakref.ref(Passing)
    del Passing
    gc.collect()
    assert gone() is None


# -- changes while a signal is sent -----------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_receivers_that_disconnect_themselves(
    peer: Dispatcher, signal: Any, notes: Notes, way: str
) -> None:
    """Each runs once, no receiver behind it is passed over, and the next send calls none."""

    def once(name: str) -> Any:
        def receiver(sender: Any, **kwargs: Any) -> None:
            notes.append(name)
            peer.disconnect(signal, receiver, Post)

        return receiver

    for name in "abc":
        peer.connect(signal, once(name), Post)
    await peer.go(way, signal, Post)
    assert notes.taken() == ["a", "b", "c"]
    assert await peer.go(way, signal, Post) == []


@pytest.mark.parametrize("way", WAYS)
async def test_a_send_reaches_who_was_there_when_it_began(
    peer: Dispatcher, signal: Any, notes: Notes, way: str
) -> None:
    """Who is disconnected by a receiver before it is still called; who is connected is called next."""
    leaving, coming = notes.receiver("leaving"), notes.receiver("coming")

    def change(sender: Any, **kwargs: Any) -> None:
        notes.append("change")
        peer.disconnect(signal, leaving)
        peer.connect(signal, coming)

    peer.connect(signal, change)
    peer.connect(signal, leaving)
    await peer.go(way, signal, Post)
    assert notes.taken() == ["change", "leaving"]
    await peer.go(way, signal, Post)
    assert notes.taken() == ["change", "coming"]


def test_a_receiver_may_send_the_signal_again(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """A send inside a send calls every receiver, then the outer one goes on."""

    def again(sender: Any, depth: int, **kwargs: Any) -> None:
        notes.append(f"again {depth}")
        if depth:
            peer.send(signal, sender, depth=depth - 1)

    def after(sender: Any, depth: int, **kwargs: Any) -> None:
        notes.append(f"after {depth}")

    peer.connect(signal, again)
    peer.connect(signal, after)
    peer.send(signal, Post, depth=1)
    assert notes == ["again 1", "again 0", "after 0", "after 1"]

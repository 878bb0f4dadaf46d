"""Where our receivers run otherwise than blinker's: each test shows what both of them do.

``docs/howto/from-blinker.rst`` lists them; the documentation is not built if one is missing there.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
from contextlib import nullcontext
from typing import Any

import blinker
import pytest
from kit.peers.dispatchers import AKSARA, BLINKER, Dispatcher, Notes, Post

import aksara_signals
from aksara_signals.exceptions import (
    AsyncReceiverError,
    InvalidOptionError,
    InvalidReceiverError,
)

PEERS = [BLINKER, AKSARA]


# -- signals and their names ------------------------------------------------------------------------


def test_a_name_is_looked_up_not_made(peer: Dispatcher) -> None:
    """blinker.signal(name) makes a signal once and gives it again; a Signal(name) is always new."""
    make = peer.choose(blinker=blinker.signal, aksara=aksara_signals.Signal)
    one, two = make("test_peers_page_saved"), make("test_peers_page_saved")
    assert (one is two) is peer.choose(blinker=True, aksara=False)
    if peer is AKSARA:
        assert aksara_signals.lookup("test_peers_page_saved") is one
        with pytest.raises(AttributeError):
            aksara_signals.lookup("test_peers_no_such_name")


def test_a_signal_is_kept_by_its_module(peer: Dispatcher) -> None:
    """A namespace of blinker's keeps its signals alive; look-up here does not."""
    space = blinker.Namespace()
    make = peer.choose(blinker=space.signal, aksara=aksara_signals.Signal)
    make("test_peers_short_lived")
    gc.collect()
    known = {*space} | {each.name for each in aksara_signals.all_signals()}
    assert ("test_peers_short_lived" in known) is peer.choose(blinker=True, aksara=False)


def test_what_is_given_by_position_is_the_name(peer: Dispatcher) -> None:
    """Signal("x") is documentation in blinker."""
    signal = peer.choose(blinker=blinker.Signal, aksara=aksara_signals.Signal)("x")
    assert (signal.__doc__ == "x") is peer.choose(blinker=True, aksara=False)
    assert getattr(signal, "name", None) == peer.choose(blinker=None, aksara="x")


# -- receivers --------------------------------------------------------------------------------------


def test_references_are_strong_by_default(peer: Dispatcher, signal: Any) -> None:
    """A lambda without another reference goes at once in blinker, and stays here."""
    signal.connect(lambda sender, **kwargs: "received")
    gc.collect()
    responses = [response for _, response in peer.send(signal, Post)]
    assert responses == peer.choose(blinker=[], aksara=["received"])


def test_receivers_accept_any_keyword(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """blinker takes whatever can be called; here **kwargs is required when it is connected."""

    def bare(sender: Any) -> None:
        notes.append("received")

    if peer is AKSARA:
        with pytest.raises(InvalidReceiverError):
            peer.connect(signal, bare)
        return
    peer.connect(signal, bare)
    peer.send(signal, Post)
    assert notes == ["received"]


def test_the_signal_comes_along(peer: Dispatcher, signal: Any) -> None:
    """Receivers are passed the signal here."""
    peer.connect(signal, lambda sender, **kwargs: sorted(kwargs))
    [(_, names)] = peer.send(signal, Post, size=1)
    assert names == peer.choose(blinker=["size"], aksara=["signal", "size"])


def test_the_first_parameter_is_called_sender(peer: Dispatcher, signal: Any) -> None:
    """blinker passes it by position; here another name needs a declared payload, or a slash."""

    def by_another_name(page: Any, **kwargs: Any) -> Any:
        return page

    peer.connect(signal, by_another_name)
    if peer is BLINKER:
        assert peer.send(signal, Post) == [(by_another_name, Post)]
        return
    with pytest.raises(TypeError, match="page"):
        peer.send(signal, Post)
    declared = peer.signal(providing_args=["size"])
    declared.connect(by_another_name)
    assert peer.send(declared, Post, size=1) == [(by_another_name, Post)]


def test_an_error_can_be_collected(peer: Dispatcher, signal: Any) -> None:
    """There is a send_robust here."""
    assert hasattr(signal, "send_robust") is peer.choose(blinker=False, aksara=True)


def test_connecting_again_otherwise_is_refused(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """In blinker the last weak= counts, for all of the receiver's senders."""
    receiver = notes.receiver("kept")
    peer.connect(signal, receiver, weak=True)
    refused: Any = pytest.raises(InvalidOptionError, match="weak")
    with refused if peer is AKSARA else nullcontext():
        peer.connect(signal, receiver, weak=False)
    del receiver, refused
    gc.collect()
    peer.send(signal, Post)
    assert notes == peer.choose(blinker=["kept"], aksara=[])


# -- sending ----------------------------------------------------------------------------------------


def test_send_is_async_and_send_sync_is_not(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """blinker's send and send_async are send_sync and send here."""
    peer.connect(signal, notes.receiver("received"))
    result = signal.send(Post)
    assert inspect.iscoroutine(result) is peer.choose(blinker=False, aksara=True)
    if peer is AKSARA:
        assert asyncio.run(result) == signal.send_sync(Post)
    assert hasattr(signal, "send_async") is peer.choose(blinker=True, aksara=False)


async def test_sync_and_async_receivers_share_a_signal(
    peer: Dispatcher, signal: Any, notes: Notes
) -> None:
    """blinker refuses the other kind unless it is given a wrapper."""
    peer.connect(signal, notes.receiver("plain"))
    if peer is AKSARA:
        peer.connect(signal, notes.async_receiver("slow"))
        await peer.go("asend", signal, Post)
        peer.send(signal, Post)
        assert notes == ["plain", "slow"] * 2
        return
    with pytest.raises(RuntimeError):
        await peer.go("asend", signal, Post)
    other = peer.signal()
    peer.connect(other, notes.async_receiver("slow"))
    with pytest.raises(RuntimeError):
        peer.send(other, Post)


def test_a_sync_send_does_not_wait(peer: Dispatcher, signal: Any) -> None:
    """A RuntimeError in both; here only once a receiver really has to wait."""

    async def wait(sender: Any, **kwargs: Any) -> None:
        await asyncio.sleep(0)

    peer.connect(signal, wait)
    error = peer.choose(blinker=RuntimeError, aksara=AsyncReceiverError)
    with pytest.raises(error):
        peer.send(signal, Post)
    assert issubclass(AsyncReceiverError, RuntimeError)


def test_the_order_is_that_of_connection(peer: Dispatcher) -> None:
    """blinker's is that of a set, unless set_class says otherwise; here it is a promise."""
    assert hasattr(blinker.Signal, "set_class")
    assert blinker.Signal.set_class is set
    if peer is AKSARA:
        signal, notes = peer.signal(), Notes()
        for name in "gacebdf":
            peer.connect(signal, notes.receiver(name), Post if name in "ace" else None)
        peer.send(signal, Post)
        assert "".join(notes) == "gacebdf"


def test_who_is_disconnected_meanwhile_is_still_called(
    peer: Dispatcher, signal: Any, notes: Notes
) -> None:
    """blinker passes over a receiver that one before it has disconnected."""
    leaving = notes.receiver("leaving")
    peer.connect(signal, lambda sender, **kwargs: peer.disconnect(signal, leaving))
    peer.connect(signal, leaving)
    peer.send(signal, Post)
    assert notes == peer.choose(blinker=[], aksara=["leaving"])


def test_the_sender_goes_by_keyword_too(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """In blinker it goes by position only."""
    peer.connect(signal, notes.receiver("received"), Post)
    send = getattr(signal, peer.methods["send"])
    send(sender=Post)
    assert notes == peer.choose(blinker=[], aksara=["received"])

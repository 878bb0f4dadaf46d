"""Where our receivers run otherwise than Django's: each test shows what both of them do.

``docs/reference/coming-from.rst`` lists them; the documentation is not built if one is missing there.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
from typing import Any

import pytest
from kit.peers.dispatchers import AKSARA, ASYNC, DJANGO, Dispatcher, Notes, Post

from aksara_signals.exceptions import AksaraSignalsError, AsyncReceiverError, SignalRecursionError

PEERS = [DJANGO, AKSARA]


def test_the_order_is_that_of_connection(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """Django calls the sync receivers first, whenever they were connected."""
    peer.connect(signal, notes.async_receiver("slow"))
    peer.connect(signal, notes.receiver("plain"))
    peer.send(signal, Post)
    assert notes == peer.choose(django=["plain", "slow"], aksara=["slow", "plain"])


async def test_responses_come_in_that_order_too(
    peer: Dispatcher, signal: Any, notes: Notes
) -> None:
    """Django's asend puts those of sync receivers first, however they were called."""
    peer.connect(signal, notes.async_receiver("slow", 1))
    peer.connect(signal, notes.receiver("plain", 2))
    responses = [response for _, response in await peer.go("asend", signal, Post)]
    assert responses == peer.choose(django=[2, 1], aksara=[1, 2])


@pytest.mark.parametrize("way", ASYNC)
@pytest.mark.parametrize("concurrent", [False, True])
async def test_async_receivers_run_one_after_another(
    peer: Dispatcher, signal: Any, notes: Notes, way: str, concurrent: bool
) -> None:
    """Django gathers them; here only those with concurrent=True run together."""

    def slow(name: str) -> Any:
        async def receiver(sender: Any, **kwargs: Any) -> None:
            notes.append(f"{name} begins")
            await asyncio.sleep(0)
            notes.append(f"{name} ends")

        return receiver

    options = {"concurrent": concurrent} if peer is AKSARA else {}
    peer.connect(signal, slow("a"), **options)
    peer.connect(signal, slow("b"), **options)
    await peer.go(way, signal, Post)
    are_together = notes == ["a begins", "b begins", "a ends", "b ends"]
    assert are_together is peer.choose(django=True, aksara=concurrent)
    assert sorted(notes) == ["a begins", "a ends", "b begins", "b ends"]


async def test_an_error_ends_the_receivers_behind_it(
    peer: Dispatcher, signal: Any, notes: Notes
) -> None:
    """Async receivers behind one that fails go on in Django, and their responses are lost."""

    async def fail(sender: Any, **kwargs: Any) -> None:
        raise ValueError("no flour")

    peer.connect(signal, fail)
    peer.connect(signal, notes.async_receiver("behind"))
    with pytest.raises(ValueError, match="no flour"):
        await peer.go("asend", signal, Post)
    await asyncio.sleep(0)
    assert notes == peer.choose(django=["behind"], aksara=[])


async def test_sync_receivers_run_in_the_callers_thread(peer: Dispatcher, signal: Any) -> None:
    """Django takes them to a thread, away from the event loop."""
    peer.connect(signal, lambda sender, **kwargs: threading.current_thread())
    [(_, thread)] = await peer.go("asend", signal, Post)
    is_same = thread is threading.current_thread()
    assert is_same is peer.choose(django=False, aksara=True)


async def test_a_sync_send_inside_an_event_loop(
    peer: Dispatcher, signal: Any, notes: Notes
) -> None:
    """Django's refuses async receivers there; ours drives those that have nothing to wait for."""
    peer.connect(signal, notes.async_receiver("quick"))
    if peer is DJANGO:
        with pytest.raises(RuntimeError):
            peer.send(signal, Post)
        return
    peer.send(signal, Post)
    assert notes == ["quick"]


def test_a_sync_send_does_not_wait(peer: Dispatcher, signal: Any) -> None:
    """Django's starts an event loop for async receivers; ours refuses what has to wait."""

    async def wait(sender: Any, **kwargs: Any) -> str:
        await asyncio.sleep(0)
        return "waited"

    peer.connect(signal, wait)
    if peer is AKSARA:
        with pytest.raises(AsyncReceiverError):
            peer.send(signal, Post)
        return
    assert [response for _, response in peer.send(signal, Post)] == ["waited"]


class AsyncCall:
    async def __call__(self, sender: Any, **kwargs: Any) -> str:
        return "awaited"


async def answer(sender: Any, **kwargs: Any) -> str:
    return "awaited"


@pytest.mark.parametrize(
    ("receiver", "is_known_to_django"),
    [
        (lambda sender, **kwargs: answer(sender), False),
        (AsyncCall(), False),
        (functools.partial(answer), True),
    ],
    ids=["lambda", "object", "partial"],
)
async def test_whatever_awaitable_is_returned_is_awaited(
    peer: Dispatcher, signal: Any, receiver: Any, is_known_to_django: bool
) -> None:
    """Django awaits what is declared async only, and hands other coroutines back unawaited."""
    peer.connect(signal, receiver)
    [(_, response)] = await peer.go("asend", signal, Post)
    is_awaited = response == "awaited"
    if not is_awaited:
        response.close()
    assert is_awaited is peer.choose(django=is_known_to_django, aksara=True)


def test_a_weak_receiver_may_die_in_mid_send(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """Django holds them all while it sends; here one that has died meanwhile is passed over."""
    owners = [notes.receiver("dies")]

    def kill(sender: Any, **kwargs: Any) -> None:
        owners.clear()
        gc.collect()

    peer.connect(signal, kill)
    peer.connect(signal, owners[0], weak=True)
    peer.send(signal, Post)
    assert notes == peer.choose(django=["dies"], aksara=[])


def test_errors_say_where_they_come_from(peer: Dispatcher, signal: Any) -> None:
    """A note is added here: signal, sender, receiver."""

    def fail(sender: Any, **kwargs: Any) -> None:
        raise ValueError("no flour")

    peer.connect(signal, fail)
    with pytest.raises(ValueError, match="no flour") as caught:
        peer.send(signal, Post)
    found = "fail" in "".join(getattr(caught.value, "__notes__", []))
    assert found is peer.choose(django=False, aksara=True)


def test_endless_recursion_is_cut_short(peer: Dispatcher, signal: Any) -> None:
    """A RecursionError in both; ours comes after 50 sends, and shows the chain."""
    depth = []

    def again(sender: Any, **kwargs: Any) -> None:
        depth.append(sender)
        peer.send(signal, sender)

    peer.connect(signal, again)
    with pytest.raises(RecursionError) as caught:
        peer.send(signal, Post)
    assert (len(depth) == 50) is peer.choose(django=False, aksara=True)
    assert isinstance(caught.value, AksaraSignalsError) is (peer is AKSARA)
    assert issubclass(SignalRecursionError, RecursionError)


def test_a_robust_send_names_any_receiver(
    peer: Dispatcher, signal: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Django's own report fails for an object that is called, which has no name of its own."""

    class Burn:
        def __call__(self, sender: Any, **kwargs: Any) -> None:
            raise ValueError("no flour")

    peer.connect(signal, Burn())
    send = getattr(signal, peer.methods["send_robust"])
    if peer is DJANGO:
        with pytest.raises(AttributeError):
            send(Post)
        return
    [(_, error)] = send(Post)
    assert isinstance(error, ValueError)
    assert "Burn" in caplog.text

"""What Django says of sending, held against its dispatcher and ours by one and the same test.

Where the two differ, on purpose, is in ``test_django_differs_in_…``.
"""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Any

import pytest
from kit.peers.dispatchers import AKSARA, ASYNC, DJANGO, SYNC, Dispatcher, Notes, Post

PEERS = [DJANGO, AKSARA]
WAYS = SYNC + ASYNC


# -- sending ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_no_receiver_is_connected(peer: Dispatcher, signal: Any, way: str) -> None:
    """A send without receivers returns an empty list."""
    assert await peer.go(way, signal, Post, size=1) == []


@pytest.mark.parametrize("way", WAYS)
async def test_a_send_gives_receivers_and_responses(
    peer: Dispatcher, signal: Any, notes: Notes, way: str
) -> None:
    """Each receiver comes back in a pair with what it returned, in the order of connection."""
    first, second = notes.receiver("first", 1), notes.receiver("second", "two")
    peer.connect(signal, first)
    peer.connect(signal, second, Post)
    assert await peer.go(way, signal, Post) == [(first, 1), (second, "two")]
    assert notes == ["first", "second"]


@pytest.mark.parametrize("way", ASYNC)
async def test_async_receivers_are_awaited(
    peer: Dispatcher, signal: Any, notes: Notes, way: str
) -> None:
    """What an async receiver returns stands in its pair, not a coroutine."""
    slow = notes.async_receiver("slow", 5)
    peer.connect(signal, slow)
    assert await peer.go(way, signal, Post) == [(slow, 5)]


@pytest.mark.parametrize("way", SYNC)
def test_async_receivers_are_reached_by_sync_sends(
    peer: Dispatcher, signal: Any, notes: Notes, way: str
) -> None:
    """An async receiver that has nothing to wait for answers a sync send as well."""
    quick = notes.async_receiver("quick", 5)
    peer.connect(signal, quick)
    assert getattr(signal, peer.methods[way])(Post) == [(quick, 5)]


@pytest.mark.parametrize("way", ASYNC)
async def test_sync_and_async_receivers_share_a_signal(
    peer: Dispatcher, signal: Any, notes: Notes, way: str
) -> None:
    """One send reaches both kinds."""
    plain, slow = notes.receiver("plain", 1), notes.async_receiver("slow", 2)
    peer.connect(signal, plain)
    peer.connect(signal, slow)
    assert await peer.go(way, signal, Post) == [(plain, 1), (slow, 2)]


@pytest.mark.parametrize("way", WAYS)
async def test_receivers_get_signal_sender_and_payload(
    peer: Dispatcher, signal: Any, way: str
) -> None:
    """By keyword, whatever the payload holds."""
    seen: list[dict[str, Any]] = []
    peer.connect(signal, lambda **kwargs: seen.append(kwargs))
    await peer.go(way, signal, Post, size=3, toppings=["cheese"])
    assert seen == [{"signal": signal, "sender": Post, "size": 3, "toppings": ["cheese"]}]


@pytest.mark.parametrize("way", WAYS)
async def test_the_sender_goes_by_position_or_keyword(
    peer: Dispatcher, signal: Any, notes: Notes, way: str
) -> None:
    """Both ways of naming the sender reach its receivers."""
    peer.connect(signal, notes.receiver("received"), Post)
    await peer.go(way, signal, Post)
    await peer.go(way, signal, sender=Post)
    assert notes == ["received", "received"]


# -- errors -----------------------------------------------------------------------------------------


def fail(sender: Any, **kwargs: Any) -> None:
    raise ValueError("no flour")


@pytest.mark.parametrize("way", ["send", "asend"])
async def test_an_error_ends_the_send(
    peer: Dispatcher, signal: Any, notes: Notes, way: str
) -> None:
    """It reaches the caller as it is, and receivers behind it are not called."""
    peer.connect(signal, notes.receiver("before"))
    peer.connect(signal, fail)
    peer.connect(signal, notes.receiver("behind"))
    with pytest.raises(ValueError, match="no flour"):
        await peer.go(way, signal, Post)
    assert notes == ["before"]


@pytest.mark.parametrize("way", ["send_robust", "asend_robust"])
async def test_a_robust_send_collects_errors(
    peer: Dispatcher, signal: Any, notes: Notes, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The error, with its traceback, stands for the response, is logged, and the others run."""
    behind = notes.receiver("behind", 7)
    peer.connect(signal, fail)
    peer.connect(signal, behind)
    with caplog.at_level(logging.ERROR, logger=peer.logger):
        [(failed, error), other] = await peer.go(way, signal, Post)
    assert (failed, other) == (fail, (behind, 7))
    assert isinstance(error, ValueError)
    assert error.args == ("no flour",)
    assert isinstance(error.__traceback__, TracebackType)
    [record] = caplog.records
    assert (record.name, record.levelname) == (peer.logger, "ERROR")
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert "fail" in record.getMessage()


async def test_a_robust_send_collects_errors_of_async_receivers(
    peer: Dispatcher, signal: Any, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    """As those of the others."""

    async def burn(sender: Any, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        raise KeyError("oven")

    later = notes.async_receiver("later")
    peer.connect(signal, burn)
    peer.connect(signal, later)
    [(_, error), (_, response)] = await peer.go("asend_robust", signal, Post)
    assert (type(error), response, notes) == (KeyError, None, ["later"])
    assert len(caplog.records) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_no_exception_is_never_collected(
    peer: Dispatcher, signal: Any, way: str
) -> None:
    """A robust send collects what derives from Exception; anything else gets out."""

    class Halt(BaseException):
        pass

    def halt(sender: Any, **kwargs: Any) -> None:
        raise Halt

    peer.connect(signal, halt)
    with pytest.raises(Halt):
        await peer.go(way, signal, Post)


@pytest.mark.parametrize("way", ASYNC)
async def test_cancellation_is_never_collected(peer: Dispatcher, signal: Any, way: str) -> None:
    """A task that is cancelled while receivers run is cancelled, robust or not."""
    entered = asyncio.Event()

    async def wait(sender: Any, **kwargs: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    peer.connect(signal, wait)
    task = asyncio.ensure_future(peer.go(way, signal, Post))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

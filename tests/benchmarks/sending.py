"""Sends, against loops written by hand and against the signals of others."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import peers
from by_hand import PAYLOAD, async_loop, sync_loop
from harness import Comparison, Job, compare
from receivers import receivers

from aksara_signals import Signal

SIZES = {1: 2.2, 10: 1.6, 100: 1.35}
"""Receivers, and the goal of ``await send()`` against a loop written by hand."""

AIOSIGNAL = {10: 1.6, 100: 1.4}
"""The same against aiosignal, which neither filters by sender nor collects responses."""

BATCH = 2000
"""Receivers called between two looks at the clock."""


class Sender:
    """What sends."""


async def empty(sender: Any, **kwargs: Any) -> None:
    """A coroutine that does nothing."""


def repeated(
    loop: asyncio.AbstractEventLoop, once: Callable[[], Awaitable[Any]], times: int
) -> Job:
    """A job that awaits many times inside one run of the loop, which costs too much by itself."""

    async def many() -> None:
        for _ in range(times):
            await once()

    return lambda: loop.run_until_complete(many())


def rows(loop: asyncio.AbstractEventLoop) -> Iterator[Comparison]:
    """The comparisons of sends, in this process: with ``unittest.mock`` or without it."""
    beside = ", ``unittest.mock`` imported" if "unittest.mock" in sys.modules else ""
    instance, signal = PAYLOAD["instance"], Signal()
    yield compare(
        f"``await send()``, no receiver{beside}, against awaiting an empty coroutine",
        1.5,
        ours=repeated(loop, lambda: signal.send(Sender, instance=instance), BATCH),
        reference=repeated(loop, lambda: empty(Sender, instance=instance), BATCH),
        rounds=60,
    )
    for count in SIZES:
        yield _async(loop, count, beside)
    for count in SIZES:
        yield _sync(count, beside)


def _named(count: int, kind: str) -> str:
    return f"{count} {kind}receiver{'s' * (count > 1)}"


def _async(loop: asyncio.AbstractEventLoop, count: int, beside: str) -> Comparison:
    functions, signal = receivers(count), Signal()
    for function in functions:
        signal.connect(function, sender=Sender)
    instance = PAYLOAD["instance"]
    times = max(1, BATCH // count)
    others = peers.async_peers(functions, Sender)
    return compare(
        f"``await send()``, {_named(count, 'async ')}{beside}, against a loop by hand",
        SIZES[count],
        ours=repeated(
            loop,
            lambda: signal.send(Sender, instance=instance, created=True, session=None),
            times,
        ),
        reference=repeated(loop, async_loop(functions, signal, Sender), times),
        peers={name: repeated(loop, once, times) for name, once in others.items()},
        must_beat=("django", "blinker", "ormar", "edgy"),
        at_most={"aiosignal": AIOSIGNAL[count]} if count in AIOSIGNAL else None,
        rounds=60,
    )


def _sync(count: int, beside: str) -> Comparison:
    functions, signal = receivers(count, is_async=False), Signal()
    for function in functions:
        signal.connect(function, sender=Sender)
    instance = PAYLOAD["instance"]
    others = peers.sync_peers(functions, Sender)
    # To be within 1.1 of the best is to be within 1.1 of each.
    limits = dict.fromkeys(others, 1.1 if count == 1 else 1.0) | {"psygnal (compiled)": 1.1}
    return compare(
        f"``send_sync()``, {_named(count, '')}{beside}, against a loop by hand",
        None,
        ours=lambda: signal.send_sync(Sender, instance=instance, created=True, session=None),
        reference=sync_loop(functions, signal, Sender),
        peers=others,
        at_most=limits,
        calls=max(1, BATCH // count),
        rounds=60,
    )

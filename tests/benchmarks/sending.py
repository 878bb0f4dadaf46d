"""Sends, against loops written by hand and against the signals of others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import peers
from harness import Comparison, Job, compare

from aksara_signals import Signal

SIZES = {1: 1.5, 10: 1.3, 100: 1.25}
"""Receivers, and the goal against a loop written by hand."""


class Sender:
    """What sends."""


async def empty(sender: Any, **kwargs: Any) -> None:
    """A coroutine that does nothing."""


def receivers(count: int) -> list[Callable[..., Any]]:
    """As many different async receivers."""

    def make() -> Callable[..., Any]:
        async def receiver(sender: Any, **kwargs: Any) -> None: ...

        return receiver

    return [make() for _ in range(count)]


def sync_receivers(count: int) -> list[Callable[..., Any]]:
    """As many different functions."""

    def make() -> Callable[..., Any]:
        def receiver(sender: Any, **kwargs: Any) -> None: ...

        return receiver

    return [make() for _ in range(count)]


def repeated(
    loop: asyncio.AbstractEventLoop, once: Callable[[], Awaitable[Any]], times: int
) -> Job:
    """A job that awaits many times inside one run of the loop, which costs too much by itself."""

    async def many() -> None:
        for _ in range(times):
            await once()

    return lambda: loop.run_until_complete(many())


def rows(loop: asyncio.AbstractEventLoop) -> Iterator[Comparison]:
    """The comparisons of sends."""
    instance = object()
    signal = Signal()
    yield compare(
        "``await send()``, no receiver, against awaiting an empty coroutine",
        1.5,
        ours=repeated(loop, lambda: signal.send(Sender, instance=instance), 2000),
        reference=repeated(loop, lambda: empty(Sender, instance=instance), 2000),
        rounds=60,
    )
    for count, goal in SIZES.items():
        yield _async(loop, count, goal, instance)
    for count in SIZES:
        yield _sync(count, instance)
    yield _other_senders(loop, instance)


def _async(
    loop: asyncio.AbstractEventLoop, count: int, goal: float, instance: object
) -> Comparison:
    functions = receivers(count)
    signal = Signal()
    for function in functions:
        signal.connect(function, sender=Sender)

    async def by_hand(sender: Any, **payload: Any) -> list[Any]:
        responses = []
        for function in functions:
            response = await function(signal=signal, sender=sender, **payload)
            responses.append((function, response))
        return responses

    times = max(1, 2000 // count)
    others = peers.async_peers(functions, Sender, instance)
    return compare(
        f"``await send()``, {count} async receiver{'s' * (count > 1)}, against a loop by hand",
        goal,
        ours=repeated(loop, lambda: signal.send(Sender, instance=instance), times),
        reference=repeated(loop, lambda: by_hand(Sender, instance=instance), times),
        peers={name: repeated(loop, once, times) for name, once in others.items()},
        must_beat=("django", "blinker", "ormar"),
        at_most={"aiosignal": 1.3} if count > 1 else None,
        rounds=60,
    )


def _sync(count: int, instance: object) -> Comparison:
    functions = sync_receivers(count)
    signal = Signal()
    for function in functions:
        signal.connect(function, sender=Sender)

    def by_hand(sender: Any, **payload: Any) -> list[Any]:
        responses = []
        for function in functions:
            responses.append((function, function(signal=signal, sender=sender, **payload)))
        return responses

    others = peers.sync_peers(functions, Sender, instance)
    return compare(
        f"``send_sync()``, {count} receiver{'s' * (count > 1)}, against a loop by hand",
        None,
        ours=lambda: signal.send_sync(Sender, instance=instance),
        reference=lambda: by_hand(Sender, instance=instance),
        peers=others,
        must_beat=("django", "blinker", "psygnal"),
        calls=max(1, 2000 // count),
        rounds=60,
    )


def _other_senders(loop: asyncio.AbstractEventLoop, instance: object) -> Comparison:
    [function] = receivers(1)
    alone, crowded = Signal(), Signal()
    for signal in (alone, crowded):
        signal.connect(function, sender=Sender)
    others = [type(f"Sender{n}", (), {}) for n in range(10_000)]
    crowded.connect(function, sender=others)
    return compare(
        "a send among 10,000 connections of other senders, against one without them",
        1.03,
        ours=repeated(loop, lambda: crowded.send(Sender, instance=instance), 2000),
        reference=repeated(loop, lambda: alone.send(Sender, instance=instance), 2000),
        rounds=60,
    )

"""How long after the commit a durable receiver is called."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median, quantiles
from time import perf_counter
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from aksara_signals import post_save
from aksara_signals.contrib.outbox import Outbox, Worker
from outbox.results import Result
from outbox.stage import DIALECTS, Place, Stage, Stored, announcing, outbox, with_engine

RATE = 20
"""Commits per second, at which the goals are."""
POLLING, NOTIFIED, WOKEN = "polling", "NOTIFY", "wake() in the same process"

Series = dict[str, dict[int, float]]
"""Name of a line to commits per second to seconds."""


@dataclass(frozen=True)
class Sizes:
    """How many commits, and how fast."""

    rates: tuple[int, ...]
    seconds: float
    """How long each rate is kept up."""
    fewest: int
    """The fewest commits at each rate."""


FULL = Sizes((1, 5, 20, 100), 15, 30)
QUICK = Sizes((20, 100), 4, 30)


def results(stage: Stage, sizes: Sizes, lines: Series) -> Iterator[Result]:
    """The figures of latency.

    Args:
        stage: Where.
        sizes: How many.
        lines: Filled with medians and 99th percentiles over the rate.
    """
    for dialect in DIALECTS:
        for how in (POLLING, NOTIFIED, WOKEN):
            if how == NOTIFIED and dialect == "sqlite":
                continue
            for rate in sizes.rates:
                count = max(sizes.fewest, int(rate * sizes.seconds))
                with stage.empty(dialect) as place:
                    seconds = measure(place, how, rate, count)
                last = quantiles(seconds, n=100)[-1]
                lines.setdefault(f"{dialect}, {how}, median", {})[rate] = median(seconds)
                lines.setdefault(f"{dialect}, {how}, p99", {})[rate] = last
                if rate == RATE:
                    yield from _rows(dialect, how, seconds, last)


def _rows(on: str, how: str, seconds: list[float], last: float) -> Iterator[Result]:
    what = f"from commit to receiver at {RATE} a second, {how}"
    beside = f"min {min(seconds) * 1e3:.3g}, max {max(seconds) * 1e3:.3g} ms"
    goals: tuple[float | None, float | None] = (100, 700) if how == POLLING else (15, None)
    yield Result(f"{what}: median", on, median(seconds) * 1e3, "ms", goals[0], beside=beside)
    yield Result(f"{what}: 99th percentile", on, last * 1e3, "ms", goals[1])


def measure(place: Place, how: str, rate: int, count: int) -> list[float]:
    """Seconds from the return of each commit to the call of the receiver."""
    if how == WOKEN:
        return asyncio.run(with_engine(place, _in_one_process, rate, count))
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=_work, args=(place, how, theirs))
    process.start()
    ours.recv()  # the worker has started
    committed = asyncio.run(with_engine(place, commit_rows, rate, count, _outbox_of(how)))
    ours.send(len(committed))
    called = ours.recv()
    process.join()
    return differences(committed, called)


def differences(committed: dict[int, float], called: dict[int, float]) -> list[float]:
    """Seconds from each commit to its call."""
    # Both are the system's monotonic clock. A worker may be faster than the return of the COMMIT.
    return [max(0.0, called[key] - moment) for key, moment in committed.items()]


def _outbox_of(how: str) -> Outbox:
    return announcing if how == NOTIFIED else outbox


class _Notes:
    """A durable receiver that notes when it is called."""

    def __init__(self) -> None:
        self.called: dict[int, float] = {}

    async def receive(self, event: Any, **kwargs: Any) -> None:
        """Note the time."""
        self.called.setdefault(event.key[0], perf_counter())

    async def wait(self, count: int) -> None:
        """Return once so many calls are noted."""
        while len(self.called) < count:
            await asyncio.sleep(0.05)


async def commit_rows(
    engine: AsyncEngine, rate: int, count: int, target: Outbox
) -> dict[int, float]:
    """Commit single rows at random times, and return when each was committed."""
    target.install()
    with post_save.connected_to(_nothing, sender=Stored, durable="bench.latency"):
        committed = await _commit_all(engine, rate, count)
    target.uninstall()
    await asyncio.sleep(0.1)
    return committed


async def _commit_all(engine: AsyncEngine, rate: int, count: int) -> dict[int, float]:
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    committed: dict[int, float] = {}
    random_ = random.Random(rate)
    due = perf_counter()
    for _ in range(count):
        due += random_.expovariate(rate)
        await asyncio.sleep(max(0.0, due - perf_counter()))
        async with sessions() as session:
            row = Stored(title="x")
            session.add(row)
            await session.commit()
        committed[row.id] = perf_counter()
    return committed


async def _nothing(event: Any, **kwargs: Any) -> None:
    """What stands for the receiver in the process that writes."""


def _work(place: Place, how: str, pipe: Connection) -> None:
    """A process with one worker."""
    notes, target = _Notes(), _outbox_of(how)
    with post_save.connected_to(notes.receive, sender=Stored, durable="bench.latency"):
        target.install()
        asyncio.run(with_engine(place, _run, target, how == NOTIFIED, notes, pipe))


async def _run(
    engine: AsyncEngine, target: Outbox, listens: bool, notes: _Notes, pipe: Connection
) -> None:
    async with Worker(target, async_sessionmaker(engine), listen=listens):
        await asyncio.sleep(0.5 if listens else 0)  # until it listens
        pipe.send(None)
        await notes.wait(await asyncio.to_thread(pipe.recv))
    pipe.send(notes.called)


async def _in_one_process(engine: AsyncEngine, rate: int, count: int) -> list[float]:
    notes = _Notes()
    outbox.install()
    with post_save.connected_to(notes.receive, sender=Stored, durable="bench.latency"):
        async with Worker(outbox, async_sessionmaker(engine)):
            committed = await _commit_all(engine, rate, count)
            await notes.wait(count)
    outbox.uninstall()
    return differences(committed, notes.called)

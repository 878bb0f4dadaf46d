"""How many rows workers run in a second, each in a process of its own."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from time import perf_counter, process_time
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from aksara_signals.contrib.outbox import Worker
from outbox.claiming import store_many
from outbox.results import Result
from outbox.stage import (
    BATCHED,
    DIALECTS,
    DOWN,
    PATIENT,
    SESSION,
    Effect,
    Handmade,
    Place,
    Stage,
    analyze,
    connected,
    outbox,
    with_engine,
)

CONCURRENCY = 8
BY_HAND = "by hand"
SYNCHRONOUS = "synchronous"
LONG = "long"
WARM_UP = 200
"""Rows that are run before, so that statements are compiled and connections open."""

Series = dict[str, dict[int, float]]
"""Name of a line to workers to rows per second."""


@dataclass(frozen=True)
class Sizes:
    """How much is drained."""

    session: int
    batched: int
    in_front: int
    """The rows of the receiver that is down."""
    workers: tuple[int, ...]
    rounds: int
    """How often each is repeated; the best one counts."""


FULL = Sizes(2_000, 12_000, 100_000, (1, 2, 4), 2)
QUICK = Sizes(1_000, 4_000, 5_000, (1, 2), 1)


@dataclass(frozen=True)
class Drain:
    """What became of one drain."""

    rows: int
    seconds: float
    """From the start of the first worker to the end of the last one."""
    cpu_seconds: float
    """Of all workers, without the database's server."""

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.rows / self.seconds

    @property
    def beside(self) -> str:
        """The time of the processor that a row takes."""
        return f"CPU {self.cpu_seconds / self.rows * 1e6:,.0f} µs each"


def results(stage: Stage, sizes: Sizes, lines: Series) -> Iterator[Result]:
    """The figures of workers.

    Args:
        stage: Where.
        sizes: How much.
        lines: Filled with the rates over the number of workers.
    """
    for dialect in DIALECTS:
        yield from _Draining(stage, dialect, sizes, lines).results()


class _Draining:
    """The figures on one database."""

    def __init__(self, stage: Stage, on: str, sizes: Sizes, lines: Series) -> None:
        self._stage = stage
        self._on = on
        self._sizes = sizes
        self._lines = lines

    def results(self) -> Iterator[Result]:
        sizes, on = self._sizes, self._on
        counts = {SESSION: sizes.session, BATCHED: sizes.batched, BY_HAND: sizes.session}
        jobs = {(name, number): counts[name] for number in sizes.workers for name in counts}
        jobs[(PATIENT, 1)] = jobs[(PATIENT, 2)] = sizes.session
        # So many that the first failures, until the breaker opens, are a small part.
        jobs[(DOWN, 1)] = jobs[(LONG, 1)] = sizes.batched * 4
        if on == "sqlite":
            jobs[(SYNCHRONOUS, 1)] = sizes.session
        best: dict[tuple[str, int], Drain] = {}
        for _ in range(sizes.rounds):
            for (name, number), count in jobs.items():
                found = self._drain(name, number, count)
                before = best.get((name, number), found)
                best[(name, number)] = max(before, found, key=lambda each: each.rate)
        for (name, number), found in best.items():
            if number in sizes.workers and name in counts:
                line = f"{on}, {name.removeprefix('bench.')}"
                self._lines.setdefault(line, {})[number] = found.rate
        yield from self._rows(best)

    def _rows(self, best: dict[tuple[str, int], Drain]) -> Iterator[Result]:
        on, is_sqlite = self._on, self._on == "sqlite"
        session, batched, by_hand = best[SESSION, 1], best[BATCHED, 1], best[BY_HAND, 1]

        def rate(what: str, drain: Drain, goal: float | None) -> Result:
            return Result(what, on, drain.rate, "/s", goal, is_least=True, beside=drain.beside)

        def ratio(what: str, ours: Drain, other: Drain, goal: float | None) -> Result:
            return Result(what, on, ours.rate / other.rate, goal=goal, is_least=True)

        yield rate("drain of one worker, with a session", session, 1000)
        if is_sqlite:
            yield rate("the same, each commit waiting for the disk", best[SYNCHRONOUS, 1], None)
        yield rate("drain of one worker, batched", batched, 4000)
        yield ratio("drain, batched against with a session", batched, session, 4)
        yield ratio("drain with a session, against a loop by hand", session, by_hand, None)
        # SQLite has one writer at a time, so a second worker only takes over from the first.
        more = None if is_sqlite else 1.6
        yield ratio("drain with a session, 2 workers against 1", best[SESSION, 2], session, more)
        yield ratio("drain, batched, 2 workers against 1", best[BATCHED, 2], batched, more)
        what = "drain, receivers that wait for 20 ms, 2 workers against 1"
        yield ratio(what, best[PATIENT, 2], best[PATIENT, 1], 1.6)
        what = f"drain, batched, with {self._sizes.in_front:,} rows in front of a receiver that is down"
        yield ratio(f"{what}, against without", best[DOWN, 1], best[LONG, 1], 0.7)

    def _drain(self, name: str, workers: int, count: int) -> Drain:
        in_front = self._sizes.in_front if name == DOWN else 0
        with self._stage.empty(self._on) as place:
            if name == SYNCHRONOUS:
                return drain(replace(place, synchronous="FULL"), SESSION, workers, count, 0)
            name = BATCHED if name in (DOWN, LONG) else name
            return drain(place, name, workers, count, in_front)


def drain(place: Place, name: str, workers: int, count: int, in_front: int) -> Drain:
    """Run rows by so many processes."""
    spawning = multiprocessing.get_context("spawn")
    barrier = spawning.Barrier(workers + 1)
    queue: Any = spawning.SimpleQueue()
    names = (name, DOWN) if in_front else (name,)
    processes = [
        spawning.Process(target=_work, args=(place, names, barrier, queue)) for _ in range(workers)
    ]
    asyncio.run(with_engine(place, _prepare, name, WARM_UP))
    for each in processes:
        each.start()
    barrier.wait(60)  # they are warm
    if in_front:
        asyncio.run(with_engine(place, _prepare, DOWN, in_front))
    asyncio.run(with_engine(place, _prepare, name, count))
    barrier.wait(60)
    found = [queue.get() for _ in processes]
    for each in processes:
        each.join()
    starts, ends, cpu = zip(*found, strict=True)
    return Drain(count, max(ends) - min(starts), sum(cpu))


async def _prepare(engine: AsyncEngine, name: str, count: int) -> None:
    if name != BY_HAND:
        await store_many(engine, (name,), count)
    else:
        async with engine.begin() as connection:
            rows = [{"about": number, "status": 0} for number in range(count)]
            await connection.execute(insert(Handmade).inline(), rows)
    await analyze(engine)


def _work(place: Place, names: tuple[str, ...], barrier: Barrier, queue: Any) -> None:
    """A process with one worker."""
    logging.getLogger("aksara_signals").addHandler(logging.NullHandler())  # one may be down
    with connected():
        queue.put(asyncio.run(with_engine(place, _run, place, names, barrier)))


async def _run(
    engine: AsyncEngine, place: Place, names: tuple[str, ...], barrier: Barrier
) -> tuple[float, float, float]:
    """Start and end, and the processor's time between them."""
    sessions = async_sessionmaker(engine)
    worker = Worker(outbox, sessions, receivers=names, concurrency=CONCURRENCY)

    async def run() -> None:
        if names == (BY_HAND,):
            await _drain_by_hand(sessions, place)
        else:
            await worker.run_until_idle()

    await run()
    gc.collect()
    await asyncio.to_thread(barrier.wait, 60)
    await asyncio.to_thread(barrier.wait, 600)
    start, cpu = perf_counter(), process_time()
    await run()
    return start, perf_counter(), process_time() - cpu


# -- by hand ---------------------------------------------------------------------------------------


async def _drain_by_hand(sessions: async_sessionmaker[AsyncSession], place: Place) -> None:
    """What applications write for themselves: no lanes, retries or leases."""
    tasks = 1 if place.dialect == "sqlite" else CONCURRENCY
    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(_drain_loop(sessions))


async def _drain_loop(sessions: async_sessionmaker[AsyncSession]) -> None:
    wanted = (
        select(Handmade)
        .where(Handmade.status == 0)
        .order_by(Handmade.seq)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    while True:
        async with sessions() as session, session.begin():
            found = (await session.scalars(wanted)).one_or_none()
            if found is None:
                return
            session.add(Effect(about=found.about))
            await session.execute(
                update(Handmade).where(Handmade.seq == found.seq).values(status=1),
                execution_options={"synchronize_session": False},
            )

"""How long a claim takes: by what waits, and after what has gone through."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from aksara_signals.contrib.outbox.rows.breaker import FAILURES_IN_A_ROW, note_failure
from aksara_signals.contrib.outbox.rows.claiming import claim, mark_done
from aksara_signals.contrib.outbox.rows.tables import clock
from outbox.results import Result
from outbox.stage import (
    DIALECTS,
    DOWN,
    SHARES,
    Handmade,
    Place,
    Stage,
    analyze,
    outbox,
    store,
    with_engine,
)

CLAIMED = 200
WORKER = "benchmark"
STORED_AT_ONCE = 10_000
IN_FRONT = 100_000
RETRYING = 10_000


@dataclass(frozen=True)
class Sizes:
    """How much waits, and how much goes through."""

    backlogs: tuple[int, ...]
    in_front: int
    """The rows of the receiver that is down."""
    retrying: int
    through: int
    """How many events go through."""
    backlog: int
    """What waits meanwhile."""
    rounds: int
    """How many claims are timed."""


FULL = Sizes((1_000, 10_000, 100_000, 1_000_000), 100_000, 10_000, 1_000_000, 50_000, 40)
QUICK = Sizes((1_000, 10_000, 50_000), 5_000, 5_000, 50_000, 10_000, 20)

Series = dict[str, dict[int, float]]
"""Name of a line to size to seconds."""


def results(stage: Stage, sizes: Sizes, lines: Series) -> Iterator[Result]:
    """The figures of claims.

    Args:
        stage: Where.
        sizes: How much.
        lines: Filled with the medians over the backlog.
    """
    for dialect in DIALECTS:
        with stage.empty(dialect) as place:
            yield from asyncio.run(with_engine(place, _measure_backlogs, sizes, lines))
        with stage.empty(dialect) as fresh, stage.empty(dialect) as used:
            yield from asyncio.run(with_engine(used, _measure_through, fresh, sizes))


async def _measure_backlogs(engine: AsyncEngine, sizes: Sizes, lines: Series) -> list[Result]:
    on, rounds = engine.dialect.name, sizes.rounds
    await store_many(engine, (DOWN,), sizes.in_front)
    stored, seconds, found = 0, [0.0], []
    ours = lines.setdefault(f"{on}, a claim of {CLAIMED}", {})
    by_hand = lines.setdefault(f"{on}, a loop by hand", {})
    for backlog in sizes.backlogs:
        await store_many(engine, SHARES, backlog - stored, stored)
        await _store_by_hand(engine, backlog - stored)
        await analyze(engine)
        stored = backlog
        seconds = await _time(engine, rounds if backlog > CLAIMED * rounds else 4)
        ours[backlog] = median(seconds)
        by_hand[backlog] = median(await _time_by_hand(engine, 4))
    most = sizes.backlogs[-1]
    found.append(_result(f"a claim of {CLAIMED} from {most:,} that wait", on, seconds, 60))
    by_hand_ratio = Result(
        f"a claim of {CLAIMED} from {most:,} that wait, against a loop by hand",
        on,
        ours[most] / by_hand[most],
    )
    found.append(by_hand_ratio)
    for when, delay in (("none of them due", 3600), ("all of them due", -1)):
        await _retry(engine, sizes.retrying, delay)
        seconds = await _time(engine, rounds)
        what = f"the same, with {sizes.retrying:,} retrying, {when}"
        found.append(_result(what, on, seconds, 150))
    await _open_breaker(engine)
    seconds = await _time(engine, rounds, (*SHARES, DOWN))
    what = f"the same, with one receiver down and {sizes.in_front:,} rows of it in front"
    return [*found, _result(what, on, seconds, 60)]


async def _measure_through(engine: AsyncEngine, fresh: Place, sizes: Sizes) -> list[Result]:
    on, other = engine.dialect.name, fresh.engine()
    for each in (engine, other):
        await store_many(each, SHARES, sizes.backlog)
        await analyze(each)
    for _ in range(sizes.through // 1000):
        async with engine.begin() as connection:
            for name in SHARES:
                await store(connection, name, 1000 // len(SHARES))
        async with engine.begin() as connection:
            seqs = await connection.run_sync(_claimed, SHARES, 1000)
        async with engine.begin() as connection:
            await connection.run_sync(mark_done, outbox.tables, WORKER, seqs)
    after, before = [], []
    for _ in range(sizes.rounds):  # in turn: the machine is not the same ten minutes later
        after += await _time(engine, 1)
        before += await _time(other, 1)
    await other.dispose()
    size = await _size(engine)
    await _pack(engine)
    packed = await _size(engine)
    return [
        Result(
            f"{sizes.through:,} events through and kept: size, against the same rows packed anew",
            on,
            size / packed,
            goal=3,
            beside=f"{size / 1e6:,.0f} MB",
        ),
        Result(
            f"{sizes.through:,} events through: a claim of {CLAIMED}, against a new table",
            on,
            min(after) / min(before),
            goal=1.25,
            beside=f"median {median(after) / median(before):.2f}, {median(after) * 1e3:.3g} ms",
        ),
    ]


def _result(what: str, on: str, seconds: list[float], goal: float) -> Result:
    slow = quantiles(seconds, n=20)[-1]
    beside = f"min {min(seconds) * 1e3:.3g}, p95 {slow * 1e3:.3g} ms"
    return Result(what, on, median(seconds) * 1e3, "ms", goal=goal, beside=beside)


# -- ours ------------------------------------------------------------------------------------------


async def _time(engine: AsyncEngine, rounds: int, names: Sequence[str] = SHARES) -> list[float]:
    """Seconds of each of many claims with their commits; what was claimed is marked as done."""
    taken: list[float] = []
    gc.collect()
    for _ in range(rounds + 1):
        start = perf_counter()
        async with engine.begin() as connection:
            seqs = await connection.run_sync(_claimed, names)
        taken.append(perf_counter() - start)
        async with engine.begin() as connection:
            await connection.run_sync(mark_done, outbox.tables, WORKER, seqs)
    return taken[1:]  # the first one compiles statements


def _claimed(connection: Connection, names: Sequence[str], most: int = CLAIMED) -> list[int]:
    """Claim as a worker does."""
    found = claim(
        connection,
        outbox.tables,
        worker=WORKER,
        limits=dict.fromkeys(names, most // len(SHARES)),
        lease_seconds=600,
        is_busy=False,
    )
    if len(found.rows) < most:
        raise RuntimeError(f"{len(found.rows)} rows were claimed in place of {most}")
    return [row.seq for row in found.rows]


async def store_many(
    engine: AsyncEngine, names: Sequence[str], count: int, stored: int = 0
) -> None:
    """Store rows, the receivers' in turn."""
    each, at_once = count // len(names), STORED_AT_ONCE // len(names)
    for number in range(0, each, at_once):
        async with engine.begin() as connection:
            for name in names:
                first = stored // len(names) + number + 1
                await store(connection, name, min(at_once, each - number), first)


async def _retry(engine: AsyncEngine, count: int, delay_seconds: float) -> None:
    """Let the first rows have failed once."""
    table = tables = outbox.tables.outbox
    is_first = (
        select(table.c.seq)
        .where(table.c.receiver != DOWN, table.c.status == 0)
        .order_by(table.c.seq)
        .limit(count)
        .subquery()
    )
    async with engine.begin() as connection:
        await connection.execute(
            update(tables)
            .where(table.c.seq.in_(select(is_first)))
            .values(attempts=1, visible_at=clock(delay_seconds))
        )


async def _open_breaker(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for _ in range(FAILURES_IN_A_ROW):
            await connection.run_sync(note_failure, outbox.tables, DOWN)


# -- sizes -----------------------------------------------------------------------------------------


async def _size(engine: AsyncEngine) -> int:
    """Bytes of the table with its indexes; on SQLite, of the file."""
    statement = {
        "sqlite": "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
        "postgresql": "SELECT pg_total_relation_size('aksara_outbox')",
        "mariadb": "SELECT file_size FROM information_schema.innodb_sys_tablespaces "
        "WHERE name = concat(database(), '/aksara_outbox')",
    }[engine.dialect.name]
    async with engine.connect() as connection:
        return int((await connection.execute(text(statement))).scalar_one())


async def _pack(engine: AsyncEngine) -> None:
    if engine.dialect.name == "mariadb":
        async with engine.connect() as connection:
            await connection.exec_driver_sql("OPTIMIZE TABLE aksara_outbox")
        return
    statement = "VACUUM FULL aksara_outbox" if engine.dialect.name == "postgresql" else "VACUUM"
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.execute(statement)  # in no transaction


# -- by hand ---------------------------------------------------------------------------------------


async def _store_by_hand(engine: AsyncEngine, count: int) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            insert(Handmade).inline(), [{"about": n, "status": 0} for n in range(count)]
        )


async def _time_by_hand(engine: AsyncEngine, rounds: int) -> list[float]:
    """Seconds of what a loop by hand does: one queue, without lanes or leases."""
    taken: list[float] = []
    wanted = (
        select(Handmade.seq, Handmade.about)
        .where(Handmade.status == 0)
        .order_by(Handmade.seq)
        .limit(CLAIMED)
        .with_for_update(skip_locked=True)
    )
    for _ in range(rounds + 1):
        start = perf_counter()
        async with engine.begin() as connection:
            seqs = (await connection.scalars(wanted)).all()
            await connection.execute(
                update(Handmade).where(Handmade.seq.in_(seqs)).values(status=1)
            )
        taken.append(perf_counter() - start)
    return taken[1:]

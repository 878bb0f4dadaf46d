"""What an event weighs on PostgreSQL: write-ahead log, table, and time under the claims' lock."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from time import perf_counter

from sqlalchemy import Connection, delete, insert
from sqlalchemy.ext.asyncio import AsyncEngine

from aksara_signals.contrib.outbox.message import Message
from aksara_signals.contrib.outbox.rows import inbox
from aksara_signals.contrib.outbox.rows.claiming import claim, mark_done
from aksara_signals.contrib.outbox.rows.upkeep import purge
from outbox.claiming import WORKER, store_many
from outbox.results import Result
from outbox.stage import SESSION, Effect, Stage, analyze, outbox, store, with_engine

ON = "postgresql"


@dataclass(frozen=True)
class Sizes:
    """How many events."""

    events: int
    backlog: int
    """The events among which claims are timed."""


FULL = Sizes(1_000, 40_000)
QUICK = Sizes(400, 10_000)


def results(stage: Stage, sizes: Sizes) -> Iterator[Result]:
    """The figures of volume."""
    with stage.empty(ON) as place:
        yield from asyncio.run(with_engine(place, _measure_log, sizes.events))
    with stage.empty(ON) as place:
        yield from asyncio.run(with_engine(place, _measure_claims, sizes.backlog))


async def _measure_log(engine: AsyncEngine, count: int) -> list[Result]:
    marks = [await _position(engine)]
    for number in range(1, count + 1):
        async with engine.begin() as connection:  # as flushes do: one event, one commit
            await store(connection, SESSION, 1, number)
    marks.append(await _position(engine))
    await analyze(engine)
    claimed: list[list[int]] = []
    at_once = 200
    start = await _position(engine)
    for _ in range(count // at_once):
        async with engine.begin() as connection:
            claimed.append(await connection.run_sync(_claim, at_once))
    parts = {"written": marks[1] - marks[0], "claimed": await _position(engine) - start}
    start = await _position(engine)
    for seqs in claimed:
        async with engine.begin() as connection:
            await connection.run_sync(mark_done, outbox.tables, WORKER, seqs)
    parts["done"] = await _position(engine) - start
    size = await _scalar(engine, f"SELECT pg_total_relation_size('{outbox.tables.outbox.name}')")
    start = await _position(engine)
    async with engine.begin() as connection:
        await connection.run_sync(_purge_all)
    parts["purged"] = await _position(engine) - start
    start = await _position(engine)
    for number in range(count):
        async with engine.begin() as connection:
            await connection.run_sync(_receive, number)
    received = await _position(engine) - start
    start = await _position(engine)
    for number in range(1, count + 1):
        async with engine.begin() as connection:  # as with mode="cdc"
            await store(connection, SESSION, 1, number)
            await connection.execute(delete(outbox.tables.outbox))
    streamed = await _position(engine) - start
    beside = ", ".join(f"{name} {length / count:,.0f}" for name, length in parts.items())
    total = sum(parts.values()) / count
    return [
        Result("write-ahead log of an event in the outbox", ON, total, "B", beside=beside),
        Result("size of an event in the outbox, with indexes", ON, size / count, "B"),
        Result("write-ahead log of an event with mode=cdc", ON, streamed / count, "B"),
        Result("write-ahead log of an effect and its row in the inbox", ON, received / count, "B"),
    ]


async def _measure_claims(engine: AsyncEngine, backlog: int) -> list[Result]:
    await store_many(engine, (SESSION,), backlog)
    await analyze(engine)
    found: dict[int, list[float]] = {200: [], 1_000: []}
    for _ in range(backlog // 1_200):
        for at_once, seconds in found.items():
            start = perf_counter()
            async with engine.begin() as connection:
                seqs = await connection.run_sync(_claim, at_once)
            seconds.append(perf_counter() - start)
            async with engine.begin() as connection:
                await connection.run_sync(mark_done, outbox.tables, WORKER, seqs)
    return [
        Result(
            f"claimed one after another, {at_once:,} rows at once",
            ON,
            at_once / median(seconds),
            "/s",
            beside=f"median {median(seconds) * 1e3:.3g}, min {min(seconds) * 1e3:.3g} ms",
        )
        for at_once, seconds in found.items()
    ]


def _claim(connection: Connection, count: int) -> list[int]:
    found = claim(
        connection,
        outbox.tables,
        worker=WORKER,
        limits={SESSION: count},
        lease_seconds=600,
        is_busy=False,
    )
    if len(found.rows) < count:
        raise RuntimeError(f"{len(found.rows)} rows were claimed in place of {count}")
    return [row.seq for row in found.rows]


def _purge_all(connection: Connection) -> None:
    while purge(connection, outbox.tables, done_seconds=0, dead_seconds=0):
        pass


def _receive(connection: Connection, number: int) -> None:
    """What a transaction of a consumer writes: the effect and the inbox."""
    message = Message(
        id=uuid.uuid4(),
        receiver=SESSION,
        type="post_save",
        aggregatetype="",
        lane=None,
        payload={},
        headers=None,
        version=1,
        generation=0,
        created_at=datetime.now(UTC),
        attempts=0,
    )
    inbox.note(connection, outbox.tables, message)
    connection.execute(insert(Effect).values(about=number))


async def _position(engine: AsyncEngine) -> int:
    """How many bytes the write-ahead log has."""
    return await _scalar(engine, "SELECT pg_current_wal_insert_lsn() - '0/0'")


async def _scalar(engine: AsyncEngine, statement: str) -> int:
    async with engine.connect() as connection:
        return int((await connection.exec_driver_sql(statement)).scalar_one())

"""Leases: heartbeats, rows that are taken over, crashes, clocks that are wrong."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from typing import Any

import pytest
from kit.outbox_workers import (
    DEAD,
    DONE,
    WAITING,
    Effect,
    Note,
    World,
    connect,
    eventually,
    past,
    table,
)
from sqlalchemy import event, literal_column, select, update
from sqlalchemy.orm import Session

from aksara_signals.contrib.outbox import Durable, Retry
from aksara_signals.contrib.outbox.rows.tables import clock

LEASE_SECONDS = 3.0
"""For workers beside each other: a busy machine may hold up a heartbeat, due each second, for two."""


def effect(event: Any) -> Effect:
    return Effect(note_id=event.key[0], by="done")


# -- slower than a lease ----------------------------------------------------------------------------


@pytest.mark.parametrize("names_session", [True, False])
async def test_a_slow_receiver_keeps_its_row_by_heartbeats(
    async_world: World, names_session: bool
) -> None:
    """A receiver that takes longer than its lease is called once, as the lease is extended."""
    calls = 0

    async def work(event: Any) -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(LEASE_SECONDS * 1.5)

    if names_session:

        async def receiver(event: Any, session: Any, **_: Any) -> None:
            await work(event)
            session.add(effect(event))
    else:

        async def receiver(event: Any, **_: Any) -> None:
            await work(event)

    connect(receiver)
    await async_world.write("0")
    if async_world.database.dialect == "sqlite" and names_session:
        pytest.skip("one writer at a time: nobody can claim while a receiver has a session")
    _, others = async_world.make_sessions()
    async with (
        async_world.worker(lease_seconds=LEASE_SECONDS) as one,
        async_world.worker(others, lease_seconds=LEASE_SECONDS) as two,
    ):
        await eventually(lambda: one.health()["done"] + two.health()["done"] == 1, 30)
    assert calls == 1
    assert one.health()["lost_leases"] + two.health()["lost_leases"] == 0


async def test_without_heartbeats_nothing_is_doubled_with_session(async_world: World) -> None:
    """If a row is taken over while its receiver still runs, only one of both is committed."""
    if async_world.database.dialect == "sqlite":
        pytest.skip("one writer at a time: nobody can claim while a receiver has a session")
    calls = 0

    async def receiver(event: Any, session: Any, **_: Any) -> None:
        nonlocal calls
        calls += 1
        session.add(effect(event))
        await session.flush()
        if calls == 1:
            await eventually(is_done, 30)

    async def is_done() -> bool:
        return await async_world.statuses() == [DONE]

    connect(receiver)
    [key] = await async_world.write("0")
    _, others = async_world.make_sessions()
    async with (
        async_world.worker(lease_seconds=LEASE_SECONDS, heartbeat=False) as one,
        async_world.worker(others, lease_seconds=LEASE_SECONDS, heartbeat=False) as two,
    ):
        await eventually(lambda: one.health()["lost_leases"] + two.health()["lost_leases"] == 1, 30)
    assert calls == 2
    assert await async_world.effects() == [(key, "done")]
    assert one.health()["crashes"] + two.health()["crashes"] == 1
    [row] = await async_world.rows()
    assert (row.status, row.crashes, row.attempts) == (DONE, 1, 0)


async def test_a_blocked_event_loop_doubles_nothing_with_session(async_world: World) -> None:
    """If a synchronous receiver blocks the loop longer than the lease, others may take over."""
    world = async_world
    if world.database.dialect == "sqlite":
        pytest.skip("one writer at a time: nobody can claim while a receiver has a session")
    calls = 0

    def receiver(event: Any, session: Any, **_: Any) -> None:
        nonlocal calls
        calls += 1
        session.add(effect(event))
        if calls == 1:
            with world.writes.begin() as other:  # as another worker does meanwhile
                time.sleep(0.5)
                lease = other.execute(table.select().where(table.c.visible_at < clock())).all()
                assert len(lease) == 3, "the leases have run out"
                other.execute(
                    table.update()
                    .where(table.c.seq == row_of(event, lease))
                    .values(leased_by="another", visible_at=clock(60))
                )

    def row_of(event: Any, rows: list[Any]) -> int:
        return next(row.seq for row in rows if row.id == event.id)

    connect(receiver)
    await world.write("0", "1", "2")
    async with world.worker(lease_seconds=0.4, concurrency=1) as worker:
        await eventually(lambda: worker.health()["done"] == 2)
    health = worker.health()
    assert (health["lost_leases"], calls) == (1, 3)
    assert len(await world.effects()) == 2


async def test_queued_rows_that_were_taken_over_are_not_called(async_world: World) -> None:
    """After the event loop was blocked, a row that somebody else has is left to him."""
    world = async_world
    seen: list[str] = []

    def receiver(event: Any, **_: Any) -> None:
        seen.append(event.values["text"])
        if len(seen) == 1:
            time.sleep(0.5)
            with world.writes.begin() as other:
                other.execute(
                    table.update()
                    .where(table.c.seq != 1)
                    .values(leased_by="another", visible_at=clock(60))
                )

    connect(receiver, Durable("test.notes", include=("text",)))
    await world.write("0", "1", "2")
    async with world.worker(lease_seconds=0.4, concurrency=1) as worker:
        await eventually(lambda: worker.health()["lost_leases"] == 2)
        await eventually(lambda: worker.health()["done"] == 1)
    assert seen == ["0"]


async def test_queued_rows_go_back_if_nothing_extends_their_leases(async_world: World) -> None:
    """Without heartbeats, rows whose lease ran out in the queue are given back uncalled."""
    seen: list[Any] = []

    async def receiver(event: Any, **_: Any) -> None:
        seen.append(event.key)
        await asyncio.sleep(0.3)

    connect(receiver)
    await async_world.write("0", "1", "2")
    worker = async_world.worker(lease_seconds=0.25, heartbeat=False, concurrency=1)
    async with worker:
        await eventually(lambda: len(set(seen)) == 3)
    assert worker.health()["released"] >= 1


async def test_an_acknowledgement_that_comes_too_late_is_counted(async_world: World) -> None:
    """Without ``session`` a row that was taken over runs twice; the first success is lost."""

    async def receiver(event: Any, **_: Any) -> None:
        await async_world.change(leased_by="another", visible_at=clock(60))

    connect(receiver)
    await async_world.write("0")
    health = await async_world.drain()
    assert health["lost_leases"] == 1
    assert await async_world.statuses() == [WAITING]


# -- crashes ----------------------------------------------------------------------------------------


async def test_rows_of_a_dead_worker_are_claimed_alone(world: World) -> None:
    """A row whose lease ran out is called with nothing beside it, and counted as a crash."""
    running: set[str] = set()
    beside: dict[str, set[str]] = {}

    async def receiver(event: Any, **_: Any) -> None:
        text = event.values["text"]
        beside[text] = set(running)
        running.add(text)
        await asyncio.sleep(0.05)
        running.discard(text)

    connect(receiver, Durable("test.notes", include=("text",)))
    await world.write("a", "b", "c", "d")
    await world.change(table.c.seq.in_([2, 3]), leased_by="dead", visible_at=past())
    health = await world.drain()
    assert (health["crashes"], health["done"]) == (2, 4)
    assert beside["b"] == beside["c"] == set()
    assert [row.crashes for row in await world.rows()] == [0, 1, 1, 0]


async def test_a_row_that_has_ended_three_workers_is_dead(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The third time that the lease of a row runs out, it is a dead letter, loudly."""

    def receiver(event: Any, **_: Any) -> None:
        raise AssertionError

    connect(receiver)
    await world.write("0")
    await world.change(leased_by="dead", visible_at=past(), crashes=2)
    health = await world.drain()
    assert (health["dead"], health["claimed"]) == (1, 0)
    assert await world.statuses() == [DEAD]
    assert "3 workers have ended" in caplog.text


def write_with_dead_worker(session: Session) -> None:
    """Save two notes; from the beginning, the row of the first one is leased by a dead worker."""
    for text in ("poison", "c"):
        session.add(Note(text=text))
        session.flush()
    of_poison = update(table).where(table.c.seq == 3)
    session.execute(of_poison.values(leased_by="dead", visible_at=past()))


async def test_a_dead_worker_holds_nobody_up_for_long(async_world: World) -> None:
    """A busy worker first finishes what it has, then claims the row alone, then goes on."""
    seen: list[str] = []

    async def receiver(event: Any, **_: Any) -> None:
        seen.append(event.values["text"])
        await asyncio.sleep(0.2)

    connect(receiver, Durable("test.notes", include=("text",)))
    await async_world.write("a", "b")
    async with async_world.worker() as worker:
        await eventually(lambda: len(seen) == 2)
        await async_world.run(write_with_dead_worker)
        await eventually(lambda: worker.health()["done"] == 4)
    assert seen[2:] in (["c", "poison"], ["poison", "c"])


# -- clocks -----------------------------------------------------------------------------------------


async def test_the_clock_of_a_worker_does_not_matter(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose clock is ten minutes off claims, retries and leases as any other."""
    real, wrong = time.time, 600.0

    class WrongDatetime(dt.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return dt.datetime.fromtimestamp(real() + wrong, tz)

    calls: list[int] = []

    async def receiver(event: Any, session: Any, **_: Any) -> None:
        calls.append(event.attempt)
        if event.attempt == 1:
            raise ValueError

    connect(receiver, Durable("test.notes", retry=Retry(first_seconds=60, jitter=0)))
    await world.write("0", "1")
    await world.change(table.c.seq == 2, leased_by="another", visible_at=clock(300))
    monkeypatch.setattr(time, "time", lambda: real() + wrong)
    monkeypatch.setattr(dt, "datetime", WrongDatetime)
    await world.drain()
    assert calls == [1], "the other row is leased, by the clock of the database"
    [row, _] = await world.rows()
    due = await world.run(
        lambda session: session.scalar(
            table.select()
            .with_only_columns(table.c.seq)
            .where(table.c.seq == row.seq, table.c.visible_at < clock(61))
        )
    )
    assert due == row.seq, "a minute later, not eleven"


async def test_a_worker_extends_what_it_has(async_world: World) -> None:
    """One statement extends the leases of all rows that a worker has."""
    is_over = asyncio.Event()

    async def receiver(event: Any, **_: Any) -> None:
        await is_over.wait()

    connect(receiver)
    await async_world.write("0", "1", "2")
    async with async_world.worker(lease_seconds=0.9, concurrency=2) as worker:
        await eventually(lambda: worker.health()["in_flight"] == 3)
        before = [row.visible_at for row in await async_world.rows()]

        async def are_extended() -> bool:
            after = [row.visible_at for row in await async_world.rows()]
            return all(new > old for new, old in zip(after, before, strict=True))

        await eventually(are_extended)
        is_over.set()
        await eventually(lambda: worker.health()["done"] == 3)


# -- isolation on MariaDB ---------------------------------------------------------------------------


def level(session: Session) -> str:
    """The isolation level of the connection of a session."""
    return str(session.scalar(select(literal_column("@@tx_isolation"))))


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
async def test_a_heartbeat_may_change_the_row_of_a_receiver(async_world: World) -> None:
    """Snapshots that are checked, as by default since MariaDB 11.6, don't refuse the mark of its end."""
    levels: list[str] = []

    @event.listens_for(async_world.engine.sync_engine, "connect")
    def check_snapshots(dbapi_connection: Any, _record: object) -> None:
        cursor = dbapi_connection.cursor()
        cursor.execute("SET innodb_snapshot_isolation = ON")
        cursor.close()

    async def slow(event: Any, session: Any, **_: Any) -> None:
        levels.append(await session.run_sync(level))
        await session.get_one(Note, event.key[0])
        await asyncio.sleep(LEASE_SECONDS)
        session.add(effect(event))

    connect(slow)
    (key,) = await async_world.write("x")
    health = await async_world.drain(lease_seconds=LEASE_SECONDS)
    assert (health["done"], health["failed"]) == (1, 0)
    assert await async_world.effects() == [(key, "done")]
    assert levels == ["READ-COMMITTED"]
    async with async_world.sessions() as session:
        found = await session.run_sync(level)
    assert found == "REPEATABLE-READ", "the application's own transactions are as they were"

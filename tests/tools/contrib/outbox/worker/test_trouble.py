"""Workers in trouble: databases that go away, pools, locks, mistakes, and wrong set-ups."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from kit import databases
from kit.claims import begin_immediately
from kit.databases import Database
from kit.outbox_workers import (
    DONE,
    IN_A_MINUTE,
    WAITING,
    Effect,
    Note,
    World,
    connect,
    eventually,
    outbox,
    plain,
    table,
    world_of,
)
from sqlalchemy import create_engine, event, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from aksara_signals.contrib.outbox import Durable, Retry, hooks
from aksara_signals.contrib.outbox.rows import claiming
from aksara_signals.exceptions import InvalidOptionError, OutboxError


def connect_effects(**options: Any) -> Any:
    def receiver(event: Any, session: Any, **_: Any) -> None:
        session.add(Effect(note_id=event.key[0], by="done"))

    return connect(receiver, **options)


# -- connections ------------------------------------------------------------------------------------


async def test_a_pool_of_one_connection(world: World) -> None:
    """A worker never holds a connection while it asks for a second one."""
    _, sessions = world.make_sessions(pool_size=1, max_overflow=0, pool_timeout=20)

    def by_session(instance: Any, session: Any, **_: Any) -> None:
        session.add(Effect(note_id=instance.id, by="session"))

    def by_instance(instance: Any, **_: Any) -> None:
        assert instance.text

    connect(by_session, "test.session")
    connect(by_instance, "test.instance")
    await world.write(*(str(number) for number in range(20)))
    async with asyncio.timeout(30):
        worker = world.worker(sessions, lease_seconds=1)
        await worker.run_until_idle()
    assert worker.health()["done"] == 40
    assert len(await world.effects()) == 20


@pytest.fixture(scope="module")
def own_server() -> Iterator[databases.RestartableServer]:
    with databases.restartable_server() as server:
        yield server


@pytest.fixture(params=["async", "plain"])
async def restartable(
    request: pytest.FixtureRequest, own_server: databases.RestartableServer
) -> AsyncIterator[World]:
    with databases.postgresql_database(own_server.url) as database:
        async with world_of(database, is_async=request.param == "async") as world:
            yield world
            world.plain_engine.dispose()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restart_of_the_database(
    restartable: World,
    own_server: databases.RestartableServer,
    mode: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A worker waits until the database is back, says so once, loses nothing and doubles nothing."""
    world = restartable
    caplog.set_level(logging.WARNING, "aksara_signals.outbox")
    started, may_go_on = asyncio.Event(), asyncio.Event()

    async def by_session(event: Any, session: Any, **_: Any) -> None:
        session.add(Effect(note_id=event.key[0], by="done"))
        started.set()
        await may_go_on.wait()

    async def without(event: Any, **_: Any) -> None:
        await may_go_on.wait()

    connect(by_session, Durable("test.session", retry=Retry(attempts=1, first_seconds=0.1)))
    connect(without, "test.without")
    keys = await world.write("0", "1", "2")
    async with world.worker(lease_seconds=60) as worker:
        await started.wait()
        # The server of the tests writes commits late, for speed; a crash would undo the claim.
        await world.run(lambda session: session.execute(text("CHECKPOINT")) and None)
        await asyncio.to_thread(own_server.restart, mode)
        may_go_on.set()
        world.plain_engine.dispose()
        await eventually(lambda: worker.health()["done"] >= 6, seconds=30)
    assert set(await world.statuses()) == {DONE}
    assert sorted(await world.effects()) == [(key, "done") for key in keys]
    complaints = [each for each in caplog.messages if "can't work with the outbox" in each]
    assert len(complaints) <= 2, complaints


async def test_a_database_that_is_down_at_the_start(
    restartable: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that starts before its database waits for it."""
    world = restartable
    connect_effects()
    await world.write("0")
    engine, sessions = world.make_sessions()
    down = True

    def refuse(*_: Any) -> None:
        if down:
            raise ConnectionRefusedError

    target = engine.sync_engine if world.is_async else engine
    event.listen(target, "do_connect", refuse)
    worker = world.worker(sessions)
    run = asyncio.create_task(worker.run())
    await eventually(lambda: worker.health()["last_error"])
    assert worker.health()["state"] == "starting"
    down = False
    await eventually(lambda: worker.health()["done"] == 1)
    assert worker.health()["last_error"] is None
    worker.stop()
    await run


async def test_a_worker_that_waits_for_its_database_can_be_stopped(async_world: World) -> None:
    """``stop()`` ends a worker whose database is down."""
    connect_effects()
    engine, sessions = async_world.make_sessions()

    def refuse(*_: Any) -> None:
        raise ConnectionRefusedError

    event.listen(engine.sync_engine, "do_connect", refuse)
    worker = async_world.worker(sessions)
    run = asyncio.create_task(worker.run())
    await eventually(lambda: worker.health()["last_error"])
    worker.stop()
    async with asyncio.timeout(10):
        await run


async def test_an_outage_counts_no_attempts(async_world: World) -> None:
    """While no connection is to be had, receivers aren't called, and nothing is counted."""
    world = async_world
    connect_effects(durable=Durable("test.notes", retry=Retry(attempts=1)))
    await world.write("0")
    engine, sessions = world.make_sessions(pool_pre_ping=True)
    is_down = False
    claimed = claiming.claim

    def refuse(*_: Any) -> None:
        if is_down:
            raise ConnectionRefusedError

    def claim_and_go_down(*positional: Any, **named: Any) -> Any:
        nonlocal is_down
        found = claimed(*positional, **named)
        if found.rows and not is_down:
            is_down = True
        return found

    event.listen(engine.sync_engine, "do_connect", refuse)
    event.listen(
        engine.sync_engine, "checkin", lambda connection, record: is_down and record.invalidate()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claiming, "claim", claim_and_go_down)
        async with world.worker(sessions) as worker:
            await eventually(lambda: worker.health()["state"] == "backing off")
            await asyncio.sleep(0.3)
            is_down = False
            patch.undo()
            await world.due_now()
            await eventually(lambda: worker.health()["done"] == 1)
    [row] = await world.rows()
    assert (row.attempts, row.status) == (0, DONE)


# -- SQLite -----------------------------------------------------------------------------------------


async def test_several_workers_and_writers(world: World) -> None:
    """Two workers and four writers at once: each row is called once, and nobody fails."""
    connect_effects()
    _, others = world.make_sessions()

    async def write() -> list[int]:
        return [key for _ in range(8) for key in await world.write("x")]

    async with world.worker() as one, world.worker(others) as two:
        keys = [
            key for found in await asyncio.gather(*(write() for _ in range(4))) for key in found
        ]
        await eventually(lambda: one.health()["done"] + two.health()["done"] == 32, seconds=30)
    assert sorted(await world.effects()) == [(key, "done") for key in sorted(keys)]
    assert one.health()["failed"] + two.health()["failed"] == 0


@pytest.mark.parametrize("is_async", [True, False])
async def test_deferred_transactions_of_sqlite_are_refused(tmp_path: Path, is_async: bool) -> None:
    """A worker doesn't start with SQLite's deferred transactions; the error has the recipe."""
    database = databases.sqlite_database(tmp_path)
    connect_effects()
    engine: Any = database.create_async_engine() if is_async else database.create_sync_engine()
    sessions = async_sessionmaker(engine) if is_async else sessionmaker(engine)
    try:
        with pytest.raises(OutboxError, match="BEGIN IMMEDIATE"):
            await outbox.worker(sessions).run()
    finally:
        if is_async:
            await engine.dispose()
        else:
            engine.dispose()


async def test_a_locked_sqlite_counts_no_attempts(async_world: World) -> None:
    """While another process writes for long, receivers with ``session`` are put off uncounted."""
    world = async_world
    if world.database.dialect != "sqlite":
        pytest.skip("one writer at a time is SQLite's")

    def write_for_long(session: Session) -> None:
        session.execute(text("INSERT INTO unrelated DEFAULT VALUES"))
        time.sleep(0.4)

    connect_effects(durable=Durable("test.notes", retry=Retry(attempts=1)))
    await world.write("0")
    engine = create_async_engine(world.database.async_url, connect_args={"timeout": 0.2})
    begin_immediately(engine.sync_engine)
    try:
        async with world.worker(async_sessionmaker(engine)) as worker:
            for _ in range(3):
                await world.run(write_for_long)
                await asyncio.sleep(0.05)
            await eventually(lambda: worker.health()["done"] == 1)
    finally:
        await engine.dispose()
    [row] = await world.rows()
    assert row.attempts == 0


# -- mistakes ---------------------------------------------------------------------------------------


async def test_a_mistake_in_a_claim_is_survived(
    async_world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the worker's own code fails, it says so once, waits, and goes on."""
    connect_effects()
    claimed, failures = claiming.claim, 0

    def fail(*positional: Any, **named: Any) -> Any:
        nonlocal failures
        if failures < 3:
            failures += 1
            raise ZeroDivisionError("a mistake")
        return claimed(*positional, **named)

    monkeypatch.setattr(claiming, "claim", fail)
    await async_world.write("0")
    async with async_world.worker() as worker:
        await eventually(lambda: worker.health()["done"] == 1)
    assert failures == 3
    assert caplog.text.count("can't work with the outbox") == 1
    assert "goes on" in caplog.text


async def test_a_record_that_cannot_be_written_stops_no_other(
    async_world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If one outcome can't be written, its lease runs out; the others are written."""

    async def receiver(event: Any, **_: Any) -> None:
        if event.values["text"] == "bad":
            raise ValueError

    def fail(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a mistake")

    connect(receiver, Durable("test.notes", include=("text",), retry=IN_A_MINUTE))
    monkeypatch.setattr(claiming, "fail", fail)
    await async_world.write("bad", "good")
    health = await async_world.drain()
    assert health["done"] == 1
    assert "their lease runs out" in caplog.text
    bad, good = await async_world.rows()
    assert (bad.status, bad.leased_by is None, good.status) == (WAITING, False, DONE)


async def test_a_mistake_around_a_call_loses_no_row(
    async_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """If the worker fails beside a call, the rest of the lane is given back, and the row leased."""

    async def receiver(event: Any, **_: Any) -> None:
        return

    def observe(name: str, *_: Any) -> None:
        if name == "duration_seconds":
            raise ZeroDivisionError("a mistake")

    connect(receiver)
    hooks.observers.append(observe)
    try:
        [key] = await async_world.write("0")
        await async_world.edit(key, "1")
        worker = async_world.worker()
        run = asyncio.create_task(worker.run())
        await eventually(lambda: "has failed to run a row" in caplog.text)
        worker.stop()
        await run
    finally:
        hooks.observers.remove(observe)
    assert set(await async_world.statuses()) <= {WAITING, DONE}


# -- the start --------------------------------------------------------------------------------------


async def test_no_receivers(world: World) -> None:
    """A worker that knows no receivers doesn't start; the error says where they are named."""
    # By a name that nothing has: signals of other tests may be alive, with their receivers.
    with pytest.raises(OutboxError, match=r"modules=\['app.receivers'\].* check receivers="):
        await world.worker(receivers=["test.nobody.*"]).run()


async def test_a_missing_table(database: Database) -> None:
    """A worker whose table is missing doesn't start; the error names the migration."""
    connect_effects()
    for is_async in (True, False):
        world = World(database, is_async)
        try:
            with pytest.raises(OutboxError, match="revision --autogenerate"):
                await world.worker().run()
        finally:
            await world.dispose()


async def test_models_in_another_database(async_world: World, tmp_path: Path) -> None:
    """A receiver that names ``session`` must have its model in the database of the outbox."""
    other = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'other.sqlite'}")
    sessions = async_sessionmaker(
        binds={Note: other, Effect: async_world.engine, table: async_world.engine}
    )
    connect_effects()
    try:
        with pytest.raises(OutboxError, match="another database"):
            await async_world.worker(sessions).run()
    finally:
        await other.dispose()


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": True},
        {"batch_size": "many"},
        {"lease_seconds": 0},
        {"lease_seconds": float("nan")},
        {"grace_seconds": -1},
        {"longest_poll_seconds": 0.001},
        {"receivers": "search.*"},
        {"receivers": []},
        {"receivers": [1]},
        {"health_file": 7},
        {"listen": "yes"},
        {"heartbeat": None},
    ],
    ids=str,
)
def test_wrong_options(options: dict[str, Any]) -> None:
    """Options of the wrong kind are refused when the worker is made; the error names them."""
    with pytest.raises(InvalidOptionError, match=next(iter(options)).removesuffix("_seconds")):
        outbox.worker(async_sessionmaker(), **options)


@pytest.mark.parametrize(
    "sessions",
    [lambda: None, lambda **_: 7, sessionmaker(), async_sessionmaker()],
    ids=["takes no options", "makes a number", "unbound", "unbound async"],
)
async def test_wrong_sessions(sessions: Any) -> None:
    """What makes no bound sessions is refused when the worker starts."""
    connect_effects()
    with pytest.raises(InvalidOptionError, match="bound to an engine"):
        await outbox.worker(sessions).run()


# -- health -----------------------------------------------------------------------------------------


async def test_health(world: World, tmp_path: Path) -> None:
    """``health()`` says what a worker does; its file is touched after each claim."""
    import json

    file = tmp_path / "healthy"
    connect_effects()
    worker = world.worker(health_file=file)
    assert worker.health()["state"] == "stopped"
    assert worker.health()["last_claim_seconds_ago"] is None
    async with worker:
        await eventually(file.exists)
        before = file.stat().st_mtime_ns
        await eventually(lambda: file.stat().st_mtime_ns > before)
        await world.write("0")
        await eventually(lambda: worker.health()["done"] == 1)
        health = worker.health()
        assert health["state"] == "running"
        assert 0 <= health["last_claim_seconds_ago"] < 5
        json.dumps(health)
    assert (health["claimed"], health["failed"], health["lost_leases"]) == (1, 0, 0)


async def test_a_worker_that_claims_nothing_for_long_is_healthy(
    async_world: World, tmp_path: Path
) -> None:
    """The file is touched while receivers are slow, and there is no room for another claim."""
    file = tmp_path / "healthy"
    was_touched = asyncio.Event()

    async def receiver(event: Any, **_: Any) -> None:
        file.unlink(missing_ok=True)  # of the claim
        await eventually(file.exists, 30)
        was_touched.set()

    connect(receiver)
    await async_world.write("0", "1", "2")
    options = {"concurrency": 1, "batch_size": 3, "lease_seconds": 0.6}
    async with async_world.worker(health_file=file, **options) as worker:
        await asyncio.wait_for(was_touched.wait(), 10)
        assert worker.health()["claimed"] == 3


async def test_measurements(async_world: World) -> None:
    """Observers are given what happens, by receiver."""
    seen: list[tuple[str, str]] = []

    def observe(name: str, receiver: str, value: float) -> None:
        assert value >= 0
        seen.append((name, receiver))

    def receiver(event: Any, session: Any, **_: Any) -> None:
        if event.attempt == 1:
            raise ValueError

    connect(receiver)
    hooks.observers.append(observe)
    try:
        await async_world.write("0")
        await async_world.drain()
        await async_world.due_now()
        await async_world.drain()
    finally:
        hooks.observers.remove(observe)
    assert {name for name, _ in seen} >= {"claimed", "failed", "done", "duration_seconds"}
    assert {receiver for _, receiver in seen} == {"test.notes"}


# -- an outbox in the receivers' own session --------------------------------------------------------


async def test_a_worker_of_a_savepoint_session(async_world: World) -> None:
    """A plain worker may be bound to one connection, as in a test that rolls back at the end."""
    connect_effects()
    await async_world.write("0")
    engine = async_world.plain_engine
    if async_world.database.dialect == "sqlite":
        engine = create_engine(async_world.database.sync_url)

        @event.listens_for(engine, "connect")
        def own(connection: Any, _: Any) -> None:
            connection.isolation_level = None

        @event.listens_for(engine, "begin")
        def begin(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        async_world.engines.append(engine)
    with engine.connect() as connection:
        transaction = connection.begin()
        sessions = sessionmaker(connection, join_transaction_mode="create_savepoint")
        worker = async_world.worker(sessions)
        await worker.run_until_idle()
        assert worker.health()["done"] == 1
        with sessions() as session:
            assert plain(session).query(Effect).count() == 1
        transaction.rollback()
    assert await async_world.effects() == []
    assert await async_world.statuses() == [WAITING]


async def test_outcomes_wait_for_the_database(
    async_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database is down, outcomes are kept, and written once it is back."""
    is_down = True

    async def receiver(event: Any, **_: Any) -> None:
        if event.values["text"] == "bad":
            raise ValueError

    def refuse(*positional: Any, **named: Any) -> Any:
        if is_down:
            raise ConnectionRefusedError
        return marked(*positional, **named)

    marked = claiming.mark_done
    monkeypatch.setattr(claiming, "mark_done", refuse)
    connect(receiver, Durable("test.notes", include=("text",), retry=IN_A_MINUTE))
    await async_world.write("bad", "good")
    async with async_world.worker() as worker:
        await eventually(lambda: worker.health()["state"] == "backing off")
        await asyncio.sleep(0.5)
        assert await async_world.statuses() == [WAITING, WAITING]
        is_down = False
        await eventually(lambda: worker.health()["in_flight"] == 0)
        await eventually(lambda: worker.health()["state"] == "running")
    assert await async_world.statuses() == [WAITING, DONE]
    assert [row.attempts for row in await async_world.rows()] == [1, 0]


async def test_a_database_that_is_down_at_the_end(
    async_world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that can't give its rows back ends nevertheless, and says so."""
    started = asyncio.Event()

    async def receiver(event: Any, **_: Any) -> None:
        started.set()
        await asyncio.sleep(60)

    def refuse(*_: Any, **__: Any) -> Any:
        raise ConnectionRefusedError

    connect(receiver)
    await async_world.write("0")
    worker = async_world.worker()
    run = asyncio.create_task(worker.run())
    await started.wait()
    monkeypatch.setattr(claiming, "release", refuse)
    monkeypatch.setattr("aksara_signals.contrib.outbox.worker.shift.FAREWELL_SECONDS", 0.3)
    worker.stop(now=True)
    async with asyncio.timeout(10):
        await run
    assert "couldn't give back 1 row" in caplog.text


async def test_a_connection_that_a_receiver_ends_counts_at_last(async_world: World) -> None:
    """A lost connection excuses a row a few times; then it counts as the receiver's failure."""
    world = async_world
    if world.database.dialect != "postgresql":
        pytest.skip("only a server can end a connection")

    async def receiver(event: Any, session: Any, **_: Any) -> None:
        await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    connect(receiver, Durable("test.notes", retry=Retry(attempts=8, first_seconds=60)))
    await world.write("0")
    async with world.worker(longest_poll_seconds=0.05) as running:
        for number in range(1, 5):
            await eventually(lambda number=number: running.health()["failed"] == number)
            await world.due_now()
    [row] = await world.rows()
    assert row.attempts == 1

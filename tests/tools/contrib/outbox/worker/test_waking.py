"""How workers learn of new rows: by the same process, by PostgreSQL, by polling."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from kit.databases import Database
from kit.outbox_workers import DONE, Note, World, connect, eventually, outbox, world_of
from sqlalchemy import event as events
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from aksara_signals.contrib.outbox.notifying import Notifier
from aksara_signals.contrib.outbox.rows import claiming
from aksara_signals.contrib.outbox.worker.waking import Listener, Wake, channel_of

SLOW = {"shortest_poll_seconds": 30.0, "longest_poll_seconds": 30.0}
"""Polling that no test waits for."""


async def is_done(world: World) -> bool:
    return await world.statuses() == [DONE]


def connect_nothing() -> None:
    async def receiver(event: Any, **_: Any) -> None:
        return

    connect(receiver)


# -- in one process ---------------------------------------------------------------------------------


async def test_a_commit_in_the_same_process_wakes_the_worker(world: World) -> None:
    """A worker doesn't wait for its next poll if rows are committed in its own process."""
    connect_nothing()
    async with world.worker(**SLOW) as worker:
        await eventually(lambda: worker.health()["last_claim_seconds_ago"] is not None)
        await world.write("0")  # in a thread
        await eventually(lambda: is_done(world))


async def test_a_commit_by_an_async_session_wakes_the_worker(async_world: World) -> None:
    """The same by an AsyncSession of the worker's own loop."""
    connect_nothing()
    async with async_world.worker(**SLOW) as worker:
        await eventually(lambda: worker.health()["last_claim_seconds_ago"] is not None)
        async with AsyncSession(async_world.engine) as session:
            session.add(Note(text="0"))
            await session.commit()
        await eventually(lambda: is_done(async_world))


async def test_a_rollback_wakes_nobody(async_world: World) -> None:
    """Rows that were rolled back don't wake workers, of course."""
    connect_nothing()
    woken: list[bool] = []
    wake = lambda: woken.append(True)  # noqa: E731
    outbox.add_waker(wake)
    try:
        async with AsyncSession(async_world.engine) as session:
            session.add(Note(text="0"))
            await session.flush()
            await session.rollback()
            assert woken == []
            session.add(Note(text="0"))
            await session.commit()
    finally:
        outbox.remove_waker(wake)
    assert woken == [True]


async def test_any_thread_may_wake(async_world: World) -> None:
    """``wake()`` may be called by any thread, at any time."""
    connect_nothing()
    worker = async_world.worker(**SLOW)
    worker.wake()  # nothing runs yet
    async with worker:
        await eventually(lambda: worker.health()["last_claim_seconds_ago"] is not None)
        before = worker.health()["last_claim_seconds_ago"]
        thread = threading.Thread(target=worker.wake)
        thread.start()
        thread.join()
        await asyncio.sleep(0.3)
        assert worker.health()["last_claim_seconds_ago"] < before + 0.3
    worker.wake()


async def test_no_wake_up_is_lost(async_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit between a claim that finds nothing and the wait for the next one is noticed."""
    connect_nothing()
    claimed, number = claiming.claim, 0

    def write_afterwards(*positional: Any, **named: Any) -> Any:
        nonlocal number
        found = claimed(*positional, **named)
        number += 1
        if number == 2:
            assert not found.rows
            # The claim is over, as far as it sees; its transaction is not.
            loop.call_soon_threadsafe(lambda: tasks.append(asyncio.ensure_future(write())))
        return found

    async def write() -> None:
        await async_world.write("0")

    loop = asyncio.get_running_loop()
    tasks: list[Any] = []
    monkeypatch.setattr(claiming, "claim", write_afterwards)
    async with async_world.worker(shortest_poll_seconds=0.1, longest_poll_seconds=60.0) as worker:
        await eventually(lambda: number >= 2)
        await eventually(lambda: is_done(async_world))
        assert worker.health()["done"] == 1
    await asyncio.gather(*tasks)


async def test_a_wake_that_comes_before_the_wait() -> None:
    """What is set between clearing and waiting ends the wait at once."""
    wake = Wake()
    wake.clear()
    wake.set()
    start = time.monotonic()
    await wake.pause(10)
    assert time.monotonic() - start < 5
    wake.clear()
    await wake.pause(0.01)
    await wake.pause(-1)


async def test_polling_finds_what_nobody_announces(world: World) -> None:
    """Rows of other processes are found by polling."""
    connect_nothing()
    async with world.worker(longest_poll_seconds=0.2):
        wakers = list(outbox._wakers)
        outbox._wakers.clear()
        try:
            await world.write("0")
            await eventually(lambda: is_done(world))
        finally:
            outbox._wakers.extend(wakers)


# -- PostgreSQL -------------------------------------------------------------------------------------


@pytest.fixture(params=["asyncpg", "psycopg async", "psycopg"])
async def listening(request: pytest.FixtureRequest, postgresql_server: Any) -> AsyncIterator[World]:
    """A world on PostgreSQL, by each driver that can listen."""
    from kit.databases import postgresql_database

    with postgresql_database(postgresql_server) as database:
        async with world_by(database, request.param) as world:
            yield world


@contextmanager
def no_wakers() -> Iterator[None]:
    """As if the writer were another process."""
    written = outbox.written
    outbox.written = lambda *_: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        outbox.written = written  # type: ignore[method-assign]


def world_by(database: Database, kind: str) -> Any:
    if kind != "psycopg async":
        return world_of(database, is_async=kind == "asyncpg")
    return _psycopg_world(database)


@asynccontextmanager
async def _psycopg_world(database: Database) -> AsyncIterator[World]:
    from sqlalchemy.ext.asyncio import async_sessionmaker

    async with world_of(database, is_async=False) as world:
        engine = create_async_engine(
            database.sync_url, connect_args={"options": f"-csearch_path={database.schema}"}
        )
        world.engines.append(engine)
        world.engine, world.sessions, world.is_async = engine, async_sessionmaker(engine), True
        yield world


async def test_workers_listen(listening: World) -> None:
    """With ``listen=True`` a NOTIFY of another process wakes the worker."""
    connect_nothing()
    with no_wakers():
        async with listening.worker(listen=True, **SLOW) as worker:
            await eventually(lambda: worker.health()["last_claim_seconds_ago"] is not None)
            await asyncio.sleep(0.5)  # it listens by now
            await listening.write("0")
            notify = text(f"NOTIFY {channel_of(outbox.tables)}")
            await listening.run(lambda session: session.execute(notify) and None)
            await eventually(lambda: is_done(listening))


async def test_a_listener_connects_again(listening: World) -> None:
    """A listener whose connection is lost connects again, and looks at what it has missed."""
    woken: list[float] = []
    engine = getattr(listening.engine, "sync_engine", listening.engine)
    listener = Listener(engine, outbox.tables, lambda: woken.append(time.monotonic()))
    listener.start()
    try:
        await eventually(lambda: woken)
        kill = text(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            f"WHERE query ILIKE 'LISTEN%{channel_of(outbox.tables)}%'"
        )
        killed = await listening.run(lambda session: session.scalar(kill))
        assert killed >= 1
        await eventually(lambda: len(woken) > 1)
    finally:
        await listener.stop()


async def test_commits_are_announced_once(listening: World) -> None:
    """Many commits within a moment are one NOTIFY, on a connection of its own.

    Of a plain engine's, the first may be announced by a thread while the others still commit.
    """
    notifier = Notifier(outbox.tables)
    engine = getattr(listening.engine, "sync_engine", listening.engine)
    statements: list[str] = []
    woken: list[bool] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    listener = Listener(engine, outbox.tables, lambda: woken.append(True))
    listener.start()
    try:
        await eventually(lambda: woken)
        events.listen(engine, "before_cursor_execute", note)
        for _ in range(50):
            notifier.notify(engine)
        await eventually(lambda: len(woken) >= 2)
        await asyncio.sleep(0.2)
        count = len(woken)
        assert count - 1 in ({1} if listening.is_async else {1, 2})
        assert statements == [], "not on the engine of the application"
        notifier.notify(engine)
        await eventually(lambda: len(woken) == count + 1)
        await asyncio.sleep(1.5)  # its connection is closed meanwhile
        notifier.notify(engine)
        await eventually(lambda: len(woken) == count + 2)
        await asyncio.sleep(1.5)
    finally:
        await listener.stop()


async def test_an_outbox_that_notifies(listening: World) -> None:
    """``Outbox(notify=True)`` announces commits; without it nothing is announced."""
    from sqlalchemy import MetaData

    from aksara_signals.contrib.outbox import Outbox

    loud = Outbox(MetaData(), notify=True)
    woken: list[bool] = []
    engine = getattr(listening.engine, "sync_engine", listening.engine)
    listener = Listener(engine, loud.tables, lambda: woken.append(True))
    listener.start()
    try:
        await eventually(lambda: woken)
        session: Any = listening.sessions()
        plain = getattr(session, "sync_session", session)
        if listening.is_async:
            async with session, session.begin():
                await session.connection()
                loud.written(plain, engine)
        else:
            with session, session.begin():
                session.connection()
                loud.written(plain, engine)
        await eventually(lambda: len(woken) == 2)
        await asyncio.sleep(1.5)
    finally:
        await listener.stop()


async def test_sqlite_has_no_notifications(
    async_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """With another database, ``listen=True`` says that it polls, and NOTIFY is left out."""
    connect_nothing()
    if async_world.database.dialect != "sqlite":
        pytest.skip("PostgreSQL has them")
    Notifier(outbox.tables).notify(async_world.engine.sync_engine)
    await async_world.write("0")
    worker = async_world.worker(listen=True)
    await worker.run_until_idle()
    assert worker.health()["done"] == 1
    assert "can't listen" in caplog.text

"""Every way in which a transaction ends: the table of ``docs/explanation/outcome.rst`` is made here.

``AKSARA_UPDATE_DOCS=1`` writes the table anew.
"""

from __future__ import annotations

import asyncio
import csv
import gc
import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from kit.committing import failing_commit
from kit.databases import Database, server_for_two_phases
from kit.models import Base, Post
from sqlalchemy import URL, MetaData, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session

from aksara_signals import Signal, drain, post_save
from aksara_signals.contrib.outbox import Outbox
from aksara_signals.orm import on_commit

TABLE = Path(__file__).parents[4] / "docs" / "explanation" / "commit-paths.csv"
HEADER = ["path", "receivers that wait for", "and run"]
RETURNED = "before it returns"


@pytest.fixture(scope="module")
def postgresql_server(postgresql_server: URL) -> Iterator[URL]:
    """A server that prepares transactions."""
    with server_for_two_phases(postgresql_server) as url:
        yield url


class World:
    """A database, and what receivers got so far."""

    def __init__(self, database: Database, engine: AsyncEngine) -> None:
        self.database = database
        self.engine = engine
        self.sessions = async_sessionmaker(engine)
        self.received: list[str] = []
        self.done: list[str] = []

    def returned(self) -> None:
        """The call that ends the transaction has returned, or raised."""
        self.received += ["|"]


Way = Callable[[World], Awaitable[None]]
WAYS: dict[str, Way] = {}
NEEDS_TWO_PHASES: set[str] = set()


def way(text: str, *, two_phases: bool = False) -> Callable[[Way], Way]:
    def note(function: Way) -> Way:
        WAYS[text] = function
        if two_phases:
            NEEDS_TWO_PHASES.add(text)
        return function

    return note


@asynccontextmanager
async def flushed(world: World, **options: Any) -> AsyncIterator[AsyncSession]:
    """A session that has flushed a row."""
    async with world.sessions(**options) as session:
        session.add(Post(title="x"))
        await session.flush()
        yield session


# -- commits --------------------------------------------------------------------------------------


@way("``await session.commit()``")
async def commit(world: World) -> None:
    async with world.sessions() as session:
        session.add(Post(title="x"))
        await session.commit()
        world.returned()


@way("``async with session.begin()``")
async def begin_block(world: World) -> None:
    async with world.sessions() as session:
        async with session.begin():
            session.add(Post(title="x"))
        world.returned()


@way("``async with sessionmaker.begin()``")
async def maker_block(world: World) -> None:
    async with world.sessions.begin() as session:
        session.add(Post(title="x"))
    world.returned()


@way("``flush()`` or autoflush, later ``commit()``")
async def flush_first(world: World) -> None:
    async with flushed(world) as session:
        await session.commit()
        world.returned()


@way("``await session.run_sync(…)`` of a function that commits")
async def run_sync(world: World) -> None:
    def work(session: Session) -> None:
        session.add(Post(title="x"))
        session.commit()
        world.returned()

    async with world.sessions() as session:
        await session.run_sync(work)


@way("``await async_scoped_session.commit()``")
async def scoped(world: World) -> None:
    registry = async_scoped_session(world.sessions, scopefunc=asyncio.current_task)
    registry.add(Post(title="x"))
    await registry.commit()
    world.returned()
    await registry.remove()


@way("``await instance.save()`` and ``Model.objects.create()`` with ``bind_sessions()``")
async def bound(world: World) -> None:
    Base.bind_sessions(world.sessions)
    try:
        await Post(title="x").save()
        world.returned()
    finally:
        Base.bind_sessions(None)


@way("``Session.commit()``, ``with Session.begin()``, without async")
async def synchronous(world: World) -> None:
    engine = world.database.create_sync_engine()
    with Session(engine) as session:
        session.add(Post(title="x"))
        session.commit()
        world.returned()
    engine.dispose()


@way("two-phase: ``prepare()``, ``commit()``", two_phases=True)
async def two_phase(world: World) -> None:
    engine = world.database.create_sync_engine()
    with Session(engine, twophase=True) as session:
        session.add(Post(title="x"))
        session.prepare()
        assert world.received == []
        session.commit()
        world.returned()
    engine.dispose()


@way("a released savepoint, then ``commit()``")
async def released(world: World) -> None:
    async with world.sessions() as session:
        async with session.begin_nested():
            session.add(Post(title="x"))
        assert world.received == []
        await session.commit()
        world.returned()


def _joined(mode: str) -> None:
    @way(f"``commit()`` of a session joined into a connection's transaction, ``{mode}``")
    async def joined(world: World) -> None:
        async with world.engine.connect() as connection:
            transaction = await connection.begin()
            async with AsyncSession(connection, join_transaction_mode=mode) as session:
                session.add(Post(title="x"))
                await session.commit()
                world.returned()
            if transaction.is_active:
                await transaction.rollback()


for each_mode in ("conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"):
    _joined(each_mode)


async def cancelled(world: World, when: str) -> None:
    """Run a task that commits, and is cancelled in the middle."""
    flushed_, go_on = asyncio.Event(), asyncio.Event()

    @post_save(Post)
    async def meet(session: AsyncSession, **kwargs: Any) -> None:
        if when == "COMMIT":
            asyncio.get_running_loop().call_soon(task.cancel)
        else:
            flushed_.set()
            await go_on.wait()

    @post_save(Post, phase="after_commit")
    async def linger(**kwargs: Any) -> None:
        if when == "delivery":
            flushed_.set()
            await asyncio.sleep(0.01)
            world.done.append("lingered")

    async def work() -> None:
        try:
            async with world.sessions() as session:
                session.add(Post(title="x"))
                await session.commit()
        finally:
            world.returned()

    if when == "delivery":
        go_on.set()
    task = asyncio.create_task(work())
    if when != "COMMIT":
        await flushed_.wait()
        if when == "delivery":
            while not world.received:
                await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.done == (["lingered"] if when == "delivery" else [])


@way("``commit()`` of a task that is cancelled within COMMIT, and then raises ``CancelledError``")
async def cancelled_in_commit(world: World) -> None:
    await cancelled(world, "COMMIT")


@way(
    "``commit()`` of a task that is cancelled while receivers run, and then raises ``CancelledError``"
)
async def cancelled_in_delivery(world: World) -> None:
    await cancelled(world, "delivery")


# -- everything else ------------------------------------------------------------------------------


@way("``rollback()``")
async def rollback(world: World) -> None:
    async with flushed(world) as session:
        await session.rollback()
        world.returned()


@way("a ``begin()`` block left by an exception")
async def failed_block(world: World) -> None:
    with pytest.raises(ZeroDivisionError):
        async with world.sessions.begin() as session:
            session.add(Post(title="x"))
            await session.flush()
            raise ZeroDivisionError
    world.returned()


@way("``close()`` without ``commit()``, ``async with session`` left without it")
async def close(world: World) -> None:
    async with flushed(world) as session:
        await session.close()
        world.returned()


@way("``reset()``")
async def reset(world: World) -> None:
    async with flushed(world) as session:
        await session.reset()
        world.returned()


@way("``invalidate()``")
async def invalidate(world: World) -> None:
    async with flushed(world) as session:
        await session.invalidate()
        world.returned()


@way("a savepoint that is rolled back, then ``commit()``")
async def savepoint_rolled_back(world: World) -> None:
    async with world.sessions() as session:
        savepoint = await session.begin_nested()
        session.add(Post(title="x"))
        await session.flush()
        await savepoint.rollback()
        assert world.received == []
        await session.commit()
        world.returned()


@way("``commit()`` that fails at COMMIT, then ``rollback()`` or ``close()``")
async def failed_commit(world: World) -> None:
    async with world.sessions() as session:
        session.add(Post(title="x"))
        await session.flush()
        with failing_commit(session.sync_session), pytest.raises(IntegrityError):
            await session.commit()
        await session.rollback()
        world.returned()


@way("a receiver inside the transaction that raises, then ``rollback()`` or ``close()``")
async def veto(world: World) -> None:
    @post_save(Post)
    async def refuse(**kwargs: Any) -> None:
        raise ZeroDivisionError

    async with world.sessions() as session:
        session.add(Post(title="x"))
        with pytest.raises(ZeroDivisionError):
            await session.commit()
        await session.rollback()
        world.returned()


@way("two-phase: ``prepare()``, ``rollback()``", two_phases=True)
async def two_phase_rollback(world: World) -> None:
    engine = world.database.create_sync_engine()
    with Session(engine, twophase=True) as session:
        session.add(Post(title="x"))
        session.prepare()
        session.rollback()
        world.returned()
    engine.dispose()


@way("a task that is cancelled before COMMIT, its session being closed")
async def cancelled_before(world: World) -> None:
    await cancelled(world, "flush")


@way("a session that is forgotten: neither committed nor closed")
async def forgotten(world: World) -> None:
    engine = world.database.create_sync_engine()
    session = Session(engine)
    session.add(Post(title="x"))
    session.flush()
    del session
    gc.collect()
    engine.dispose()
    world.returned()


SYNCHRONOUS = (synchronous, two_phase, two_phase_rollback, forgotten)


async def row_of(text: str, database: Database, engine: AsyncEngine) -> list[str]:
    """One row of the table."""
    world = World(database, engine)
    called: list[str] = []

    def register(instance: Post, session: Any, **kwargs: Any) -> None:
        on_commit(session, lambda: called.append("after_commit"))

    connected = [register]
    post_save.connect(register, Post)
    for phase in ("after_commit", "after_rollback"):

        async def receive(phase: str = phase, **kwargs: Any) -> None:
            await asyncio.sleep(0)
            world.received.append(phase)

        def receive_sync(phase: str = phase, **kwargs: Any) -> None:
            world.received.append(phase)

        is_sync = WAYS[text] in SYNCHRONOUS
        receiver = receive_sync if is_sync else receive
        connected.append(post_save.connect(receiver, Post, phase=phase))
    before = post_save.connections
    try:
        await WAYS[text](world)
        await drain()
    finally:
        for connection in post_save.connections:
            if connection not in before or connection.receiver in connected:
                post_save.disconnect(connection.receiver, sender=Post)
    gc.collect()
    received, _, later = "".join(f"{each} " for each in world.received).partition("|")
    phases = (received + later).split()
    assert called == [phase for phase in phases if phase == "after_commit"]
    return [
        text,
        " ".join(f"``{each}``" for each in phases) or "(nobody)",
        RETURNED if received else "",
    ]


# The driver warns of the connection that a forgotten session leaves open: that is the point.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_every_way_to_end_sends_what_the_table_says(
    async_engine: AsyncEngine, database: Database
) -> None:
    """Every way is taken, on each database; the page lists the receivers that are called once, and when."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    has_two_phases = database.dialect != "sqlite"
    rows = [
        await row_of(text, database, async_engine)
        for text in WAYS
        if has_two_phases or text not in NEEDS_TWO_PHASES
    ]
    if has_two_phases and os.environ.get("AKSARA_UPDATE_DOCS"):
        written = io.StringIO()
        csv.writer(written, lineterminator="\n").writerows([HEADER, *rows])
        TABLE.write_text(written.getvalue(), encoding="utf-8")
    with TABLE.open(encoding="utf-8", newline="") as table:
        header, *expected = csv.reader(table)
    assert header == HEADER
    assert rows == [row for row in expected if has_two_phases or row[0] not in NEEDS_TWO_PHASES]


# -- durable receivers ----------------------------------------------------------------------------


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    """The rows of durable receivers are written into a table beside the others."""
    metadata = MetaData()
    outbox = Outbox(metadata)
    outbox.install()
    yield outbox
    outbox.uninstall()


def connect_durable(world: World, name: str) -> None:
    """A receiver of posts, and one of a signal that is sent by hand inside the flush."""

    def note(**kwargs: Any) -> None:
        world.received.append("after_commit")

    post_save.connect(note, sender=Post, phase="after_commit")
    sent = Signal(f"sent_by_hand_{name}")
    sent.connect(lambda **kwargs: None, durable=f"test_commit_paths.{name}.sent")

    def send_on(instance: Post, session: Any, **kwargs: Any) -> None:
        sent.send_sync(session=session, instance=instance)

    post_save.connect(send_on, sender=Post)
    post_save.connect(lambda **kwargs: None, sender=Post, durable=f"test_commit_paths.{name}")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("text", WAYS)
async def test_every_way_to_end_stores_what_is_committed(
    async_engine: AsyncEngine, database: Database, outbox: Outbox, text: str
) -> None:
    """Rows for durable receivers are there exactly if the change is, one for each."""
    if text in NEEDS_TWO_PHASES and database.dialect == "sqlite":
        pytest.skip("SQLite has no two phases")
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.run_sync(outbox.metadata.create_all)
    number = list(WAYS).index(text)
    world = World(database, async_engine)
    connect_durable(world, f"{database.dialect}.{number}")
    await WAYS[text](world)
    await drain()
    gc.collect()
    async with async_engine.connect() as connection:
        rows = (await connection.execute(select(outbox.tables.outbox.c.payload))).scalars().all()
        posts = (await connection.execute(select(Post.id))).scalars().all()
    keys = [row["key"][0] for row in rows]
    assert sorted(keys) == sorted([*posts, *posts])

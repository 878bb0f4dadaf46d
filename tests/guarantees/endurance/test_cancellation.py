"""Tasks are cancelled at every await there is: nothing is lost, and nothing is sent wrongly."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from kit.crowd import Base, Entry, queued, writers
from kit.databases import Database, create_all
from kit.effort import times
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from aksara_signals import drain, post_save, pre_save
from aksara_signals.orm import on_commit, on_rollback

# aiosqlite forgets the connection that it was opening when it was cancelled; Python 3.13 warns.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
]


@pytest.fixture
async def engine(database: Database) -> AsyncIterator[AsyncEngine]:
    """A small pool on empty tables."""
    # SQLite has one writer at a time: others would wait, deaf to cancellation, inside the driver.
    options: dict[str, Any] = {"pool_size": 2}
    if database.dialect == "sqlite":
        options = {"pool_size": 1, "connect_args": {"timeout": 0.05}}
    engine = database.create_async_engine(max_overflow=0, pool_timeout=60, **options)
    await create_all(engine, Base.metadata)
    yield engine
    await engine.dispose()
    gc.collect()  # what was left open shows here, not in some later test


async def _write(session: AsyncSession, number: int, how: str) -> None:
    """Two rows in two flushes, in one of the ways to commit them."""
    if how == "begin":
        async with session.begin():
            session.add(Entry(id=number))
            await session.flush()
            session.add(Entry(id=number + 1))
    elif how == "savepoint":
        session.add(Entry(id=number))
        await session.flush()
        async with session.begin_nested():
            session.add(Entry(id=number + 1))
        await session.commit()
    elif how == "idle commit":  # nothing is left to flush when COMMIT comes
        session.add_all([Entry(id=number), Entry(id=number + 1)])
        await session.flush()
        await session.commit()
    else:
        session.add(Entry(id=number))
        await session.flush()
        session.add(Entry(id=number + 1))
        await session.commit()


@pytest.mark.parametrize("how", ["begin", "savepoint", "idle commit", "commit"])
async def test_cancelled_anywhere_delivered_is_what_is_in_the_database(
    engine: AsyncEngine, how: str
) -> None:
    """Wherever a writer is cancelled, what is delivered after commit is what the database has."""
    chance = random.Random(how)
    committed: Counter[int] = Counter()
    undone: Counter[int] = Counter()
    flushed: Counter[int] = Counter()
    called: Counter[int] = Counter()
    sessions: list[AsyncSession] = []

    async def pause(**kwargs: Any) -> None:
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)

    async def note(instance: Entry, **kwargs: Any) -> None:
        flushed[instance.id] += 1
        await asyncio.sleep(0)

    async def note_committed(instance: Entry, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        committed[instance.id] += 1
        await asyncio.sleep(0)

    def note_undone(instance: Entry, **kwargs: Any) -> None:
        undone[instance.id] += 1

    pre_save.connect(pause, sender=Entry)
    post_save.connect(note, sender=Entry, priority=1)
    post_save.connect(pause, sender=Entry)
    post_save.connect(note_committed, sender=Entry, phase="after_commit")
    post_save.connect(note_undone, sender=Entry, phase="after_rollback")

    async def work(number: int) -> None:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            sessions.append(session)
            on_commit(session, lambda: called.update([number]))
            on_rollback(session, lambda: called.update([-number]))
            await _write(session, number, how)

    count = times(20)
    for first in range(0, count, 4):  # more at once than there are connections
        tasks = [asyncio.create_task(work(2 + 2 * each)) for each in range(first, first + 4)]
        for task in tasks:
            for _ in range(chance.randrange(30)):
                await asyncio.sleep(chance.choice((0, 0, 0.0003)))
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, (type(None), asyncio.CancelledError, OperationalError))
    await asyncio.gather(*writers())  # sessions are closed in tasks of SQLAlchemy's own
    assert await drain() == 0

    async with AsyncSession(engine) as session:
        rows = set(await session.scalars(select(Entry.id)))
    assert committed == Counter(dict.fromkeys(rows, 1))
    # Of several rows in one flush, some may not have been sent yet: they are undone, too.
    assert flushed.keys() - rows <= undone.keys()
    assert not undone.keys() & rows
    assert set(undone.values()) <= {1}
    for number in {number for number in called if number > 0}:
        assert called[number] == 1
        assert {number, number + 1} <= rows
    assert {number for number in rows if number % 2 == 0} <= {n for n in called if n > 0}
    assert not any(queued(session) for session in sessions)
    pool: Any = engine.pool
    assert pool.checkedout() == 0
    async with AsyncExitStack() as stack:  # all are there, and work
        for _ in range(pool.size()):
            connection = await stack.enter_async_context(engine.connect())
            counted = await connection.scalar(select(func.count()).select_from(Entry))
            assert counted == len(rows)


async def test_cancelled_writers_were_cancelled_everywhere(engine: AsyncEngine) -> None:
    """The test above means something: cancelling at each await in turn gives every outcome."""
    points: Counter[str] = Counter()

    async def here(**kwargs: Any) -> None:
        await asyncio.sleep(0)

    pre_save.connect(here, sender=Entry)
    post_save.connect(here, sender=Entry, phase="after_commit")

    async def work(number: int) -> None:
        async with AsyncSession(engine) as session:
            session.add(Entry(id=number))
            await session.commit()

    number = 0
    while not points["done"]:
        number += 1
        task = asyncio.create_task(work(number))
        for _ in range(number):
            await asyncio.sleep(0)
            if task.done():
                break
        cancelled = task.cancel()
        await asyncio.wait([task])
        await asyncio.gather(*writers())
        async with AsyncSession(engine) as session:
            row = await session.get(Entry, number)
        outcome = ("done" if not cancelled else "torn") if row else "undone"
        points[outcome] += 1
    assert points["undone"] > 0


@pytest.mark.parametrize("when", ["in pre_save", "in post_save", "after commit"])
async def test_a_time_limit_around_a_write_surfaces(engine: AsyncEngine, when: str) -> None:
    """asyncio.timeout around a write ends it; the session can be used again after a rollback."""
    is_slow = True
    entered = asyncio.Event()
    over: list[int] = []

    async def slow(instance: Entry, **kwargs: Any) -> None:
        if is_slow:
            entered.set()
            await (asyncio.sleep(0.05) if when == "after commit" else asyncio.Event().wait())
        over.append(instance.id)

    signal = pre_save if when == "in pre_save" else post_save
    phase = "after_commit" if when == "after commit" else "immediate"
    signal.connect(slow, sender=Entry, phase=phase)
    async with AsyncSession(engine) as session:
        session.add(Entry(id=1))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                watch = asyncio.create_task(entered.wait())
                watch.add_done_callback(
                    lambda _: limit.reschedule(asyncio.get_running_loop().time())
                )
                await session.commit()
        await session.rollback()
        assert not queued(session)
        is_slow = False
        session.add(Entry(id=2))
        await session.commit()
        kept = {1, 2} if when == "after commit" else {2}
        assert set(await session.scalars(select(Entry.id))) == kept
    assert over == sorted(kept)
    pool: Any = engine.pool
    assert pool.checkedout() == 0


async def test_a_receivers_own_limit_stops_no_other(
    engine: AsyncEngine, reported: list[dict[str, Any]]
) -> None:
    """timeout_seconds cancels one receiver that waited: it is reported, all others run."""
    forever = asyncio.Event()
    received: list[str] = []

    async def stuck(**kwargs: Any) -> None:
        await forever.wait()

    post_save.connect(stuck, sender=Entry, phase="after_commit", timeout_seconds=0.01)
    post_save.connect(lambda **k: received.append("next"), sender=Entry, phase="after_commit")
    for number in range(1, 1 + times(3)):
        async with AsyncSession(engine) as session:
            session.add(Entry(id=number))
            async with asyncio.timeout(60):
                await session.commit()
            assert not queued(session)
    assert received == ["next"] * times(3)
    assert [type(each["error"]) for each in reported] == [TimeoutError] * times(3)

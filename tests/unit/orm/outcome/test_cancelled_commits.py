"""Commits that are cancelled or torn: there is one outcome, and deferred receivers are called for it."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from typing import Any

import pytest
from kit.committing import (
    COMMIT,
    ROLLBACK,
    Sessions,
    begin_block,
    commit,
    failing_commit,
    maker_begin,
)
from kit.databases import Database
from kit.models import Audit, Base, Post
from kit.support import Recorder
from sqlalchemy import NullPool, event, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

from aksara_signals import drain, post_save
from aksara_signals.orm import on_commit, on_rollback

# -- time and cancellation ------------------------------------------------------------------------


async def test_a_receiver_that_takes_too_long_is_cancelled_alone(
    sessions: Sessions, reported: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged by name; the receivers around it run."""
    seen: list[str] = []

    @post_save(Post, phase=COMMIT)
    async def before(**kwargs: Any) -> None:
        seen.append("before")

    @post_save(Post, phase=COMMIT, timeout_seconds=0.02)
    async def sleepy(**kwargs: Any) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            seen.append("cancelled")

    @post_save(Post, phase=COMMIT, timeout_seconds=30)
    async def after(**kwargs: Any) -> None:
        seen.append("after")

    await commit(sessions)
    assert seen == ["before", "cancelled", "after"]
    assert "cancelled after 0.02 seconds" in caplog.text
    assert "sleepy" in caplog.text
    assert [type(report["error"]) for report in reported] == [TimeoutError]


@pytest.mark.parametrize("path", [commit, begin_block, maker_begin], ids=lambda p: p.__name__)
@pytest.mark.parametrize("times", [1, 3])
async def test_cancelling_the_committing_task(sessions: Sessions, path: Any, times: int) -> None:
    """The commit stands, all receivers run, and then the cancellation surfaces."""
    seen: list[str] = []
    started, go_on = asyncio.Event(), asyncio.Event()

    @post_save(Post, phase=COMMIT)
    async def first(**kwargs: Any) -> None:
        started.set()
        await go_on.wait()
        seen.append("first")

    @post_save(Post, phase=COMMIT)
    async def second(**kwargs: Any) -> None:
        await asyncio.sleep(0)
        seen.append("second")

    task = asyncio.create_task(path(sessions))
    await started.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    assert seen == []
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await drain()  # sessionmaker.begin() commits in a task of its own, which is not awaited
    assert seen == ["first", "second"]
    async with sessions() as session:
        assert (await session.execute(text("select count(*) from post"))).scalar_one() == 1


async def test_drain_waits_for_what_is_under_way(sessions: Sessions) -> None:
    """With a limit, after which it says how many deliveries go on; none of them is cancelled."""
    go_on = asyncio.Event()
    seen: list[str] = []

    @post_save(Post, phase=COMMIT)
    async def slow(instance: Post, **kwargs: Any) -> None:
        await go_on.wait()
        assert await drain(0) < 2  # a delivery doesn't wait for itself
        seen.append(instance.title)

    assert await drain() == 0
    tasks = [asyncio.create_task(commit(sessions)) for _ in range(2)]
    while await drain(0) < 2:
        await asyncio.sleep(0.001)
    assert await drain(0.01) == 2
    asyncio.get_running_loop().call_later(0.02, go_on.set)
    assert await drain(None) == 0
    assert seen == ["x", "x"]
    await asyncio.gather(*tasks)


# -- many at once, and the worst case -------------------------------------------------------------


async def test_two_hundred_tasks_deliver_what_they_commit(served_database: Database) -> None:
    """With sessions of their own, a third rolling back, a third cancelled at any point."""
    received: dict[str, list[str]] = {COMMIT: [], ROLLBACK: []}
    for phase, titles in received.items():

        async def note(instance: Post, titles: list[str] = titles, **kwargs: Any) -> None:
            await asyncio.sleep(0)
            titles.append(instance.title)

        post_save.connect(note, sender=Post, phase=phase)

    engine = served_database.create_async_engine(pool_size=20, max_overflow=0, pool_timeout=120)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    sessions, loop = async_sessionmaker(engine), asyncio.get_running_loop()

    async def work(number: int) -> None:
        async with sessions() as session:
            session.add(Post(title=f"{number} first"))
            await session.flush()
            async with session.begin_nested():
                session.add(Post(title=f"{number} second"))
            await asyncio.sleep(0.001 * (number % 7))
            await (session.commit() if number % 3 else session.rollback())

    tasks = [asyncio.create_task(work(n)) for n in range(200)]
    for task in tasks[2::3]:
        loop.call_later(random.random() * 0.2, task.cancel)  # anywhere, also within COMMIT
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(each) for each in done} == {type(None), asyncio.CancelledError}
    assert await drain() == 0
    async with sessions() as session:
        rows = set(await session.scalars(select(Post.title)))
    await engine.dispose()
    assert len(rows) >= 2 * 67
    assert sorted(received[COMMIT]) == sorted(rows)
    assert rows.isdisjoint(received[ROLLBACK])
    assert len(received[ROLLBACK]) >= 2 * 67


@pytest.mark.parametrize("flushes", [False, True])
@pytest.mark.parametrize("path", [commit, begin_block], ids=lambda path: path.__name__)
async def test_a_cancellation_doesnt_tear_a_commit(
    sessions: Sessions, recorder: Recorder, path: Any, flushes: bool
) -> None:
    """Between COMMIT and its answer a task isn't cancelled: the outcome would be unknown."""
    recorder.record(post_save, Post, phase=COMMIT)
    recorder.record(post_save, Post, phase=ROLLBACK)
    post_save.connect(lambda **kwargs: None, sender=Audit, phase=COMMIT)

    @post_save(Post)
    async def cancel_soon(session: AsyncSession, **kwargs: Any) -> None:
        # The next thing that is waited for is the answer to COMMIT.
        on_commit(session, lambda: None)
        if flushes:  # in a greenlet of its own, where something waits as well
            session.add(Audit(text="x"))
            await session.flush()
        asyncio.get_running_loop().call_soon(task.cancel)

    task = asyncio.create_task(path(sessions))
    with pytest.raises(asyncio.CancelledError):
        await task
    async with sessions() as session:
        titles = set(await session.scalars(select(Post.title)))
    assert [call.payload["instance"].title for call in recorder.calls] == ["x"]
    assert titles == {"x"}


async def test_a_commit_with_nothing_but_a_callback_isnt_torn(sessions: Sessions) -> None:
    """Also if the callback is registered while the commit flushes, by an async receiver."""
    called: list[str] = []

    @post_save(Post)
    async def register(session: AsyncSession, **kwargs: Any) -> None:
        on_commit(session, lambda: called.append("committed"))
        on_rollback(session, lambda: called.append("rolled back"))
        asyncio.get_running_loop().call_soon(task.cancel)

    task = asyncio.create_task(commit(sessions))
    with pytest.raises(asyncio.CancelledError):
        await task
    async with sessions() as session:
        assert (await session.scalars(select(Post.title))).all() == ["x"]
    assert called == ["committed"]


async def test_a_cancellation_doesnt_tear_the_end_of_a_connection(
    database: Database, recorder: Recorder
) -> None:
    """Without a pool, closing the connection is waited for as well, before any receiver is called."""
    recorder.record(post_save, Post, phase=COMMIT)
    engine = database.create_async_engine(poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    closing: list[str] = []

    @event.listens_for(engine.sync_engine, "close")
    def cancel(*_: object) -> None:
        if task is not None and not closing:
            closing.append("now")
            asyncio.get_running_loop().call_soon(task.cancel)

    task = None
    task = asyncio.create_task(commit(async_sessionmaker(engine)))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closing == ["now"]
    assert [call.payload["instance"].title for call in recorder.calls] == ["x"]
    await engine.dispose()


async def test_two_sessions_commit_in_one_greenlet(sessions: Sessions, recorder: Recorder) -> None:
    """Each is shielded for its own commit, in whichever order they end."""
    recorder.record(post_save, Post, phase=COMMIT)

    def work(one: Session, two: Session) -> None:
        for session, title in ((one, "1"), (two, "2")):
            session.add(Post(title=title))
            if session.get_bind().dialect.name != "sqlite":  # SQLite has one writer at a time
                session.flush()
        one.commit()
        two.scalar(select(1))
        one.add(Post(title="3"))
        two.commit()
        one.commit()

    async with sessions() as one, sessions() as two:
        await one.run_sync(lambda _: work(one.sync_session, two.sync_session))
    assert [call.payload["instance"].title for call in recorder.calls] == ["1", "2", "3"]


async def test_a_cancellation_that_a_failed_commit_has_held_back_surfaces(
    sessions: Sessions, recorder: Recorder
) -> None:
    """The error of the commit comes first; the cancellation isn't lost."""
    recorder.record(post_save, Post, phase=ROLLBACK)
    async with sessions() as session:
        session.add(Post(title="x"))
        await session.flush()
        with failing_commit(session.sync_session), pytest.raises(IntegrityError):
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
            await session.commit()
        with pytest.raises(asyncio.CancelledError):
            await session.rollback()
        assert asyncio.current_task().uncancel() == 0
    assert [call.payload["instance"].title for call in recorder.calls] == ["x"]


async def test_a_killed_connection_commits_nothing(
    served_database: Database, recorder: Recorder
) -> None:
    """The commit fails with a clear error, no receiver is called, and the next session works."""
    recorder.record(post_save, Post, phase=COMMIT)
    process_of, kill = "select pg_backend_pid()", "select pg_terminate_backend({})"
    if served_database.dialect == "mariadb":
        process_of, kill = "select connection_id()", "kill {}"
    engine = served_database.create_async_engine(pool_pre_ping=True)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    sessions = async_sessionmaker(engine)
    async with sessions() as session:
        session.add(Post(title="lost"))
        await session.flush()
        process = (await session.execute(text(process_of))).scalar_one()
        async with sessions() as other:
            await other.execute(text(kill.format(process)))
        await asyncio.sleep(0.05)
        with pytest.raises(DBAPIError, match=r"connection|server has gone away") as raised:
            await session.commit()
        assert raised.value.connection_invalidated
    assert recorder.calls == []
    async with sessions.begin() as session:
        session.add(Post(title="kept"))
    assert [call.payload["instance"].title for call in recorder.calls] == ["kept"]
    await engine.dispose()


# The driver warns of the connection that a forgotten session leaves open: that is the point.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_abandoned_session_is_collected(sync_engine: Any, recorder: Recorder) -> None:
    """What waits in a session doesn't keep it alive, and isn't delivered when it goes."""
    Base.metadata.create_all(sync_engine)
    recorder.record(post_save, Post, phase=COMMIT, sync=True)
    recorder.record(post_save, Post, phase=ROLLBACK, sync=True)
    session = Session(sync_engine)
    session.add(Post(title="x"))
    session.flush()
    reference = weakref.ref(session)
    del session
    gc.collect()
    assert reference() is None
    assert recorder.calls == []

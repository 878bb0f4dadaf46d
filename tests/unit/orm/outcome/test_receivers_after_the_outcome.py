"""What receivers may do that have waited for the outcome, and what becomes of their errors."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import weakref
from functools import partial
from typing import Any

import pytest
from kit import databases
from kit.databases import Database
from kit.models import Audit, Base, Post, Promise
from kit.support import Recorder
from sqlalchemy import NullPool, event, func, inspect, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_sessionmaker,
)
from sqlalchemy.orm import Session

from aksara_signals import (
    SessionInUseError,
    SignalContext,
    SignalRecursionError,
    drain,
    on_delivery_error,
    post_save,
)
from aksara_signals.dispatch.delivery import frame
from aksara_signals.orm import on_commit, on_rollback, session_scope

COMMIT, ROLLBACK = "after_commit", "after_rollback"
Sessions = async_sessionmaker[AsyncSession]


async def commit(sessions: Sessions) -> None:
    async with sessions() as session:
        session.add(Post(title="x"))
        await session.commit()


async def begin_block(sessions: Sessions) -> None:
    async with sessions() as session, session.begin():
        session.add(Post(title="x"))


async def maker_begin(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        session.add(Post(title="x"))


# -- who is told ----------------------------------------------------------------------------------


async def test_one_receiver_in_several_phases(sessions: Sessions) -> None:
    """Connected for each phase it is called in each; disconnecting takes all of them out."""
    seen: list[Any] = []

    @post_save(Post)
    @post_save(Post, phase=COMMIT)
    @post_save(Post, phase=COMMIT)  # again: ignored
    @post_save(Post, phase=ROLLBACK)
    async def look(instance: Post, **kwargs: Any) -> None:
        seen.append(inspect(instance).detached)

    assert [each.phase for each in post_save.connections] == [ROLLBACK, COMMIT, "immediate"]
    await commit(sessions)
    assert seen == [False, True]
    assert post_save.disconnect(look, sender=Post)
    assert post_save.connections == ()


async def test_silence_is_judged_at_the_flush(sessions: Sessions, recorder: Recorder) -> None:
    """Leaving the context before the commit doesn't help; entering it before doesn't harm."""
    recorder.record(post_save, Post, phase=COMMIT)
    async with sessions() as session:
        with SignalContext.disable_for(Post):
            session.add(Post(title="silent"))
            await session.flush()
        session.add(Post(title="heard"))
        await session.flush()
        with SignalContext.disable_all():
            await session.commit()
    assert [call.payload["instance"].title for call in recorder.calls] == ["heard"]


# -- what receivers may do ------------------------------------------------------------------------


async def test_the_connection_is_back_in_the_pool(database: Database) -> None:
    """A receiver opens a session of its own on a pool of one, and sees what was committed."""
    engine = database.create_async_engine(pool_size=1, max_overflow=0, pool_timeout=5)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    sessions = async_sessionmaker(engine)
    seen: list[int] = []

    @post_save(Post, phase=COMMIT)
    @post_save(Post, phase=ROLLBACK)
    async def look(instance: Post, **kwargs: Any) -> None:
        async with sessions() as session:
            seen.append((await session.execute(text("select count(*) from post"))).scalar_one())

    await commit(sessions)
    async with sessions() as session:
        session.add(Post(title="y"))
        await session.flush()
    assert seen == [1, 1]
    await engine.dispose()


async def test_the_ended_session_is_refused(
    sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    """A receiver that uses it gets an error with the way out; the session itself takes no harm."""
    errors: list[Exception] = []

    @post_save(Post, phase=COMMIT)
    async def misuse(instance: Post, session: AsyncSession, **kwargs: Any) -> None:
        try:
            await session.execute(text("select 1"))
        except SessionInUseError as error:
            errors.append(error)
        assert not session.in_transaction()
        session.add(Audit(text="lost?"))
        await session.commit()

    async with sessions() as session:
        session.add(Post(title="x"))
        await session.commit()
        assert "bind_sessions" in str(errors[0])
        assert not session.in_transaction()
        assert "SessionInUseError" in caplog.text
        session.expunge_all()
        assert (await session.execute(text("select count(*) from audit"))).scalar_one() == 0
        await session.commit()


async def test_receivers_write_through_sessions_of_their_own(sessions: Sessions) -> None:
    """What they commit is told in turn; the manager finds no session but the bound ones."""
    seen: list[str] = []
    Base.bind_sessions(sessions)

    @post_save(Post, phase=COMMIT)
    async def audit(instance: Post, **kwargs: Any) -> None:
        await Audit.objects.create(text=instance.title)
        seen.append("written")

    @post_save(Audit, phase=COMMIT)
    async def tell(instance: Audit, **kwargs: Any) -> None:
        seen.append(f"audit {instance.text}")

    try:
        async with sessions() as session, session_scope(session):
            await Post.objects.create(title="x")
            await session.commit()
        assert await Audit.objects.count() == 1
    finally:
        Base.bind_sessions(None)
    assert seen == ["audit x", "written"]


async def test_long_chains_are_no_recursion(sessions: Sessions) -> None:
    """A hundred receivers, each committing what calls the next, are no endless loop."""

    @post_save(Post, phase=COMMIT)
    async def next_one(instance: Post, **kwargs: Any) -> None:
        if instance.views < 100:
            async with sessions.begin() as session:
                session.add(Post(title="next", views=instance.views + 1))

    async with sessions.begin() as session:
        session.add(Post(title="first", views=0))
    async with sessions() as session:
        assert (await session.execute(text("select count(*) from post"))).scalar_one() == 101


def test_chains_of_a_synchronous_session(sync_engine: Any) -> None:
    """They stand on one stack, and are shorter."""
    Base.metadata.create_all(sync_engine)

    @post_save(Post, phase=COMMIT)
    def next_one(instance: Post, **kwargs: Any) -> None:
        if instance.views < 20:
            with Session(sync_engine) as session, session.begin():
                session.add(Post(title="next", views=instance.views + 1))

    with Session(sync_engine) as session, session.begin():
        session.add(Post(title="first", views=0))
    with Session(sync_engine) as session:
        assert session.query(Post).count() == 21


@pytest.mark.parametrize("options", [{}, {"timeout_seconds": 60}, {"concurrent": True}], ids=str)
async def test_endless_chains_are_stopped(
    sessions: Sessions,
    options: dict[str, Any],
    reported: list[Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error is logged with the chain, observed, and reaches no commit."""
    monkeypatch.setattr(frame, "MAX_GENERATIONS", 20)

    @post_save(Post, phase=COMMIT, **options)
    async def endless(instance: Post, **kwargs: Any) -> None:
        await commit(sessions)

    await commit(sessions)
    assert "SignalRecursionError" in caplog.text
    problem = f"{frame.MAX_GENERATIONS} deliveries after the outcome of a transaction caused"
    assert problem in caplog.text
    assert [type(report["error"]) for report in reported] == [SignalRecursionError]
    async with sessions() as session:
        assert (
            await session.execute(text("select count(*) from post"))
        ).scalar_one() == frame.MAX_GENERATIONS + 1


def test_endless_chains_of_a_synchronous_session_are_stopped(
    sync_engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Long before Python's own limit."""
    errors: list[BaseException] = []
    observer = on_delivery_error.connect(lambda error, **kwargs: errors.append(error))
    Base.metadata.create_all(sync_engine)

    @post_save(Post, phase=COMMIT)
    def endless(instance: Post, **kwargs: Any) -> None:
        write()

    def write() -> None:
        with Session(sync_engine) as session, session.begin():
            session.add(Post(title="next"))

    write()
    on_delivery_error.disconnect(observer)
    assert "SignalRecursionError" in caplog.text
    assert [type(error) for error in errors] == [SignalRecursionError]
    with Session(sync_engine) as session:
        assert session.query(Post).count() == frame.MAX_DEPTH + 1


# -- errors, time and cancellation ----------------------------------------------------------------


async def test_errors_reach_nobody_but_the_log_and_the_observer(
    sessions: Sessions, reported: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """All receivers run; each failure is logged with traceback and told with its connection."""
    seen: list[str] = []
    caplog.set_level(logging.ERROR, logger="aksara_signals")

    @post_save(Post, phase=COMMIT)
    async def broken(**kwargs: Any) -> None:
        raise ValueError("oops")

    @post_save(Post, phase=COMMIT)
    def broken_too(**kwargs: Any) -> None:
        raise asyncio.CancelledError

    @post_save(Post, phase=COMMIT)
    async def fine(instance: Post, **kwargs: Any) -> None:
        seen.append(instance.title)

    await commit(sessions)
    assert seen == ["x"]
    assert len(caplog.records) == 2
    assert "broken" in caplog.records[0].getMessage()
    assert "post_save sent by kit.models.Post 1" in caplog.records[0].getMessage()
    assert caplog.records[0].exc_info is not None
    [first, second] = reported
    assert (first["sender"], str(first["error"])) == (Post, "oops")
    assert first["connection"].receiver is broken
    assert first["failed_signal"] is post_save
    assert first["payload"]["instance"].title == "x"
    assert second["connection"].receiver is broken_too


def test_a_cancellation_without_an_event_loop_is_a_failure(
    sync_engine: Any, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no task that could have been cancelled."""
    Base.metadata.create_all(sync_engine)

    @post_save(Post, phase=COMMIT)
    def broken(**kwargs: Any) -> None:
        raise asyncio.CancelledError

    recorder.record(post_save, Post, phase=COMMIT)
    with Session(sync_engine) as session, session.begin():
        session.add(Post(title="x"))
    assert "CancelledError" in caplog.text
    assert len(recorder.calls) == 1


async def test_an_observer_that_fails_is_logged(
    sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    """It doesn't cause itself."""

    def observer(**kwargs: Any) -> None:
        raise RuntimeError("blind")

    on_delivery_error.connect(observer)

    @post_save(Post, phase=COMMIT)
    async def broken(**kwargs: Any) -> None:
        raise ValueError("oops")

    await commit(sessions)
    on_delivery_error.disconnect(observer)
    assert [record.exc_info[1].args for record in caplog.records] == [("oops",), ("blind",)]


async def test_concurrent_receivers_run_together(sessions: Sessions, reported: list[Any]) -> None:
    """Those of all rows at once, after the sequential ones, without a session."""
    order: list[str] = []
    barrier = asyncio.Barrier(6)

    async def meet(instance: Post, session: Any, **kwargs: Any) -> None:
        assert session is None
        await asyncio.wait_for(barrier.wait(), 5)
        order.append("concurrent")
        if instance.title == "a":
            raise ValueError("alas")

    for n in range(3):
        seconds = 10 if n else None
        post_save.connect(
            partial(meet), Post, phase=COMMIT, concurrent=True, timeout_seconds=seconds
        )

    @post_save(Post, phase=COMMIT)
    async def sequential(**kwargs: Any) -> None:
        order.append("sequential")

    async with sessions.begin() as session:
        session.add_all([Post(title="a"), Post(title="b")])
    assert order == ["sequential"] * 2 + ["concurrent"] * 6
    assert [str(report["error"]) for report in reported] == ["alas"] * 3


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
    await drain()  # sessionmaker.begin() commits in a task of its own, for which nobody waits
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


async def test_two_hundred_tasks_deliver_what_they_commit(postgresql_server: Any) -> None:
    """With sessions of their own, a third rolling back, a third cancelled at any point."""
    told: dict[str, list[str]] = {COMMIT: [], ROLLBACK: []}
    for phase, titles in told.items():

        async def note(instance: Post, titles: list[str] = titles, **kwargs: Any) -> None:
            await asyncio.sleep(0)
            titles.append(instance.title)

        post_save.connect(note, sender=Post, phase=phase)

    with databases.postgresql_database(postgresql_server) as database:
        engine = database.create_async_engine(pool_size=20, max_overflow=0, pool_timeout=120)
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
    assert sorted(told[COMMIT]) == sorted(rows)
    assert rows.isdisjoint(told[ROLLBACK])
    assert len(told[ROLLBACK]) >= 2 * 67


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
    """Without a pool, closing the connection is waited for as well, before anybody is told."""
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
            if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time
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
        session.add_all([Post(title="x"), Promise(author_id=77)])
        await session.flush()
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        with pytest.raises(IntegrityError):
            await session.commit()
        with pytest.raises(asyncio.CancelledError):
            await session.rollback()
        assert asyncio.current_task().uncancel() == 0
    assert [call.payload["instance"].title for call in recorder.calls] == ["x"]


async def test_a_killed_connection_commits_nothing(
    postgresql_server: Any, recorder: Recorder
) -> None:
    """The commit fails with a clear error, nobody hears of it, and the next session works."""
    recorder.record(post_save, Post, phase=COMMIT)
    with databases.postgresql_database(postgresql_server) as database:
        engine = database.create_async_engine(pool_pre_ping=True)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        sessions = async_sessionmaker(engine)
        async with sessions() as session:
            session.add(Post(title="lost"))
            await session.flush()
            process = (await session.execute(text("select pg_backend_pid()"))).scalar_one()
            async with sessions() as other:
                await other.execute(select(func.pg_terminate_backend(process)))
            await asyncio.sleep(0.05)
            with pytest.raises(DBAPIError, match="connection"):
                await session.commit()
        assert recorder.calls == []
        async with sessions.begin() as session:
            session.add(Post(title="kept"))
        assert [call.payload["instance"].title for call in recorder.calls] == ["kept"]
        await engine.dispose()


# The driver warns of the connection that a forgotten session leaves open: that is the point.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_abandoned_session_handle_error(sync_engine: Any, recorder: Recorder) -> None:
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

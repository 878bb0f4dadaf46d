"""What receivers may do that have waited for the outcome, and what becomes of their errors."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

import pytest
from kit.committing import COMMIT, ROLLBACK, Sessions, commit
from kit.databases import Database
from kit.models import Audit, Base, Post
from kit.support import Recorder
from sqlalchemy import inspect, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

from aksara_signals import (
    SessionInUseError,
    SignalContext,
    SignalRecursionError,
    on_delivery_error,
    post_save,
)
from aksara_signals.dispatch.delivery import frame
from aksara_signals.orm import session_scope

# -- which are called -----------------------------------------------------------------------------


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
        session.add(Post(title="received"))
        await session.flush()
        with SignalContext.disable_all():
            await session.commit()
    assert [call.payload["instance"].title for call in recorder.calls] == ["received"]


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
    """What they commit is sent in turn; the manager finds no session but the bound ones."""
    seen: list[str] = []
    Base.bind_sessions(sessions)

    @post_save(Post, phase=COMMIT)
    async def audit(instance: Post, **kwargs: Any) -> None:
        await Audit.objects.create(text=instance.title)
        seen.append("written")

    @post_save(Audit, phase=COMMIT)
    async def receive(instance: Audit, **kwargs: Any) -> None:
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


# -- errors ---------------------------------------------------------------------------------------


async def test_errors_reach_only_the_log_and_the_observer(
    sessions: Sessions, reported: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """All receivers run; each failure is logged with traceback and reported with its connection."""
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

"""Whose outcome receivers wait for: savepoints, several engines, callbacks.

The ways in which transactions end are in ``test_commit_paths``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest
from kit.models import Base, Post
from kit.support import Recorder
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from aksara_signals import (
    InvalidOptionError,
    InvalidReceiverError,
    SessionInUseError,
    Signal,
    post_save,
)
from aksara_signals.orm import SignalMixin, on_commit, on_rollback
from aksara_signals.orm.outcome.queue import Queue, queued_for_commit

COMMIT, ROLLBACK = "after_commit", "after_rollback"
Sessions = async_sessionmaker[AsyncSession]


class OwnBase(SignalMixin, DeclarativeBase):
    pass


class Note(OwnBase):
    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)


class Outcomes:
    """What receivers of posts got, with its outcome."""

    def __init__(self) -> None:
        self.received: list[str] = []
        for phase in (COMMIT, ROLLBACK):
            post_save.connect(self._receiver(phase), sender=Post, phase=phase)

    def _receiver(self, phase: str) -> Callable[..., Any]:
        async def receiver(sender: type, instance: Post, **kwargs: Any) -> None:
            await asyncio.sleep(0)
            self.received.append(f"{phase} {instance.title}")

        return receiver

    def take(self) -> list[str]:
        received, self.received = self.received, []
        return received


@pytest.fixture
def outcomes() -> Outcomes:
    return Outcomes()


# -- when -----------------------------------------------------------------------------------------


async def test_nothing_is_delivered_before_the_outcome_is_known(
    sessions: Sessions, outcomes: Outcomes
) -> None:
    """Neither a flush nor the release of a savepoint delivers."""
    async with sessions() as session:
        async with session.begin_nested():
            session.add(Post(title="a"))
            await session.flush()
        assert outcomes.received == []
        session.add(Post(title="b"))
        await session.flush()
        assert outcomes.received == []
        await session.commit()
    assert outcomes.received == ["after_commit a", "after_commit b"]


async def test_a_rolled_back_savepoint_decides_what_happened_inside(
    sessions: Sessions, outcomes: Outcomes
) -> None:
    """Its entries are sent as rolled back, when the outermost transaction has ended."""
    async with sessions.begin() as session:
        session.add(Post(title="kept"))
        await session.flush()
        savepoint = await session.begin_nested()
        session.add(Post(title="lost"))
        async with session.begin_nested():
            session.add(Post(title="lost, too"))
        await savepoint.rollback()
        session.add(Post(title="later"))
        assert outcomes.received == []
    assert outcomes.received == [
        "after_commit kept",
        "after_rollback lost",
        "after_rollback lost, too",
        "after_commit later",
    ]


async def test_a_session_is_used_again_after_a_failure(
    sessions: Sessions, outcomes: Outcomes
) -> None:
    """A flush that fails sends nothing of its own; what comes after the rollback counts."""
    async with sessions() as session:
        session.add(Post(id=1, title="first"))
        await session.flush()
        session.expunge_all()
        session.add(Post(id=1, title="twice"))
        with pytest.raises(IntegrityError):
            await session.flush()
        await session.rollback()
        assert outcomes.take() == ["after_rollback first"]
        session.add(Post(id=1, title="again"))
        await session.commit()
        assert outcomes.take() == ["after_commit again"]


def test_a_synchronous_session_delivers(sync_engine: Any, recorder: Recorder) -> None:
    """Without an event loop, receivers that never have to wait are called, others are logged."""
    Base.metadata.create_all(sync_engine)
    recorder.record(post_save, Post, phase=COMMIT)
    recorder.record(post_save, Post, phase=ROLLBACK, sync=True)
    with Session(sync_engine) as session:
        session.add(Post(title="a"))
        session.commit()
        session.add(Post(title="b"))
        session.flush()
        assert len(recorder.calls) == 1
    assert [call.payload["instance"].title for call in recorder.calls] == ["a", "b"]


def test_a_synchronous_session_cant_wait(
    sync_engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """An async receiver that has to wait is logged with the way out, and the commit stands."""
    Base.metadata.create_all(sync_engine)

    @post_save(Post, phase=COMMIT)
    async def slow(**kwargs: Any) -> None:
        await asyncio.sleep(0)

    @post_save(Post, phase=COMMIT, concurrent=True, timeout_seconds=5)
    def fine(instance: Post, **kwargs: Any) -> None:
        instance.title += "!"

    with Session(sync_engine) as session, session.begin():
        session.add(Post(title="a"))
    assert "AsyncReceiverError" in caplog.text
    with Session(sync_engine) as session:
        assert session.query(Post).one().title == "a"


async def test_several_engines_in_one_session(
    async_engine: AsyncEngine, tmp_path: Any, outcomes: Outcomes
) -> None:
    """A session over two databases is decided as one: when all of its commits have been made."""
    from kit import databases

    other = databases.sqlite_database(tmp_path.parent).create_async_engine()
    for engine, base in ((async_engine, Base), (other, OwnBase)):
        async with engine.begin() as connection:
            await connection.run_sync(base.metadata.create_all)
    async with AsyncSession(binds={Base: async_engine, OwnBase: other}) as session:
        session.add_all([Post(title="x"), Note()])
        await session.commit()
        assert outcomes.take() == ["after_commit x"]
        session.add_all([Post(title="y"), Note()])
        await session.flush()
        await session.rollback()
        assert outcomes.take() == ["after_rollback y"]
    await other.dispose()


# -- callbacks ------------------------------------------------------------------------------------


async def test_callbacks_wait_too(sessions: Sessions) -> None:
    """on_commit and on_rollback take functions, sync and async; savepoints count."""
    called: list[str] = []

    async def note(text: str) -> None:
        await asyncio.sleep(0)
        called.append(text)

    async with sessions() as session:
        await session.begin()
        on_commit(session, lambda: called.append("sync"))
        on_commit(session, lambda: note("async"))
        on_rollback(session, lambda: note("never"))
        savepoint = await session.begin_nested()
        on_commit(session, lambda: note("lost"))
        on_rollback(session, lambda: note("undone"))
        await savepoint.rollback()
        assert called == []
        await session.commit()
    assert called == ["sync", "async", "undone"]


async def test_callbacks_of_an_idle_session_belong_to_its_next_transaction(
    sessions: Sessions,
) -> None:
    """They don't run at once, and only once."""
    called: list[str] = []
    async with sessions() as session:
        on_commit(session, lambda: called.append("commit"))
        on_rollback(session, lambda: called.append("rollback"))
        assert called == []
        await session.execute(text("select 1"))
        await session.rollback()
        assert called == ["rollback"]
        await session.execute(text("select 1"))
        await session.commit()
    assert called == ["rollback"]


def test_callbacks_must_be_callable_and_sessions_sessions() -> None:
    """What makes no sense is refused at once, with the way out."""
    with pytest.raises(InvalidReceiverError, match=r"on_commit\(session, lambda"):
        on_commit(Session(), 5)
    with pytest.raises(InvalidOptionError, match="AsyncSession"):
        on_rollback(5, print)


NEED_ARGUMENTS: list[Any] = [
    lambda post: None,
    lambda *, post: None,
    partial(lambda post, tag: None, 1),
    dict.fromkeys,
]


@pytest.mark.parametrize("callback", NEED_ARGUMENTS)
def test_a_callback_that_needs_arguments_is_refused(callback: Any) -> None:
    """At once, and not after the commit, when it would be lost."""
    with pytest.raises(InvalidReceiverError, match="that nothing fills; bind it"):
        on_commit(Session(), callback)


NEED_NONE: list[Any] = [
    lambda post=None, *args, tag=None, **kwargs: None,
    partial(lambda post: None, 1),
    Mock(),
    [].clear,
    dict,  # its signature can't be read
]


@pytest.mark.parametrize("callback", NEED_NONE)
def test_a_callback_that_can_be_called_is_taken(callback: Any) -> None:
    """Also where that can't be checked."""
    on_commit(Session(), callback)


def test_what_is_queued_for_a_commit_is_receivers(sync_engine: Any) -> None:
    """One for each delivery; what is only noted of rows is none, nor what awaits a rollback."""

    def settle(**kwargs: Any) -> None: ...

    post_save.connect(settle, sender=Post, phase=COMMIT, coalesce=True)
    post_save.connect(lambda **kwargs: None, sender=Post, phase=ROLLBACK)
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        session.add_all([Post(title="a"), Post(title="b")])
        session.flush()
        assert queued_for_commit() == [settle] * 2
        session.rollback()
    assert queued_for_commit() == []


@pytest.mark.parametrize("ask", [on_commit, on_rollback])
async def test_nothing_waits_in_an_ended_session(
    sessions: Sessions, reported: list[Any], ask: Any
) -> None:
    """It would be sent for another transaction, or lost: the receiver gets an error that says so."""
    custom = Signal("custom")
    custom.connect(lambda **kwargs: None, phase="after_commit")
    called: list[str] = []

    async with sessions() as session:
        on_commit(session, lambda: ask(session, lambda: called.append("late")))
        on_commit(session, lambda: custom.send_sync("x", session=session))
        on_commit(session, lambda: called.append("next"))
        for number in (1, 2):
            await session.execute(text("select 1"))
            await session.commit()
            assert called == ["next"], number
    errors = [each["error"] for each in reported]
    assert [type(each) for each in errors] == [SessionInUseError] * 2
    assert "which has ended; open a session of its own" in str(errors[0])


def test_the_first_cancellation_that_was_held_back_is_the_one() -> None:
    """Of the greenlets that a COMMIT was shielded in, any may have held one."""
    first, second = asyncio.CancelledError(), asyncio.CancelledError()
    for held, expected in (
        ((first, None), first),
        ((None, first), first),
        ((first, second), first),
    ):
        queue = Queue()
        queue.shields = shields = [Mock(held=each) for each in held]
        assert queue.unprotect() is expected
        assert queue.shields == []
        for each in shields:
            each.remove.assert_called_once_with()


async def test_a_failing_callback_is_named(
    sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    """Its error is logged, the next one is called, and the commit stands."""
    called: list[str] = []

    def broken() -> None:
        raise ValueError("oops")

    async with sessions.begin() as session:
        on_commit(session, broken)
        on_commit(session, lambda: called.append("next"))
    assert called == ["next"]
    assert "on_commit" in caplog.text
    assert "broken" in caplog.text
    assert "oops" in caplog.text

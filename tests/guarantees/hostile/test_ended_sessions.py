"""Receivers that end or empty the session that has committed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from kit import databases
from kit.misfits import Account, Base, assert_nothing_is_left, do
from sqlalchemy import Engine, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from aksara_signals import SessionInUseError, on_delivery_error, post_save
from aksara_signals.orm import on_commit, on_rollback

METHODS = ["commit", "rollback", "close", "reset", "invalidate", "expunge_all"]
PHASES = ["after_commit", "after_rollback"]


@pytest.fixture
def failures() -> Iterator[list[BaseException]]:
    """What receivers have failed with."""
    failures: list[BaseException] = []

    def note(error: BaseException, **kwargs: Any) -> None:
        failures.append(error)

    with on_delivery_error.connected_to(note):
        yield failures


@pytest.fixture
async def session(async_engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    await databases.create_all(async_engine, Base.metadata)
    async with AsyncSession(async_engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture
def plain(sync_engine: Engine) -> Iterator[Session]:
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine, expire_on_commit=False) as session:
        yield session


def check(failures: list[BaseException], method: str) -> None:
    [error] = failures
    assert type(error) is SessionInUseError
    assert str(error).startswith(
        f"{method}() was called by a deferred receiver of a transaction, on"
    )
    assert "which has ended; open a session of its own" in str(error)
    failures.clear()


@pytest.mark.parametrize("phase", PHASES)
def test_a_session_is_neither_ended_nor_emptied(
    phase: str, plain: Session, failures: list[BaseException]
) -> None:
    """The receiver fails, and what it would have detached stays in the session."""
    kept = Account(name="kept")
    plain.add(kept)
    plain.commit()
    for method in METHODS:
        with post_save.connected_to(
            lambda session, method=method, **kwargs: getattr(session, method)(),
            Account,
            phase=phase,
        ):
            account = Account(name=method)
            plain.add(account)
            plain.flush()
            plain.commit() if phase == "after_commit" else plain.rollback()
        check(failures, method)
        assert kept in plain
        assert (account in plain) is (phase == "after_commit")
        assert_nothing_is_left(plain)
    assert plain.scalar(select(func.count(Account.id))) == (7 if phase == "after_commit" else 1)


@pytest.mark.parametrize("phase", PHASES)
async def test_an_async_session_is_neither_ended_nor_emptied(
    phase: str, session: AsyncSession, failures: list[BaseException]
) -> None:
    """The same, by its own methods and by those of its sync_session, in sync and async receivers."""
    kept = Account(name="kept")
    session.add(kept)
    await session.commit()

    async def call(session: AsyncSession, **kwargs: Any) -> None:
        await do(session, method)

    def call_inside(session: AsyncSession, **kwargs: Any) -> None:
        getattr(session.sync_session, method)()

    async def call_outside(**kwargs: Any) -> None:  # a concurrent one is given no session
        await do(outer, method)

    outer = session
    for method in METHODS:
        for receiver in (call, call_inside, call_outside):
            is_concurrent = receiver is call_outside
            post_save.connect(receiver, sender=Account, phase=phase, concurrent=is_concurrent)
            account = Account(name=method)
            session.add(account)
            await session.flush()
            await do(session, "commit" if phase == "after_commit" else "rollback")
            post_save.disconnect(receiver, sender=Account)
            check(failures, method)
            assert kept in session
            assert (account in session) is (phase == "after_commit")
            assert_nothing_is_left(session)


@pytest.mark.parametrize("register", [on_commit, on_rollback])
async def test_callbacks_are_refused_likewise(
    register: Any, session: AsyncSession, failures: list[BaseException]
) -> None:
    """One that on_commit() or on_rollback() calls is like a receiver; so are threads it asks."""
    kept = Account(name="kept")
    session.add(kept)
    await session.commit()

    async def in_a_thread() -> None:
        await asyncio.to_thread(session.sync_session.expunge_all)

    for callback, method in ((session.close, "close"), (in_a_thread, "expunge_all")):
        await session.connection()
        register(session, callback)
        await do(session, "commit" if register is on_commit else "rollback")
        check(failures, method)
        assert kept in session
    assert_nothing_is_left(session)


def test_a_scoped_session_is_not_removed(
    sync_engine: Engine, failures: list[BaseException]
) -> None:
    """Removing it from its registry would close it; the registry keeps it."""
    Base.metadata.create_all(sync_engine)
    scoped = scoped_session(sessionmaker(sync_engine))
    own = scoped()
    for method in ("remove", "close", "rollback"):
        on_commit(scoped, getattr(scoped, method))
        scoped.add(Account(name=method))
        scoped.commit()
        check(failures, "close" if method == "remove" else method)
        assert scoped() is own
    assert_nothing_is_left(own)
    scoped.remove()


def test_a_receiver_of_a_receiver_is_refused_too(
    sync_engine: Engine, plain: Session, failures: list[BaseException]
) -> None:
    """What a receiver commits has receivers in turn; its own session is its own to close."""

    def commit_another() -> None:
        with Session(sync_engine) as other:
            on_commit(other, plain.close)
            other.add(Account(name="other"))
            other.commit()
            assert_closes(other)

    def assert_closes(other: Session) -> None:
        assert len(other.scalars(select(Account)).all()) == 2
        other.close()
        assert not list(other)

    account = Account(name="first")
    on_commit(plain, commit_another)
    plain.add(account)
    plain.commit()
    check(failures, "close")
    assert account in plain
    assert_nothing_is_left(plain)


async def test_who_has_committed_may_close_meanwhile(
    session: AsyncSession, failures: list[BaseException]
) -> None:
    """Another task, which no receiver has started, ends and empties the session as ever."""
    started, go = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        started.set()
        await go.wait()

    account = Account(name="a")
    session.add(account)
    on_commit(session, wait)
    task = asyncio.create_task(session.commit())
    await started.wait()
    assert account in session
    for method in ("rollback", "expunge_all", "reset", "invalidate", "close"):
        await do(session, method)
    assert account not in session
    go.set()
    await task
    assert failures == []
    assert_nothing_is_left(session)
    assert await session.scalar(select(func.count(Account.id))) == 1


async def test_a_cancelled_block_closes_its_session_meanwhile(
    session: AsyncSession, async_engine: AsyncEngine, failures: list[BaseException]
) -> None:
    """Where SQLAlchemy commits in a task of its own, the block is left while receivers run."""
    started, go = asyncio.Event(), asyncio.Event()
    own: list[AsyncSession] = []

    async def wait() -> None:
        started.set()
        await go.wait()

    async def write() -> None:
        async with async_sessionmaker(async_engine).begin() as begun:
            own.append(begun)
            begun.add(Account(name="a"))
            on_commit(begun, wait)

    task = asyncio.create_task(write())
    await started.wait()
    task.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    while "close" in vars(own[0].sync_session):  # the delivery is under way
        await asyncio.sleep(0)
    assert failures == []
    assert_nothing_is_left(own[0])
    assert await session.scalar(select(func.count(Account.id))) == 1


def test_another_thread_may_close_meanwhile(plain: Session, failures: list[BaseException]) -> None:
    """One that is no receiver's: it doesn't run in a copy of the receiver's context."""

    def close() -> None:
        thread = threading.Thread(target=plain.expunge_all)
        thread.start()
        thread.join()

    account = Account(name="a")
    plain.add(account)
    on_commit(plain, close)
    plain.commit()
    assert account not in plain
    assert failures == []


async def test_a_task_that_outlives_the_delivery_may_close(session: AsyncSession) -> None:
    """Once the receivers are through, nothing is refused any more, also in what they have begun."""
    tasks: list[asyncio.Task[Any]] = []
    go = asyncio.Event()

    async def close() -> None:
        await go.wait()
        await session.close()

    account = Account(name="a")
    session.add(account)
    on_commit(session, lambda: tasks.append(asyncio.create_task(close())))
    await session.commit()
    assert account in session
    go.set()
    await tasks[0]
    assert account not in session

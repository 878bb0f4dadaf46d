"""Which session a write goes through, step by step; no database is asked."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from kit.models import Author, Base, Post
from sqlalchemy import text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from aksara_signals import InvalidOptionError, NoSessionError
from aksara_signals.orm import on_commit, session_scope
from aksara_signals.orm.session.current import (
    ActiveSession,
    in_receiver_of,
    outside_of_sessions,
    run_sync,
    session_for,
    sync_session_of,
    user_session,
)


async def found(model: type = Post, **options: Any) -> Session | None:
    """The session that a write would go through, if there is one."""
    try:
        async with session_for(model, **options) as session:
            return session
    except NoSessionError:
        return None


def test_every_kind_of_session_is_taken() -> None:
    """For each there is one plain session that does the work, and one that the user knows."""
    plain, waiting = Session(), AsyncSession()
    assert sync_session_of(plain) is plain
    assert sync_session_of(waiting) is waiting.sync_session
    scoped = scoped_session(sessionmaker())
    assert sync_session_of(scoped) is scoped()
    async_scoped = async_scoped_session(async_sessionmaker(), lambda: 1)
    assert sync_session_of(async_scoped) is async_scoped().sync_session
    assert user_session(plain) is plain
    assert user_session(waiting.sync_session) is waiting
    for wrong in (sessionmaker(), "session", AsyncSession):
        with pytest.raises(InvalidOptionError, match="it takes a Session or an AsyncSession"):
            sync_session_of(wrong)


async def test_the_steps_come_in_order() -> None:
    """Given, the instance's own, at work, the scope's; each gives way to those before it."""
    given, own, at_work, scope = (Session() for _ in range(4))
    post = Post(title="x")
    assert await found() is None
    async with session_scope(scope) as entered:
        assert entered is scope
        assert await found() is scope
        work = ActiveSession(at_work)
        assert await found() is at_work
        assert await found(instance=post) is at_work
        own.add(post)
        assert await found(instance=post) is own
        assert await found(given=given, instance=post) is given
        work.end()
        assert await found() is scope
        async with session_scope(given):
            assert await found() is given
        assert await found() is scope
    assert await found() is None


async def test_a_scope_ends_with_an_error_too() -> None:
    """And what is no session makes none."""
    with pytest.raises(ZeroDivisionError):
        async with session_scope(Session()):
            raise ZeroDivisionError
    assert await found() is None
    with pytest.raises(InvalidOptionError):
        async with session_scope("session"):
            raise AssertionError
    assert await found() is None


async def test_the_session_at_work_is_for_its_own_task_and_thread() -> None:
    """A task or thread that a receiver starts finds no session in its hands."""
    session = Session()
    work = ActiveSession(session)
    assert work.is_here
    assert await found() is session
    assert await asyncio.create_task(found()) is None
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(asyncio.run(found())))
    thread.start()
    thread.join()
    assert seen == [None]
    work.end()
    assert not work.is_here
    assert await found() is None


def test_a_thread_without_an_event_loop_has_its_own_session_at_work() -> None:
    """Where there is no task, the thread alone decides."""
    work = ActiveSession(Session())
    here: list[bool] = [work.is_here]
    thread = threading.Thread(target=lambda: here.append(work.is_here))
    thread.start()
    thread.join()
    work.end()
    assert here == [True, False]
    assert not work.is_here


async def test_work_stands_inside_of_work() -> None:
    """The inner one's end brings the outer one back; an ended one holds nothing any more."""
    outer, inner = Session(), Session()
    first = ActiveSession(outer)
    second = ActiveSession(inner)
    assert (in_receiver_of(outer), in_receiver_of(inner)) == (True, True)
    assert await found() is inner
    second.end()
    assert (in_receiver_of(outer), in_receiver_of(inner)) == (True, False)
    assert await found() is outer
    with outside_of_sessions():
        assert await found() is None
    assert await found() is outer
    first.end()
    assert not in_receiver_of(outer)
    for each in (first, second):
        assert each.session is each.task is None
        assert not hasattr(each, "_token")  # it would hold the one before
        assert each.is_over


async def test_what_is_outside_of_sessions_finds_no_scope_either() -> None:
    """Until it has ended, with an error as well."""
    scope = Session()
    async with session_scope(scope):
        with pytest.raises(ZeroDivisionError), outside_of_sessions():
            assert await found() is None
            raise ZeroDivisionError
        assert await found() is scope


async def test_a_factory_counts_for_subclasses_until_it_is_taken_back() -> None:
    """The nearest class decides; its session keeps what it has at a commit."""
    made: list[dict[str, Any]] = []

    def factory(**options: Any) -> Session:
        made.append(options)
        return Session(**options)

    Base.bind_sessions(factory)
    Post.bind_sessions(other := sessionmaker())
    try:
        assert await found(Author) is not None
        assert made == [{"expire_on_commit": False}]
        assert (await found(Post)).__class__ is other.class_
        assert len(made) == 1
        Post.bind_sessions(None)
        Post.bind_sessions(None)
        assert await found(Post) is not None
        assert len(made) == 2
        with pytest.raises(InvalidOptionError, match=r"Post.bind_sessions\(\) was given 3"):
            Post.bind_sessions(3)
    finally:
        Base.bind_sessions(None)
    assert await found(Post) is None


async def test_work_is_done_where_the_session_wants_it() -> None:
    """In a greenlet for an AsyncSession, here and now for a plain one."""
    plain, waiting = Session(), AsyncSession()
    assert await run_sync(plain, lambda session: session) is plain
    assert await run_sync(waiting.sync_session, lambda session: session) is waiting.sync_session
    own = run_sync(plain, lambda session: threading.get_ident())
    with pytest.raises(StopIteration) as stop:
        own.send(None)
    assert stop.value.value == threading.get_ident()


async def test_a_scope_is_for_blocks_and_functions_of_both_kinds(async_engine: AsyncEngine) -> None:
    """Code that can't await enters it with ``with``."""
    async with AsyncSession(async_engine) as session:
        called: list[str] = []
        scope = session_scope(session)
        with scope as entered:
            assert entered is session
            on_commit(lambda: called.append("block"))

        @scope
        def register() -> None:
            on_commit(lambda: called.append("function"))

        @scope
        async def register_async() -> None:
            on_commit(lambda: called.append("async function"))

        register()
        await register_async()
        await session.execute(text("SELECT 1"))
        await session.commit()
    assert called == ["block", "function", "async function"]
    with pytest.raises(InvalidOptionError, match="session= was given None"), session_scope(None):  # type: ignore[arg-type]
        raise AssertionError("entered")

"""A session that two tasks or threads share, which SQLAlchemy forbids: it can be used again."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest.mock import patch

import pytest
from kit.models import Base, Post
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import InvalidRequestError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from aksara_signals import SessionInUseError, post_save, pre_save
from aksara_signals.orm import on_commit, on_rollback
from aksara_signals.orm.bridge.shadowing import beneath, restore, shadow, shadows_of

COMMIT = "after_commit"


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """A session that several tasks of a test use."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture
def plain(sync_engine: Engine) -> Iterator[Session]:
    """A session that several threads of a test use."""
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        yield session


class Gate:
    """A receiver that waits until it may go on."""

    def __init__(self) -> None:
        self.is_inside = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def __call__(self, **kwargs: Any) -> None:
        self.is_inside.set()
        await self.may_go_on.wait()


async def save(session: AsyncSession, title: str) -> None:
    session.add(Post(title=title))
    await session.flush()


def is_untouched(session: AsyncSession | Session) -> bool:
    """Whether nothing of the session's methods is refused any more."""
    plain = session.sync_session if isinstance(session, AsyncSession) else session
    return not {
        name
        for name in vars(plain)
        if name in dir(Session) and callable(getattr(Session, name)) and name != "dispatch"
    }


async def assert_usable(session: AsyncSession, engine: AsyncEngine) -> None:
    assert is_untouched(session)
    await session.rollback()
    session.add(Post(title="afterwards"))
    await session.commit()
    await session.close()
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("tasks", [2, 3])
async def test_it_is_not_locked_for_ever(
    session: AsyncSession, engine: AsyncEngine, tasks: int
) -> None:
    """The last task may finish first: once no task is in a receiver, every method is allowed."""

    @post_save(Post)
    async def wait(instance: Post, session: AsyncSession, **kwargs: Any) -> None:
        await asyncio.sleep(0.06 / instance.id)
        await session.flush()
        await asyncio.sleep(0.03 / instance.id)

    async def write(number: int) -> None:
        await asyncio.sleep(0.01 * number)
        session.add(Post(id=number, title="x"))
        await session.scalars(select(Post))

    await asyncio.gather(*map(write, range(1, tasks + 1)), return_exceptions=True)
    await assert_usable(session, engine)


@pytest.mark.parametrize("signal", [pre_save, post_save])
@pytest.mark.parametrize("method", ["commit", "rollback", "reset", "invalidate"])
async def test_another_task_is_named(
    session: AsyncSession, engine: AsyncEngine, signal: Any, method: str
) -> None:
    """What is refused to another task than the receiver's isn't blamed on a receiver."""
    gate = signal.connect(Gate(), sender=Post)
    task = asyncio.create_task(save(session, "x"))
    await gate.is_inside.wait()
    with pytest.raises(SessionInUseError, match=rf"{method}\(\) was called by another task"):
        await getattr(session, method)()
    gate.may_go_on.set()
    await task
    await session.commit()
    await assert_usable(session, engine)


@pytest.mark.parametrize("method", ["flush", "commit"])
async def test_another_task_connects_before_the_write_or_after_it(
    session: AsyncSession, engine: AsyncEngine, method: str
) -> None:
    """A write that finds it waiting for a new connection would fail, and lock the session."""
    await engine.dispose()  # so that a connection has to be opened, which takes a while
    gate = pre_save.connect(Gate(), sender=Post)
    session.add(Post(title="x"))
    task = asyncio.create_task(getattr(session, method)())
    await gate.is_inside.wait()
    other = asyncio.create_task(session.execute(text("SELECT 1")))
    await asyncio.sleep(0)
    gate.may_go_on.set()
    with pytest.raises(SessionInUseError, match="connection was requested by another task"):
        await other
    await task
    assert await session.scalar(text("SELECT 1")) == 1
    await session.commit()
    await assert_usable(session, engine)


async def test_another_task_may_read_where_there_is_a_connection(session: AsyncSession) -> None:
    """SQLAlchemy answers it, as it does without receivers."""
    gate = pre_save.connect(Gate(), sender=Post)
    await session.execute(text("SELECT 1"))
    session.add(Post(title="x"))
    task = asyncio.create_task(session.commit())
    await gate.is_inside.wait()
    assert await session.scalar(text("SELECT 1")) == 1
    gate.may_go_on.set()
    await task


async def test_a_task_of_the_receiver_is_no_other(session: AsyncSession) -> None:
    """A receiver that commits in a task of its own gets the same error as any receiver."""

    @post_save(Post)
    async def commit(session: AsyncSession, **kwargs: Any) -> None:
        for method in ("commit", "close"):
            with pytest.raises(SessionInUseError, match="called by a receiver inside a flush"):
                await asyncio.create_task(getattr(session, method)())

    await save(session, "x")


async def test_sqlalchemy_answers_a_flush_by_another_task(
    session: AsyncSession, engine: AsyncEngine
) -> None:
    """To another task the session goes on flushing, until receivers have flushed themselves."""
    gate = post_save.connect(Gate(), sender=Post)
    task = asyncio.create_task(save(session, "x"))
    await gate.is_inside.wait()
    session.add(Post(title="y"))
    with pytest.raises(InvalidRequestError, match="already flushing"):
        await session.flush()
    gate.may_go_on.set()
    await task
    await session.commit()
    assert len((await session.scalars(select(Post))).all()) == 2
    await assert_usable(session, engine)


async def test_a_flush_by_another_task_is_refused_behind_a_receivers_own(
    session: AsyncSession, engine: AsyncEngine
) -> None:
    """Then SQLAlchemy would let it through, into the middle of the other one."""
    gate = Gate()

    @post_save(Post)
    async def wait(instance: Post, session: AsyncSession, **kwargs: Any) -> None:
        if instance.slug is None:
            instance.slug = "x"
            await session.flush()
            await gate()

    task = asyncio.create_task(save(session, "x"))
    await gate.is_inside.wait()
    session.add(Post(title="y", slug="y"))
    with pytest.raises(SessionInUseError, match="a flush was requested by another task"):
        await session.flush()
    gate.may_go_on.set()
    await task
    await session.commit()
    assert len((await session.scalars(select(Post))).all()) == 2
    await assert_usable(session, engine)


async def test_a_block_that_is_left_closes_its_session(engine: AsyncEngine) -> None:
    """Its connection is back in the pool, and the task left behind learns who has done it."""
    gate = post_save.connect(Gate(), sender=Post)
    with pytest.raises(ZeroDivisionError):
        async with AsyncSession(engine) as session:
            task = asyncio.create_task(save(session, "x"))
            await gate.is_inside.wait()
            raise ZeroDivisionError
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    gate.may_go_on.set()
    with pytest.raises((SessionInUseError, SQLAlchemyError)) as caught:
        await task
    errors = [caught.value, caught.value.__context__, caught.value.__cause__]
    assert any("ended by another task" in str(each) for each in errors)
    await assert_usable(session, engine)
    async with AsyncSession(engine) as session:
        assert (await session.scalars(select(Post.title))).all() == ["afterwards"]


async def test_what_the_user_has_put_there_is_there_again(session: AsyncSession) -> None:
    """A mock of a session's method is hidden while receivers run, and no longer."""
    gate = post_save.connect(Gate(), sender=Post)
    with (
        patch.object(session.sync_session, "commit") as commit,
        patch.object(session.sync_session, "close") as close,
    ):
        task = asyncio.create_task(save(session, "x"))
        await gate.is_inside.wait()
        await session.close()  # another task may
        with pytest.raises(SessionInUseError):
            await session.commit()
        gate.may_go_on.set()
        await task
        await session.commit()
        assert commit.called
        assert close.call_count == 1
    assert is_untouched(session)


@pytest.mark.parametrize("phase", [COMMIT, "after_rollback"])
async def test_another_task_and_the_ended_session(
    session: AsyncSession, engine: AsyncEngine, phase: str
) -> None:
    """While receivers run that waited for the outcome, another task is named, too."""
    gate = post_save.connect(Gate(), sender=Post, phase=phase)
    await save(session, "x")
    task = asyncio.create_task(session.commit() if phase == COMMIT else session.rollback())
    await gate.is_inside.wait()
    with pytest.raises(SessionInUseError, match="another task used a session"):
        await session.execute(text("select 1"))
    with pytest.raises(SessionInUseError, match="another task defers receivers in a session"):
        on_commit(session, lambda: None)
    gate.may_go_on.set()
    await task
    await assert_usable(session, engine)


class Refusing:
    """An object that forbids methods of a session."""

    ended_by = None

    def __init__(self, methods: dict[str, Any]) -> None:
        self.methods = methods


def test_refusals_are_undone_in_any_order() -> None:
    """A method is the latest one's who still refuses it, and in the end the session's own."""
    names = ("begin", "commit", "rollback", "close")
    for seed in range(100):
        chance, session = random.Random(seed), Session()
        own = {name: object() for name in names if chance.random() < 0.2}
        vars(session).update(own)
        before, active = dict(vars(session)), list[Refusing]()
        for _ in range(20):
            if active and chance.random() < 0.5:
                restore(session, active.pop(chance.randrange(len(active))))
            else:
                refused = chance.sample(names, chance.randint(1, 4))
                active.append(Refusing({name: object() for name in refused}))
                shadow(session, active[-1])
            for name in names:
                latest = [each.methods[name] for each in active if name in each.methods]
                expected = [*([own[name]] if name in own else [None]), *latest][-1]
                assert vars(session).get(name) is expected
                found = own[name] if name in own else getattr(Session, name).__get__(session)
                for each in active:
                    if name in each.methods:
                        assert beneath(session, each, name) == found
                        found = each.methods[name]
            assert shadows_of(session) == active
        for each in active:
            restore(session, each)
            assert beneath(session, each, "close") == session.close
        assert dict(vars(session)) == before


def test_a_session_shared_by_threads(plain: Session) -> None:
    """Another thread is named, may close the session, and leaves one that works."""
    is_inside, may_go_on = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    @post_save(Post)
    def wait(**kwargs: Any) -> None:
        is_inside.set()
        assert may_go_on.wait(10)

    def write() -> None:
        try:
            plain.add(Post(title="x"))
            plain.flush()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    assert is_inside.wait(10)
    with pytest.raises(SessionInUseError, match=r"commit\(\) was called by another thread"):
        plain.commit()
    with pytest.raises(InvalidRequestError, match="already flushing"):
        plain.flush()
    may_go_on.set()
    thread.join()
    plain.rollback()
    assert is_untouched(plain)
    assert errors == []
    assert plain.scalars(select(Post)).all() == []


def test_receivers_of_two_sessions_inside_one_another(plain: Session) -> None:
    """A receiver of the inner one that meddles with the outer one is no other thread."""
    called: list[str] = []

    @post_save(Post)
    def read_elsewhere(**kwargs: Any) -> None:
        with Session(plain.get_bind()) as inner:
            on_rollback(inner, meddle)
            inner.scalars(select(Post)).all()

    def meddle() -> None:
        for method in (plain.commit, plain.close):
            with pytest.raises(SessionInUseError, match="by a receiver inside a flush"):
                method()
        called.append("meddled")

    plain.add(Post(title="outer"))
    plain.commit()
    assert called == ["meddled"]

"""How a flush runs its receivers: without endless recursion, sync or async, and when time is up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kit.models import Audit, Author, Base, Post, titles
from sqlalchemy import select, text
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import FlushError

from aksara_signals import AsyncReceiverError, SignalRecursionError, post_save, pre_save
from aksara_signals.orm.bridge import handover

# -- recursion ------------------------------------------------------------------------------------


async def test_endless_saving_is_stopped(session: AsyncSession) -> None:
    """A receiver that saves its own instance again and again is stopped, and shown."""

    @post_save(Post)
    async def again(instance: Post, **kwargs: Any) -> None:
        instance.title += "!"
        await instance.save()

    session.add(Post(title="a"))
    with pytest.raises(
        SignalRecursionError, match=r"post_save sent by kit\.models\.Post 1 to .*again"
    ):
        await session.commit()
    await session.rollback()
    assert await titles(session) == []


def test_endless_saving_is_stopped_in_a_plain_session(sync_engine: Any) -> None:
    """The guard comes before Python's own limit, also where flushes pile up on one stack."""
    Base.metadata.create_all(sync_engine)

    @post_save(Post)
    def again(instance: Post, session: Session, **kwargs: Any) -> None:
        instance.title += "!"
        session.flush()

    with Session(sync_engine) as session:
        session.add(Post(title="a"))
        with pytest.raises(SignalRecursionError):
            session.commit()
        session.rollback()


async def test_flushes_that_cause_one_another_are_counted_by_sqlalchemy(
    session: AsyncSession,
) -> None:
    """A commit whose every flush leaves something to flush ends as it does without receivers."""
    flushes: list[str] = []

    @post_save(Post)
    async def touch(instance: Post, **kwargs: Any) -> None:
        instance.title += "!"
        flushes.append(instance.title)

    session.add(Post(title="a"))
    with pytest.raises(FlushError, match="Over 100 subsequent flushes"):
        await session.commit()
    assert len(flushes) == 100
    await session.rollback()
    assert await titles(session) == []


async def test_a_long_chain_of_flushes_in_one_commit_is_no_recursion(
    session: AsyncSession,
) -> None:
    """Each of ninety flushes may leave a row for the next one: SQLAlchemy allows a hundred."""

    @post_save(Audit)
    async def go_on(instance: Audit, session: AsyncSession, **kwargs: Any) -> None:
        if instance.id < 90:
            session.add(Audit(id=instance.id + 1, text="next"))

    session.add(Audit(id=1, text="first"))
    await session.commit()
    assert (await session.execute(text("select count(*) from audit"))).scalar_one() == 90


async def test_rounds_without_end_are_stopped(session: AsyncSession) -> None:
    """Pre receivers that always add something new are stopped, and shown."""

    @pre_save(Audit)
    async def more(session: AsyncSession, **kwargs: Any) -> None:
        session.add(Audit(text="more"))

    session.add(Audit(text="a"))
    with pytest.raises(SignalRecursionError, match="successive rounds of one flush") as error:
        await session.flush()
    assert "more" in str(error.value)
    await session.rollback()


async def test_an_honest_chain_is_let_through(session: AsyncSession) -> None:
    """Twenty saves inside one another are no recursion."""

    @post_save(Post)
    async def next_one(instance: Post, session: AsyncSession, **kwargs: Any) -> None:
        number = int(instance.title)
        if number < 20:
            await Post(title=str(number + 1)).save(session)

    session.add(Post(title="1"))
    await session.commit()
    assert await titles(session) == [str(number) for number in range(1, 21)]


async def test_many_receivers_that_flush_are_no_recursion(session: AsyncSession) -> None:
    """Any number of receivers of one commit may flush for themselves."""

    @post_save(Post)
    async def audit(session: AsyncSession, **kwargs: Any) -> None:
        session.add(Audit(text="x"))
        await session.flush()

    session.add_all([Post(title=str(number)) for number in range(120)])
    await session.commit()
    assert len((await session.scalars(select(Audit))).all()) == 120


async def test_many_flushes_of_a_session_are_no_recursion(session: AsyncSession) -> None:
    """Flushes are counted within one commit only."""

    @post_save(Post)
    async def receive(**kwargs: Any) -> None: ...

    for number in range(120):
        session.add(Post(title=str(number)))
        await session.flush()
    await session.commit()
    for number in range(120):
        session.add(Post(title=str(number)))
        await session.flush()
    await session.commit()


# -- sync and async receivers ---------------------------------------------------------------------


async def test_sync_receivers_load_lazily_among_async_ones(session: AsyncSession) -> None:
    """Sync receivers run in the flush's greenlet, where relationships load; order is kept."""
    author = Author(name="Ada")
    session.add(author)
    await session.commit()
    order: list[str] = []

    @post_save(Post)
    async def first(**kwargs: Any) -> None:
        await asyncio.sleep(0)
        order.append("first")

    @post_save(Post)
    def second(instance: Post, **kwargs: Any) -> None:
        assert instance.author is not None
        order.append(f"second {instance.author.name}")

    @post_save(Post)
    async def third(**kwargs: Any) -> None:
        order.append("third")

    @post_save(Post)
    def fourth(**kwargs: Any) -> Any:
        async def later() -> None:
            await asyncio.sleep(0)
            order.append("fourth")

        return later()

    session.add(Post(title="a", author_id=(await session.scalars(select(Author.id))).one()))
    await session.commit()
    assert order == ["first", "second Ada", "third", "fourth"]


async def test_one_hand_over_for_the_whole_flush(
    session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Async receivers of all objects of a flush are awaited in one hand-over a phase."""
    hand_overs: list[Any] = []
    original = handover.await_only

    def counted(awaitable: Any) -> Any:
        hand_overs.append(awaitable)
        return original(awaitable)

    monkeypatch.setattr(handover, "await_only", counted)

    @pre_save
    async def before(**kwargs: Any) -> None: ...

    @post_save
    async def after(**kwargs: Any) -> None: ...

    session.add_all([Post(title=str(number)) for number in range(20)])
    session.add_all([Author(name=str(number)) for number in range(20)])
    await session.commit()
    assert len(hand_overs) == 2


async def test_sync_receivers_need_no_hand_over(
    session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only sync receivers are connected, the flush never leaves its greenlet for them."""
    monkeypatch.setattr(handover, "await_only", None)

    @post_save(Post)
    def receive(**kwargs: Any) -> None: ...

    session.add(Post(title="a"))
    await session.commit()


async def test_concurrent_receivers_get_no_session(session: AsyncSession) -> None:
    """Concurrent receivers of a model signal run together, after the others, without a session."""
    order: list[Any] = []
    meeting = asyncio.Barrier(2)

    async def meet(instance: Post, session: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(10):
            await meeting.wait()
        order.append(session)

    async def meet_too(instance: Post, session: Any, **kwargs: Any) -> None:
        await meet(instance, session)

    post_save.connect(meet, sender=Post, concurrent=True)
    post_save.connect(meet_too, sender=Post, concurrent=True)

    @post_save(Post)
    async def alone(session: Any, **kwargs: Any) -> None:
        order.append(session)

    session.add(Post(title="a"))
    await session.commit()
    assert order == [session, None, None]


def test_an_async_receiver_that_waits_is_refused_by_a_plain_session(sync_engine: Any) -> None:
    """A receiver of a plain session can't wait; the error says so, and the session goes on."""
    Base.metadata.create_all(sync_engine)

    @post_save(Post)
    async def ready(**kwargs: Any) -> None: ...

    @post_save(Audit)
    async def waiting(**kwargs: Any) -> None:
        await asyncio.sleep(0)

    with Session(sync_engine) as session:
        session.add(Post(title="a"))
        session.commit()
        session.add(Audit(text="a"))
        with pytest.raises(AsyncReceiverError, match="AsyncSession"):
            session.commit()
        session.rollback()
        assert session.scalars(select(Post.title)).all() == ["a"]
        assert session.scalars(select(Audit)).all() == []


# -- time-outs and cancellation -------------------------------------------------------------------


async def test_a_time_out_in_pre_save_leaves_the_object_pending(session: AsyncSession) -> None:
    """The session stays active, and the object can be written afterwards."""

    @pre_save(Post)
    async def slow(**kwargs: Any) -> None:
        await asyncio.sleep(60)

    post = Post(title="a")
    session.add(post)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await session.flush()
    assert session.is_active
    assert post in session.new
    pre_save.disconnect(slow, sender=Post)
    await session.commit()
    assert await titles(session) == ["a"]


async def test_a_cancellation_in_post_save_asks_for_a_rollback(session: AsyncSession) -> None:
    """Nothing is written, and after rollback() the session works."""
    started = asyncio.Event()

    @post_save(Post)
    async def slow(**kwargs: Any) -> None:
        started.set()
        await asyncio.sleep(60)

    session.add(Post(title="a"))
    task = asyncio.create_task(session.flush())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(PendingRollbackError):
        await titles(session)
    await session.rollback()
    post_save.disconnect(slow, sender=Post)
    session.add(Post(title="b"))
    await session.commit()
    assert await titles(session) == ["b"]

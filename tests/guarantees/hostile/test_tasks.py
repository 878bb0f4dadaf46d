"""Receivers that start tasks and loops, sleep, cancel and recurse."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kit import databases
from kit.misfits import WAYS, Account, Base, assert_nothing_is_left, send
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from aksara_signals import Signal, SignalRecursionError, on_delivery_error, post_save
from aksara_signals.dispatch.delivery.frame import MAX_DEPTH, get_current


@pytest.fixture
async def session(async_engine: AsyncEngine) -> Any:
    await databases.create_all(async_engine, Base.metadata)
    async with AsyncSession(async_engine) as session:
        yield session


async def names(session: AsyncSession) -> list[str]:
    return [*await session.scalars(select(Account.name).order_by(Account.id))]


@pytest.mark.parametrize("way", ["send", "send_robust"])
async def test_a_task_that_outlives_the_send_may_send(way: str) -> None:
    """A chain of tasks, each started by the receiver before, is no recursion, however long."""
    signal = Signal("chained")
    tasks: list[asyncio.Task[Any]] = []
    depths: list[int] = []

    @signal.connect
    async def spawn(depth: int, **kwargs: Any) -> None:
        depths.append(depth)
        if depth < 3 * MAX_DEPTH:
            tasks.append(asyncio.create_task(send(signal, way, depth=depth + 1)))

    await send(signal, way, depth=1)
    while len(depths) < 3 * MAX_DEPTH:
        await asyncio.gather(*tasks)
    assert depths[-1] == 3 * MAX_DEPTH
    assert get_current() is None


@pytest.mark.parametrize("way", WAYS)
async def test_recursion_ends(way: str) -> None:
    """One that sends its own signal is stopped, by every way of sending, inside a robust one too."""
    signal = Signal("recursive")
    count: list[int] = []

    def again(**kwargs: Any) -> Any:
        count.append(1)
        return getattr(signal, way)(None)

    signal.connect(again)
    if "robust" in way:
        await send(signal, way)
    else:
        with pytest.raises(SignalRecursionError):
            await send(signal, way)
    assert len(count) == MAX_DEPTH
    assert get_current() is None


@pytest.mark.parametrize("way", ["send", "send_robust"])
@pytest.mark.parametrize("concurrent", [False, True])
async def test_one_that_sleeps_forever_can_be_cancelled(way: str, concurrent: bool) -> None:
    """A time-out around the send ends it, and leaves nothing behind."""
    signal = Signal("sleepy")

    @signal.connect(concurrent=concurrent)
    async def sleep(**kwargs: Any) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await send(signal, way)
    assert get_current() is None


async def test_a_time_limit_inside_a_receiver_is_its_own() -> None:
    """asyncio.timeout() in a receiver ends that receiver's wait, and the send goes on."""
    signal = Signal("limited")

    @signal.connect
    async def sleep(**kwargs: Any) -> str:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            return "enough"
        return "never"

    [(_, response)] = await signal.send(None)
    assert response == "enough"


async def test_no_second_loop_in_a_thread(session: AsyncSession) -> None:
    """asyncio.run() in a receiver is refused by Python where a loop runs; send_sync works."""
    inner = Signal("inner")

    @inner.connect
    async def ready(**kwargs: Any) -> str:
        return "ready"

    answers: list[Any] = []

    @post_save(Account)
    def start(**kwargs: Any) -> None:
        answers.append(inner.send_sync(None)[0][1])
        program = ready()
        try:
            asyncio.run(program)
        finally:
            program.close()

    session.add(Account(name="a"))
    with pytest.raises(RuntimeError, match="running event loop"):
        await session.commit()
    await session.rollback()
    assert answers == ["ready"]
    assert await names(session) == []


def test_a_loop_of_its_own_where_none_runs() -> None:
    """In a synchronous send without a loop, a receiver may run one."""
    signal = Signal("looped")

    async def program() -> int:
        await asyncio.sleep(0)
        return 7

    signal.connect(lambda **kwargs: asyncio.run(program()))
    assert signal.send_sync(None)[0][1] == 7
    assert signal.send_robust_sync(None)[0][1] == 7


async def test_a_task_that_uses_the_session_later(session: AsyncSession) -> None:
    """Once the flush and the commit are over, a task that a receiver has started may use it."""
    tasks: list[asyncio.Task[Any]] = []
    go = asyncio.Event()

    @post_save(Account)
    async def spawn(session: AsyncSession, **kwargs: Any) -> None:
        async def use() -> Any:
            await go.wait()
            return await session.scalar(select(func.count(Account.id)))

        tasks.append(asyncio.create_task(use()))

    session.add(Account(name="a"))
    await session.commit()
    go.set()
    assert await tasks[0] == 1
    assert_nothing_is_left(session)


async def test_a_cancelled_commit_waits_for_those_after_it(session: AsyncSession) -> None:
    """Who waited runs to the end; a time limit ends the one that never would."""
    started = asyncio.Event()
    received: list[str] = []
    reported: list[Any] = []

    def report(error: Any, **kwargs: Any) -> None:
        reported.append(type(error))

    @post_save(Account, phase="after_commit", timeout_seconds=0.05)
    async def sleep(**kwargs: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    @post_save(Account, phase="after_commit")
    async def receive(**kwargs: Any) -> None:
        received.append("received")

    session.add(Account(name="a"))
    task = asyncio.create_task(session.commit())
    await started.wait()
    task.cancel()
    with on_delivery_error.connected_to(report), pytest.raises(asyncio.CancelledError):
        await task
    assert received == ["received"]
    assert reported == [TimeoutError]
    assert await names(session) == ["a"]


async def test_one_that_cancels_its_own_task_after_a_commit(session: AsyncSession) -> None:
    """The deliveries of that commit end there, and commit() says so; the rows stay."""
    received: list[str] = []

    @post_save(Account, phase="after_commit")
    async def cancel(**kwargs: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    @post_save(Account, phase="after_commit")
    async def receive(**kwargs: Any) -> None:
        received.append("received")

    session.add(Account(name="a"))
    with pytest.raises(asyncio.CancelledError):
        await session.commit()
    post_save.disconnect(cancel, sender=Account)
    assert await names(session) == ["a"]
    session.add(Account(name="b"))
    await session.commit()
    assert received == ["received"]

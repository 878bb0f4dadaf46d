"""Many tasks at once: each is silenced, and sent signals, for itself."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit.crowd import Base, Entry, queued
from kit.databases import Database, create_all
from kit.effort import times
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from aksara_signals import Signal, SignalContext, drain, post_save
from aksara_signals.dispatch.context import get_active_contexts
from aksara_signals.exceptions import InvalidOptionError

pytestmark = pytest.mark.slow


class Silenced:
    """A sender of its own."""


SENDERS = (Silenced, Entry, int)


@pytest.mark.parametrize("seed", range(3))
async def test_contexts_of_many_tasks_never_meet(seed: int) -> None:
    """Whatever tasks enter, leave in any order, hand to children and are cancelled in."""
    signal = Signal("silenced")
    signal.connect(lambda **kwargs: "received")
    chance = random.Random(seed)
    shared = {each: SignalContext.disable_for(each) for each in SENDERS}
    checked = 0

    def check(silenced: list[type]) -> None:
        nonlocal checked
        checked += 1
        for sender in SENDERS:
            assert bool(signal.send_sync(sender)) is (sender not in silenced)

    async def work(inherited: list[type], depth: int) -> None:
        entered = [*inherited]
        children: list[asyncio.Task[None]] = []
        try:
            for _ in range(8):
                check(entered)
                step = chance.random()
                if step < 0.4:
                    sender = chance.choice(SENDERS)
                    shared[sender].__enter__()
                    entered.append(sender)
                elif step < 0.7 and entered:
                    sender = entered.pop(chance.randrange(len(entered)))
                    shared[sender].__exit__(None, None, None)
                elif step < 0.8 and depth < 3:
                    children.append(asyncio.create_task(work(entered, depth + 1)))
                elif step < 0.9:
                    await shared[Silenced](decorated)(silenced=[*entered, Silenced])
                await asyncio.sleep(0)
            check(entered)
        finally:
            for each in children:
                if chance.random() < 0.5:
                    each.cancel()
            results = await asyncio.gather(*children, return_exceptions=True)
            assert not [each for each in results if isinstance(each, AssertionError)], results

    async def decorated(silenced: list[type]) -> None:
        check(silenced)
        await asyncio.sleep(0)
        check(silenced)

    for _ in range(times(5)):
        tasks = [asyncio.create_task(work([], 0)) for _ in range(10)]
        for each in tasks:
            await asyncio.sleep(0)
            if chance.random() < 0.3:
                each.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError), result
        check([])
        assert get_active_contexts() == ()
    assert checked > 100


async def test_a_cancelled_block_is_left() -> None:
    """A task that is cancelled inside contexts, at any of its awaits, goes on unsilenced."""
    signal = Signal("left")
    signal.connect(lambda **kwargs: "received")

    @SignalContext.disable_all()
    async def sleep() -> None:
        async with SignalContext.disable_for(Silenced):
            await asyncio.sleep(0)
        await asyncio.Event().wait()

    async def work() -> bool:
        try:
            with SignalContext.disable_for(Silenced):
                await sleep()
        except asyncio.CancelledError:
            return bool(signal.send_sync(Silenced)) and get_active_contexts() == ()
        raise AssertionError

    for steps in range(1, 1 + times(4)):
        task = asyncio.create_task(work())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        assert await task


async def test_a_context_inside_a_generator_stays_with_who_iterates() -> None:
    """An async generator can't be decorated; a block in it is left when the generator is closed."""
    signal = Signal("generated")
    signal.connect(lambda **kwargs: "received")
    quiet = SignalContext.disable_all()

    async def generate() -> AsyncIterator[int]:
        with quiet:
            for each in range(3):
                yield each

    with pytest.raises(InvalidOptionError):
        quiet(generate)
    generator = generate()
    assert await anext(generator) == 0
    assert not signal.send_sync()
    await generator.aclose()
    assert signal.send_sync()
    generator = generate()
    await anext(generator)
    closing = asyncio.get_running_loop().create_task(
        generator.aclose(), context=contextvars.Context()
    )
    await closing  # left elsewhere: nothing happens there, and nothing breaks here
    assert not signal.send_sync()
    quiet.__exit__(None, None, None)
    assert signal.send_sync()


@pytest.fixture
async def engine(database: Database) -> AsyncIterator[AsyncEngine]:
    """Empty tables, and fewer connections than there are tasks."""
    size = 1 if database.dialect == "sqlite" else 3
    engine = database.create_async_engine(pool_size=size, max_overflow=0, pool_timeout=120)
    await create_all(engine, Base.metadata)
    yield engine
    await engine.dispose()


async def test_sessions_of_many_tasks_are_kept_apart(engine: AsyncEngine) -> None:
    """Each task is sent, at once and after the outcome, its own session's rows and no others."""
    owner: contextvars.ContextVar[str] = contextvars.ContextVar("owner")
    sent: dict[str, list[str]] = {"committed": [], "rolled back": []}
    chance = random.Random(1)

    async def receive(instance: Entry, session: AsyncSession, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        assert instance.text.split()[0] == owner.get()
        assert instance in session
        assert await session.scalar(select(Entry.text).where(Entry.id == instance.id))

    def note(what: str) -> Any:
        async def receive_late(instance: Entry, **kwargs: Any) -> None:
            await asyncio.sleep(0)
            assert instance.text.split()[0] == owner.get()
            sent[what].append(instance.text)

        return receive_late

    post_save.connect(receive, sender=Entry)
    post_save.connect(note("committed"), sender=Entry, phase="after_commit")
    post_save.connect(note("rolled back"), sender=Entry, phase="after_rollback", concurrent=True)
    expected: dict[str, list[str]] = {"committed": [], "rolled back": []}

    async def write(name: str) -> None:
        owner.set(name)
        for each in range(times(4)):
            is_kept, is_silent = chance.random() < 0.6, chance.random() < 0.2
            text = f"{name} {each}"
            async with AsyncSession(engine) as session:
                session.add(Entry(text=text))
                if is_silent:
                    with SignalContext.disable_for(Entry):
                        await session.flush()
                await (session.flush() if is_kept else asyncio.sleep(0))
                if not is_kept and not is_silent:
                    await session.flush()
                await (session.commit() if is_kept else session.rollback())
                assert not queued(session)
            if not is_silent:
                expected["committed" if is_kept else "rolled back"].append(text)

    await asyncio.gather(*(write(f"task{each}") for each in range(8)))
    assert await drain() == 0
    assert {what: sorted(texts) for what, texts in sent.items()} == {
        what: sorted(texts) for what, texts in expected.items()
    }

"""When a cancellation is held back: from COMMIT to its answer, and at no other time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from kit.models import Post
from kit.support import Recorder
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only

from aksara_signals import post_save

Sessions = async_sessionmaker[AsyncSession]


def flush(session: Session) -> None:
    session.add(Post(title="x"))
    session.flush()


def commit(session: Session) -> None:
    flush(session)
    session.commit()


def commit_and_begin(session: Session) -> None:
    commit(session)
    session.execute(select(1))


@pytest.mark.parametrize("before", [flush, commit, commit_and_begin], ids=lambda it: it.__name__)
async def test_a_cancellation_outside_of_a_commit_takes_effect_at_once(
    sessions: Sessions, recorder: Recorder, before: Callable[[Session], None]
) -> None:
    """Whatever the greenlet waits for, though something waits for the outcome or has waited."""
    recorder.record(post_save, Post, phase="after_commit")
    reached, never = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        reached.set()
        await never.wait()

    def work(session: Session) -> None:
        before(session)
        await_only(wait())

    async def run() -> None:
        async with sessions() as session:
            await session.run_sync(work)

    task = asyncio.create_task(run())
    await reached.wait()
    task.cancel()
    _, late = await asyncio.wait((task,), timeout=5)
    never.set()
    assert not late
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(recorder.calls) == (0 if before is flush else 1)


async def test_an_error_is_handed_back_through_the_shield(
    sessions: Sessions, recorder: Recorder
) -> None:
    """What is awaited in the greenlet gives its result, or raises there, as without a shield."""
    recorder.record(post_save, Post, phase="after_commit")

    async def answer(value: Any) -> Any:
        await asyncio.sleep(0)
        if isinstance(value, Exception):
            raise value
        return value

    def work(session: Session) -> list[Any]:
        flush(session)
        answers = [await_only(answer(7))]
        with pytest.raises(ZeroDivisionError):
            await_only(answer(ZeroDivisionError()))
        session.commit()
        answers.append(await_only(answer(8)))
        return answers

    async with sessions() as session:
        assert await session.run_sync(work) == [7, 8]
    assert len(recorder.calls) == 1

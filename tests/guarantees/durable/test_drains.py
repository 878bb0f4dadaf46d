"""Rows that are delivered in the test's own transaction, while other tests do the same."""

from __future__ import annotations

import asyncio
from typing import Any

from kit.outbox_workers import Effect, Note, World, connect
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from aksara_signals.contrib.outbox import DurableEvent
from aksara_signals.testing import drain_outbox, pending, rolled_back


async def test_tests_run_side_by_side(world: World) -> None:
    """Tests that share a database neither see nor deliver one another's rows; nothing is left."""

    async def count(event: DurableEvent, session: AsyncSession, **kwargs: Any) -> None:
        session.add(Effect(note_id=event.key[0], by="x"))

    async def one_test(number: int) -> tuple[int, int]:
        async with rolled_back(world.engine) as session:
            session.add_all(Note(text=f"{number}") for _ in range(number))
            await session.commit()
            assert len(await pending(session)) == number
            called = await drain_outbox(session)
            await asyncio.sleep(0)
            assert await pending(session) == []
            effects = await session.scalar(select(func.count()).select_from(Effect))
            return called, effects or 0

    connect(count)
    async with asyncio.timeout(30):
        found = await asyncio.gather(*(one_test(number) for number in range(1, 6)))
    assert found == [(number, number) for number in range(1, 6)]
    assert await world.rows() == []
    assert await world.effects() == []


async def test_a_worker_runs_beside_a_test(world: World) -> None:
    """A worker of another process delivers what is committed, and nothing of the test."""

    async def count(event: DurableEvent, session: AsyncSession, **kwargs: Any) -> None:
        session.add(Effect(note_id=event.key[0], by="x"))

    connect(count)
    (key,) = await world.write("committed")
    await world.drain()
    async with rolled_back(world.engine) as session:
        session.add(Note(text="of a test"))
        await session.commit()
        assert await drain_outbox(session) == 1
    health = await world.drain()
    assert health["claimed"] == 0
    assert await world.effects() == [(key, "x")]

"""A receiver that is down for long: the others don't notice."""

from __future__ import annotations

import asyncio
from typing import Any

from kit.effort import times
from kit.outbox_workers import DEAD, DONE, Note, Unrelated, World, connect, eventually, table
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from aksara_signals import post_save
from aksara_signals.contrib.outbox import Durable, Retry

DOWN, OTHERS = times(2_000), 200


async def test_a_storm_of_retries_holds_nobody_up(world: World) -> None:
    """Behind thousands of rows of a receiver that fails, another's are delivered; then these, too."""
    is_down, calls, done = True, 0, 0

    async def search(**kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        if is_down:
            await asyncio.sleep(0.001)
            raise ConnectionError

    async def mail(**kwargs: Any) -> None:
        nonlocal done
        done += 1

    connect(search, Durable("storm.search", retry=Retry(attempts=3, first_seconds=0.01)))
    post_save.connect(mail, sender=Unrelated, durable="storm.mail")

    def write(session: Session) -> None:
        session.add_all(Note(text="x") for _ in range(DOWN))
        session.flush()
        session.add_all(Unrelated() for _ in range(OTHERS))

    async def count(*conditions: Any) -> int:
        statement = select(func.count()).select_from(table).where(*conditions)
        found: int = await world.run(lambda session: session.scalar(statement))
        return found

    async def is_drained() -> bool:
        return await count(table.c.status == DONE) == DOWN + OTHERS

    await world.run(write)
    async with world.worker():
        await eventually(lambda: done == OTHERS, 30)
        # After twenty failures its breaker is open, so that no more than the first claim is called.
        assert calls < 300
        is_down = False
        await eventually(is_drained, 60)
    assert await count(table.c.status == DEAD) == 0
    assert done == OTHERS

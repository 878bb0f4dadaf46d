"""Rows that are replayed while they, and others, are delivered."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from kit.outbox_workers import DONE, Effect, World, connect, eventually, outbox
from sqlalchemy.orm import Session

from aksara_signals.contrib.outbox import DurableEvent
from aksara_signals.contrib.outbox.rows import upkeep
from aksara_signals.contrib.outbox.rows.upkeep import Selection

ROUNDS, NOTES = 3, 20


async def test_replays_during_the_delivery(world: World) -> None:
    """Each row is delivered once for each of its generations, however a replay falls."""

    async def count(event: DurableEvent, session: Any, **kwargs: Any) -> None:
        session.add(Effect(note_id=event.key[0], by="x"))
        await session.flush()
        await asyncio.sleep(0)

    def replay(session: Session) -> int:
        return upkeep.replay(session.connection(), outbox.tables, Selection()).rows

    connect(count)
    replayed = 0
    async with world.worker(batch_size=10), world.worker(batch_size=10):
        for _ in range(ROUNDS):
            await world.write(*["x"] * NOTES)
            replayed += await world.run(replay)

        async def is_done() -> bool:
            statuses = await world.statuses()
            return len(statuses) == ROUNDS * NOTES and set(statuses) == {DONE}

        await eventually(is_done, 60)
        replayed += await world.run(replay)  # of all, while they are delivered again
        replayed += await world.run(replay)
        await eventually(is_done, 60)
    effects = Counter(note for note, _ in await world.effects())
    rows = await world.rows()
    assert {row.payload["key"][0]: row.generation + 1 for row in rows} == effects
    assert sum(row.generation for row in rows) == replayed >= ROUNDS * NOTES

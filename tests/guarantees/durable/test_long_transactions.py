"""A transaction of the application that stays open while workers run."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from kit.outbox_workers import DONE, Effect, Note, World, connect, eventually
from sqlalchemy import text
from sqlalchemy.orm import Session

from aksara_signals.contrib.outbox import DurableEvent

NOTES = 30


async def count(event: DurableEvent, session: Any, **kwargs: Any) -> None:
    session.add(Effect(note_id=event.key[0], by="x"))


async def test_a_transaction_stays_open(world: World) -> None:
    """A server's workers deliver what else is committed; SQLite's wait. Then its own rows come."""
    connect(count)
    is_open, may_end = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    is_server = world.database.dialect != "sqlite"

    def stay(session: Session) -> int:
        if world.database.dialect == "postgresql":  # as it is by default on MariaDB
            session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        note = Note(text="long")
        session.add(note)
        session.flush()
        loop.call_soon_threadsafe(is_open.set)
        assert may_end.wait(60)
        return note.id

    early = await world.write(*["early"] * NOTES)
    async with world.worker() as worker:
        transaction = asyncio.create_task(world.run(stay))
        try:
            await is_open.wait()
            if is_server:
                late = await world.write(*["late"] * NOTES)

                async def are_delivered() -> bool:
                    return len(await world.effects()) == 2 * NOTES

                await eventually(are_delivered)
            else:
                writing = asyncio.create_task(world.write(*["late"] * NOTES))
                # It waits, for longer than SQLite's own five seconds would be in a real test.
                await asyncio.wait([writing], timeout=0.5)
                assert not writing.done()
        finally:
            may_end.set()
            key = await transaction
        if not is_server:
            late = await writing

        async def is_done() -> bool:
            statuses = await world.statuses()
            return len(statuses) == 2 * NOTES + 1 and set(statuses) == {DONE}

        await eventually(is_done, 30)
        health = worker.health()
    assert sorted(note for note, _ in await world.effects()) == sorted([*early, *late, key])
    assert (health["failed"], health["lost_leases"], health["last_error"]) == (0, 0, None)

"""Tables and indexes stay small, however many rows have been through them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit.databases import postgresql_database
from kit.effort import times
from kit.outbox_workers import Note, World, connect, outbox, world_of
from sqlalchemy import URL, text
from sqlalchemy.orm import Session

from aksara_signals.contrib.outbox.rows import upkeep

ROUNDS, NOTES = 4, times(1_000)


@pytest.fixture
async def world(postgresql_server: URL) -> AsyncIterator[World]:
    """PostgreSQL's alone: an update is a new version of a row there."""
    with postgresql_database(postgresql_server) as database:
        async with world_of(database, is_async=True) as found:
            yield found


async def test_the_table_doesnt_grow_with_what_has_been_through(world: World) -> None:
    """After vacuum, which the table asks for early, it has the size that a tenth of it had."""

    async def receive(**kwargs: Any) -> None: ...

    def write(session: Session) -> None:
        session.add_all(Note(text="x") for _ in range(NOTES))

    def purge(session: Session) -> None:
        while upkeep.purge(session.connection(), outbox.tables, done_seconds=0, dead_seconds=0):
            pass

    async def size() -> int:
        statement = text("SELECT pg_total_relation_size('aksara_outbox')")
        return int(await world.run(lambda session: session.scalar(statement)))

    connect(receive)
    sizes: list[int] = []
    for _ in range(ROUNDS):
        await world.run(write)
        sizes.append(await size())
        await world.drain()
        await world.run(purge)
        async with world.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("VACUUM aksara_outbox"))
    assert await world.rows() == []
    assert sizes[-1] <= 3 * sizes[0], sizes

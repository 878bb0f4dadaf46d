"""A connection that is lost within COMMIT: of the writer, and of the worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from kit.cutting_proxy import AFTER, BEFORE, CuttingProxy, cutting_proxy
from kit.databases import Database, postgresql_database
from kit.outbox_workers import DONE, Effect, Note, World, connect, eventually, plain, world_of
from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from aksara_signals.contrib.outbox import Durable, DurableEvent, Retry

SOON = Retry(first_seconds=0.01, attempts=3)


@pytest.fixture
def database(postgresql_server: URL) -> Iterator[Database]:
    """PostgreSQL's alone: SQLite has no connection to lose."""
    with postgresql_database(postgresql_server) as found:
        yield found


@pytest.fixture
def proxy(database: Database) -> Iterator[CuttingProxy]:
    with cutting_proxy(database) as found:
        yield found


@pytest.fixture(params=[True, False], ids=["asyncpg", "psycopg"])
async def through(request: pytest.FixtureRequest, proxy: CuttingProxy) -> AsyncIterator[World]:
    """Sessions whose connections lead through the proxy."""
    found = World(proxy.database, request.param)
    yield found
    await found.dispose()


@pytest.mark.parametrize("how", [BEFORE, AFTER])
async def test_of_a_writer(
    database: Database, proxy: CuttingProxy, through: World, how: str
) -> None:
    """The row and what is stored for its receiver are both there, or neither is."""
    called: list[Any] = []

    async def receive(event: DurableEvent, **kwargs: Any) -> None:
        called.append(event.key[0])

    connect(receive)

    def write(session: Session) -> None:
        session.add(Note(text="x"))
        session.flush()
        proxy.cut = b"COMMIT", how

    async with world_of(database, is_async=True) as world:
        with pytest.raises(DBAPIError):
            if through.is_async:
                async with through.sessions.begin() as session:
                    await session.run_sync(write)
            else:
                with through.sessions.begin() as session:
                    write(session)
        await world.drain()
        notes = await world.run(lambda session: [note.id for note in session.query(Note)])
        assert len(notes) == (how == AFTER)
        assert called == notes
        assert await world.statuses() == [DONE] * len(notes)


@pytest.mark.parametrize("how", [BEFORE, AFTER])
async def test_of_a_receiver(
    database: Database, proxy: CuttingProxy, through: World, how: str
) -> None:
    """Its effect and the mark that it is done are both committed, or it is called again: once."""
    called: list[int] = []

    def receive(event: DurableEvent, session: Any, **kwargs: Any) -> None:
        session.add(Effect(note_id=event.key[0], by="x"))
        called.append(event.key[0])
        if len(called) == 2:  # of three
            # Not a COMMIT of the worker, which does its own work meanwhile.
            proxy.marker = b"this is the receiver"
            plain(session).execute(text("SELECT 'this is the receiver'"))
            proxy.cut = b"COMMIT", how

    connect(receive, Durable("unknown.commit", retry=SOON))
    async with world_of(database, is_async=True) as world:
        keys = await world.write("a", "b", "c")

        async def is_done() -> bool:
            return set(await world.statuses()) == {DONE}

        async with world.worker(through.sessions, concurrency=1) as worker:
            await eventually(is_done, 60)
            health = worker.health()
        assert proxy.cut is None
        assert sorted(note for note, _ in await world.effects()) == sorted(keys)
        assert len(called) == (4 if how == BEFORE else 3)
        assert health["dead"] == 0

"""A small application with durable receivers, and workers that call them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import ForeignKey, MetaData, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from aksara_signals import post_save
from aksara_signals.contrib.outbox import Durable, DurableEvent, Outbox, Relay, Retry, Worker
from aksara_signals.contrib.outbox.events import event_of
from aksara_signals.contrib.outbox.rows.reading import Row, read_rows
from aksara_signals.orm import SignalMixin
from kit.claims import async_outbox_engine, outbox_engine
from kit.databases import Database


class Base(SignalMixin, DeclarativeBase):
    metadata = MetaData()


class Note(Base):
    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Effect(Base):
    """What a receiver has written."""

    __tablename__ = "effect"

    id: Mapped[int] = mapped_column(primary_key=True)
    note_id: Mapped[int] = mapped_column(ForeignKey("note.id"))
    by: Mapped[str]


class Unrelated(Base):
    """Its changes have receivers of their own, in the tests that connect some."""

    __tablename__ = "unrelated"

    id: Mapped[int] = mapped_column(primary_key=True)


outbox = Outbox(Base.metadata)
table = outbox.tables.outbox

WAITING, DONE, DEAD = 0, 1, 2

IN_A_MINUTE = Retry(first_seconds=60)
"""For receivers that fail: no second attempt comes by itself, however slow the machine is."""

NOTES = Durable("test.notes", retry=IN_A_MINUTE)


def connect(receiver: Callable[..., Any], durable: str | Durable = NOTES, **options: Any) -> Any:
    """Connect a durable receiver to saved notes."""
    return post_save.connect(receiver, sender=Note, durable=durable, **options)


class World:
    """A database with the application's tables, sessions on it, and workers."""

    def __init__(self, database: Database, is_async: bool, **options: Any) -> None:
        self.database = database
        self.is_async = is_async
        self.plain_engine = outbox_engine(database)
        self.writes = sessionmaker(self.plain_engine)
        self.engine: Any
        self.sessions: Any
        self.engines: list[Any] = [self.plain_engine]
        self.engine, self.sessions = self.make_sessions(**options)

    def make_sessions(self, **options: Any) -> tuple[Any, Any]:
        """An engine of the kind of this world, and its sessions."""
        make = async_outbox_engine if self.is_async else outbox_engine
        engine: Any = make(self.database, **options)
        self.engines.append(engine)
        return engine, (async_sessionmaker if self.is_async else sessionmaker)(engine)

    def worker(self, sessions: Any = None, **options: Any) -> Worker:
        """A worker that polls often."""
        given = {"longest_poll_seconds": 0.05, "grace_seconds": 5.0, **options}
        return outbox.worker(sessions or self.sessions, **given)

    def relay(self, publish: Any, sessions: Any = None, **options: Any) -> Relay:
        """A relay that polls often."""
        given = {"longest_poll_seconds": 0.05, "grace_seconds": 5.0, **options}
        return outbox.relay(publish, sessions or self.sessions, **given)

    async def drain(self, **options: Any) -> dict[str, Any]:
        """Run a worker until nothing is due, and return its health."""
        worker = self.worker(**options)
        await worker.run_until_idle()
        return worker.health()

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``function(session, …)`` in a transaction, in a thread."""
        return await asyncio.to_thread(self._run, function, *arguments)

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with self.writes.begin() as session:
            return function(session, *arguments)

    async def write(self, *texts: str) -> list[int]:
        """Save notes, each in a flush of its own, and return their keys."""

        def save(session: Session) -> list[int]:
            notes = [Note(text=text) for text in texts]
            for note in notes:
                session.add(note)
                session.flush()
            return [note.id for note in notes]

        found: list[int] = await self.run(save)
        return found

    async def edit(self, key: int, *texts: str) -> None:
        """Save a note again and again: one lane."""

        def save(session: Session) -> None:
            note = session.get_one(Note, key)
            for text in texts:
                note.text = text
                session.flush()

        await self.run(save)

    async def effects(self) -> list[tuple[int, str]]:
        """What receivers have written, as note and text, in order."""
        found: list[tuple[int, str]] = await self.run(
            lambda session: [
                (each.note_id, each.by)
                for each in session.scalars(select(Effect).order_by(Effect.id))
            ]
        )
        return found

    async def rows(self) -> list[Any]:
        """The rows of the outbox, in order."""
        found: list[Any] = await self.run(
            lambda session: list(session.execute(select(table).order_by(table.c.seq)).all())
        )
        return found

    async def statuses(self) -> list[int]:
        """The status of each row."""
        return [row.status for row in await self.rows()]

    async def leased(self) -> list[Row]:
        """The same rows as a worker or a relay has them."""

        def read(session: Session) -> list[Row]:
            return read_rows(
                session.connection(), outbox.tables, table.c.seq > 0, lambda name: False
            )

        found: list[Row] = await self.run(read)
        return found

    async def events(self) -> list[DurableEvent]:
        """What a relay publishes of all rows, in order."""
        return [event_of(row) for row in await self.leased()]

    async def change(self, *conditions: Any, **values: Any) -> None:
        """Change rows of the outbox behind the library's back."""
        statement = update(table).where(*conditions).values(**values)
        await self.run(lambda session: session.execute(statement) and None)

    async def due_now(self) -> None:
        """Let rows that wait for their next attempt be due."""
        await self.change(
            table.c.leased_by.is_(None), table.c.visible_at.isnot(None), visible_at=past()
        )

    async def dispose(self) -> None:
        for engine in self.engines:
            if isinstance(engine, AsyncEngine):
                await engine.dispose()
            else:
                engine.dispose()


def plain(session: Any) -> Session:
    """The synchronous session behind the one that a receiver was given."""
    found: Session = getattr(session, "sync_session", session)
    return found


def past() -> Any:
    """A minute ago, by the clock of the database."""
    from aksara_signals.contrib.outbox.rows.tables import clock

    return clock(-60)


@asynccontextmanager
async def world_of(database: Database, is_async: bool) -> AsyncIterator[World]:
    """A world, with the outbox installed."""
    world = World(database, is_async)
    Base.metadata.create_all(world.plain_engine)
    outbox.install()
    try:
        yield world
    finally:
        outbox.uninstall()
        await world.dispose()


async def eventually(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait until a function, sync or async, returns something true."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.01)


def count_of(model: type) -> Any:
    return select(func.count()).select_from(model)

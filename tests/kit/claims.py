"""An outbox of rows written by hand, for tests of what happens below a worker."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from aksara_signals.contrib.outbox.rows import claiming
from aksara_signals.contrib.outbox.rows.claiming import Claim
from aksara_signals.contrib.outbox.rows.reading import Row
from aksara_signals.contrib.outbox.rows.tables import Tables, make_tables
from kit.databases import Database


def begin_immediately(engine: Engine) -> None:
    """The recipe for several writers of one SQLite file."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def leave_transactions_to_sqlalchemy(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        cursor.execute("PRAGMA synchronous = OFF")  # speed only
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def outbox_engine(database: Database, **options: Any) -> Engine:
    """A sync engine whose transactions are as a worker needs them."""
    if database.dialect != "sqlite":
        return database.create_sync_engine(**options)
    engine = create_engine(database.sync_url, connect_args={"timeout": 30}, **options)
    begin_immediately(engine)
    return engine


def async_outbox_engine(database: Database, **options: Any) -> AsyncEngine:
    """The same, async."""
    if database.dialect != "sqlite":
        return database.create_async_engine(**options)
    engine = create_async_engine(database.async_url, connect_args={"timeout": 30}, **options)
    begin_immediately(engine.sync_engine)
    return engine


class Store:
    """The tables of an outbox in a database; each method is a transaction of its own."""

    def __init__(self, engine: Engine | AsyncEngine, tables: Tables | None = None) -> None:
        # As a worker sets it on MySQL; elsewhere it is the default, or doesn't matter.
        is_mysql = engine.dialect.name in ("mysql", "mariadb")
        level = {"isolation_level": "READ COMMITTED"} if is_mysql else {}
        self.engine = engine.execution_options(**level)
        self.tables = tables or make_tables(MetaData())

    async def run(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call ``function(connection, …)`` in a transaction."""
        if isinstance(self.engine, AsyncEngine):
            async with self.engine.begin() as connection:
                return await connection.run_sync(function, *arguments, **options)
        return await asyncio.to_thread(self.run_here, function, *arguments, **options)

    def run_here(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """The same, sync."""
        with self.engine.begin() as connection:
            return function(connection, *arguments, **options)

    async def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call ``function(connection, tables, …)`` in a transaction."""
        return await self.run(function, self.tables, *arguments, **options)

    async def create(self) -> None:
        await self.run(self.tables.outbox.metadata.create_all)

    async def dispose(self) -> None:
        if isinstance(self.engine, AsyncEngine):
            await self.engine.dispose()
        else:
            self.engine.dispose()

    async def write(self, *rows: Mapping[str, Any]) -> None:
        """Write rows: ``receiver`` is ``"mail"`` and there is no lane, if not given."""
        await self.run(lambda connection: write_rows(connection, self.tables, rows))

    async def set(self, seqs: Iterable[int], **values: Any) -> None:
        """Change rows behind the library's back."""
        table = self.tables.outbox
        statement = update(table).where(table.c.seq.in_(list(seqs))).values(**values)
        await self.run(lambda connection: connection.execute(statement))

    async def rows(self) -> dict[int, Any]:
        """All rows, by number."""
        statement = select(self.tables.outbox).order_by("seq")
        found = await self.run(lambda connection: connection.execute(statement).all())
        return {row.seq: row for row in found}

    async def claim(self, worker: str = "one", **options: Any) -> Claim:
        """Claim up to 200 rows of ``"mail"``, for a minute, if not given otherwise."""
        given = {"limits": {"mail": 200}, "lease_seconds": 60, "is_busy": False, **options}
        found: Claim = await self.call(claiming.claim, worker=worker, **given)
        return found

    async def done(self, worker: str, *seqs: int) -> int:
        found: int = await self.call(claiming.mark_done, worker, seqs)
        return found

    async def fail(self, worker: str, row: Row, **options: Any) -> bool:
        given = {"error": "", "delay_seconds": 0, "counts": True, "is_dead": False, **options}
        found: bool = await self.call(claiming.fail, worker, row, **given)
        return found


def row(**values: Any) -> dict[str, Any]:
    """The values of one row."""
    return {
        "id": uuid.uuid4(),
        "receiver": "mail",
        "type": "post_save",
        "aggregatetype": "app.models.Post",
        "aggregateid": "[1]",
        "lane": None,
        "payload": {"v": 1, "key": [1]},
        "headers": None,
        **values,
    }


def write_rows(connection: Connection, tables: Tables, rows: Iterable[Mapping[str, Any]]) -> None:
    connection.execute(insert(tables.outbox), [row(**values) for values in rows])


def seqs(claim: Claim) -> list[int]:
    """The numbers of the rows of a claim."""
    return [each.seq for each in claim.rows]

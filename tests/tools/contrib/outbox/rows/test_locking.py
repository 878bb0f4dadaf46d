"""One claim at a time: how SQLite's transactions have to begin, and the row that is locked on MariaDB."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from kit.claims import Store, async_outbox_engine, begin_immediately, outbox_engine, seqs
from kit.databases import Database, sqlite_database, use_begin_recipe
from sqlalchemy import URL, Engine, create_engine, event, select
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from aksara_signals.contrib.outbox.rows import claiming
from aksara_signals.contrib.outbox.rows.locking import require_immediate, require_version
from aksara_signals.exceptions import OutboxError


@pytest.fixture
def url(tmp_path: Path) -> URL:
    return sqlite_database(tmp_path).sync_url


@pytest.fixture
def engines() -> Iterator[list[Engine]]:
    """Engines that are disposed of after the test."""
    found: list[Engine] = []
    yield found
    for engine in found:
        engine.dispose()


def test_transactions_that_begin_deferred_are_refused(url: URL, engines: list[Engine]) -> None:
    """The error shows the recipe."""
    engines.append(create_engine(url))
    use_begin_recipe(engines[0])
    with pytest.raises(OutboxError, match=r"exec_driver_sql\('BEGIN IMMEDIATE'\)"):
        require_immediate(engines[0])


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", " begin exclusive transaction"])
def test_transactions_that_begin_at_once_pass(
    url: URL, engines: list[Engine], statement: str
) -> None:
    """So do exclusive ones, whatever the case."""
    engines.append(create_engine(url, connect_args={"isolation_level": None}))
    event.listen(engines[0], "begin", lambda connection: connection.exec_driver_sql(statement))
    require_immediate(engines[0])


def test_the_drivers_own_way_passes(url: URL, engines: list[Engine]) -> None:
    """Where a SELECT begins nothing, the claim itself begins, and others' claims are kept off."""
    engines += [create_engine(url), create_engine(url, connect_args={"timeout": 0})]
    require_immediate(engines[0])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has autocommit since Python 3.12")
def test_the_drivers_new_way_is_refused(url: URL, engines: list[Engine]) -> None:
    """Without autocommit, sqlite3 begins deferred transactions by itself."""
    engines.append(create_engine(url, connect_args={"autocommit": False}))
    with pytest.raises(OutboxError, match="begin deferred"):
        require_immediate(engines[0])


async def test_async_engines_are_checked_alike(tmp_path: Path) -> None:
    """The check runs within run_sync()."""
    engine = create_async_engine(sqlite_database(tmp_path).async_url)

    async def check() -> None:
        async with AsyncConnection(engine) as connection:
            await connection.run_sync(lambda sync: require_immediate(sync.engine))

    await check()
    use_begin_recipe(engine.sync_engine)
    await engine.dispose()
    with pytest.raises(OutboxError, match="BEGIN IMMEDIATE"):
        await check()
    begin: Any = begin_immediately
    await engine.dispose()
    engine = create_async_engine(sqlite_database(tmp_path).async_url)
    begin(engine.sync_engine)
    await check()
    await engine.dispose()


def test_other_databases_pass(database: Database) -> None:
    """PostgreSQL has a lock of its own for claims, and on MariaDB they lock a row."""
    engine = outbox_engine(database)
    require_immediate(engine)
    engine.dispose()


@pytest.mark.parametrize("driver", ["sync", "async"])
async def test_claims_begin_where_the_driver_does_not(tmp_path: Path, driver: str) -> None:
    """In the driver's own way, a claim takes SQLite's lock before it looks at the rows."""
    database = sqlite_database(tmp_path)
    first = Store(
        create_engine(database.sync_url)
        if driver == "sync"
        else create_async_engine(database.async_url)
    )
    await first.create()
    await first.write({}, {})
    statements: list[str] = []
    engine = getattr(first.engine, "sync_engine", first.engine)
    event.listen(
        engine, "before_cursor_execute", lambda _c, _k, statement, *_: statements.append(statement)
    )
    assert seqs(await first.claim()) == [1, 2]
    assert statements[0] == "BEGIN IMMEDIATE"
    assert await first.done("one", 1) == 1
    own = create_engine(database.sync_url)
    with own.connect() as connection:
        table = first.tables.outbox
        assert list(connection.scalars(select(table.c.status).order_by(table.c.seq))) == [1, 0]
    own.dispose()
    await first.dispose()


# -- MariaDB and MySQL ----------------------------------------------------------------------------


def test_a_server_that_cant_skip_locked_rows_is_refused(database: Database) -> None:
    """A MariaDB before 10.6 has no SKIP LOCKED: a worker says so at its start, not at each claim."""
    engine = outbox_engine(database)
    with engine.connect() as connection:
        require_version(connection)
        connection.dialect.server_version_info = (5, 7)
        with (
            pytest.raises(OutboxError, match=r"since 10\.6; this server is 5\.7")
            if (database.dialect == "mariadb")
            else nullcontext()
        ):
            require_version(connection)
    engine.dispose()


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
async def test_first_claims_at_once_are_no_deadlock(database: Database) -> None:
    """The row that claims lock is inserted by the first of them, also if that is rolled back."""
    stores = [Store(async_outbox_engine(database)) for _ in range(8)]
    await stores[0].create()
    await stores[0].write(*[{}] * 16)

    async def claim(number: int) -> list[int]:
        store = stores[number]
        limits = {"mail": 2}
        if number % 2:
            async with store.engine.connect() as connection:  # rolled back
                options = {"limits": limits, "lease_seconds": 60, "is_busy": False}
                await connection.run_sync(
                    claiming.claim, store.tables, worker=str(number), **options
                )
            return []
        return seqs(await store.claim(str(number), limits=limits))

    found = await asyncio.gather(*map(claim, range(8)))
    assert sorted(seq for each in found for seq in each) == list(range(1, 9))
    for store in stores:
        await store.dispose()

"""Inserting rows into an outbox."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit.claims import Store, async_outbox_engine, outbox_engine, row
from kit.databases import Database
from sqlalchemy import Connection

from aksara_signals.contrib.outbox.rows import inserting
from aksara_signals.contrib.outbox.rows.inserting import COLUMNS, insert_rows


@pytest.fixture(params=["async", "sync"])
async def store(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Store]:
    """An empty outbox."""
    make: Any = async_outbox_engine if request.param == "async" else outbox_engine
    store = Store(make(database))
    await store.create()
    yield store
    await store.dispose()


def rows(count: int, **values: Any) -> list[dict[str, Any]]:
    given = {"version": 1, **values}
    return [row(**given, aggregateid=f"[{number}]") for number in range(count)]


async def insert(store: Store, given: list[dict[str, Any]]) -> int | None:
    """Insert rows, and return how many INSERTs a MariaDB server was sent."""

    def count(connection: Connection) -> int | None:
        if store.engine.dialect.name not in ("mysql", "mariadb"):
            return None
        status = "SHOW SESSION STATUS LIKE 'Com_insert'"
        return int(connection.exec_driver_sql(status).one()[1])

    def work(connection: Connection) -> int | None:
        before = count(connection)
        insert_rows(connection, store.tables.outbox, given)
        after = count(connection)
        return None if before is None or after is None else after - before

    found: int | None = await store.run(work)
    return found


@pytest.mark.parametrize("count", [1, 2, 100])
async def test_rows_are_inserted_in_order(store: Store, count: int) -> None:
    """With all that is given for each; what is None is NULL, also where it could be JSON's null."""
    given = rows(count, lane=-7, payload={"v": 1, "text": "'\\ %s %(a)s ü"})
    await insert(store, given)
    found = list((await store.rows()).values())
    assert [{name: getattr(each, name) for name in COLUMNS} for each in found] == given
    assert {each.created_at is None for each in found} == {False}
    condition = store.tables.outbox.c.headers.is_(None)
    assert len([each for each in found if each.headers is None]) == count
    select = store.tables.outbox.select().where(condition)
    assert len(await store.run(lambda connection: connection.execute(select).all())) == count


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
async def test_many_rows_are_one_statement_of_the_server(store: Store) -> None:
    """A driver of MySQL would send one for each row, because the time isn't a parameter."""
    assert await insert(store, rows(100)) == 1


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
async def test_large_rows_are_several(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server limits the size of a statement; each row is inserted, whatever its size is."""
    monkeypatch.setattr(inserting, "_LONGEST", 4_000)
    sizes = [10, 8_000, 10, 10, 2_000, 2_000]
    given = [each for size in sizes for each in rows(1, payload={"text": "x" * size})]
    assert await insert(store, given) == 4
    found = [len(each.payload["text"]) for each in (await store.rows()).values()]
    assert found == sizes


async def test_rows_of_one_engine_are_read_by_another(database: Database) -> None:
    """Both of SQLAlchemy's dialects for MariaDB store the same; as async and plain engines do."""
    first, second = Store(async_outbox_engine(database)), Store(outbox_engine(database))
    await first.create()
    given = rows(2)
    await insert(first, given[:1])
    await insert(second, given[1:])
    for store in (first, second):
        assert [each.id for each in (await store.rows()).values()] == [row["id"] for row in given]
        await store.dispose()

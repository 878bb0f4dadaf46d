"""Rows of the outbox for the rows of ORM statements."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit.databases import create_all
from kit.outbox_world import Article, Base, inserts, stored
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from aksara_signals import InvalidReceiverError, post_delete, post_save, post_statement
from aksara_signals.contrib.outbox import Durable

pytestmark = pytest.mark.usefixtures("outbox")

_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    """A name that no other test has given: its signal may be alive."""
    return f"test_written_statements.{next(_numbers)}"


@pytest.fixture
async def session(async_engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """A session whose database has three articles."""
    await create_all(async_engine, Base.metadata)
    async with AsyncSession(async_engine) as session:
        session.add_all(Article(title=f"title {number}", secret="s") for number in (1, 2, 3))
        await session.commit()
        session.expunge_all()
        yield session


def connect(signal: Any, durable: Any, **options: Any) -> None:
    def receive(**kwargs: Any) -> None: ...

    signal.connect(receive, sender=Article, durable=durable, statements=True, **options)


def _payload(row: Any) -> dict[str, Any]:
    found = row.payload
    return dict(found if isinstance(found, dict) else json.loads(found))


RENAME = update(Article).where(Article.id < 3).values(title="new")


async def test_each_row_of_a_statement_is_stored(session: AsyncSession, name: str) -> None:
    """In the transaction of the statement, with the names of what it has set."""
    connect(post_save, name)
    await session.execute(RENAME)
    rows = await stored(session)
    assert [_payload(row)["key"] for row in rows] == [[1], [2]]
    assert all({"title", "edited"} == {*_payload(row)["changed"]} for row in rows)
    await session.rollback()
    assert await stored(session) == []


async def test_values_are_those_of_the_row(session: AsyncSession, name: str) -> None:
    """Also for a row that the statement has deleted."""
    connect(post_save, Durable(name, include=["title", "stock"]))
    connect(post_delete, Durable(f"{name}.d", include=["title"]))
    await session.execute(insert(Article), [{"title": "one"}, {"title": "two"}])
    await session.execute(delete(Article).where(Article.title == "title 1"))
    values = [_payload(row)["values"] for row in await stored(session)]
    assert values == [
        {"title": "one", "stock": 7},
        {"title": "two", "stock": 7},
        {"title": "title 1"},
    ]


async def test_the_rows_of_a_chunk_are_stored_by_one_insert(
    session: AsyncSession, async_engine: AsyncEngine, name: str
) -> None:
    """As those of a flush are."""
    connect(post_save, name)
    with inserts(async_engine) as found:
        await session.execute(RENAME)
    assert found == ["INSERT"]


async def test_changes_decide_what_is_stored(session: AsyncSession, name: str) -> None:
    """A receiver that is narrowed to a field gets the rows in which that has changed."""
    connect(post_save, name, fields=["title"])
    await session.execute(update(Article).where(Article.id == 1).values(title="title 2"))
    await session.execute(update(Article).values(title="title 2"))
    assert [_payload(row)["key"][0] for row in await stored(session)] == [1, 3]


async def test_a_veto_stores_nothing(session: AsyncSession, name: str) -> None:
    """Nothing of the statement can be committed afterwards, rows of the outbox included."""
    connect(post_save, name)

    @post_save(Article, statements=True)
    async def refuse(**_: Any) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        async with session.begin_nested():
            await session.execute(RENAME)
    await session.commit()
    assert await stored(session) == []
    assert [*await session.scalars(select(Article.title).order_by(Article.id))] == [
        "title 1",
        "title 2",
        "title 3",
    ]


async def test_a_statement_as_a_whole_is_stored_without_itself(
    session: AsyncSession, name: str
) -> None:
    """Its kind and the number of rows are; a receiver that names more is refused."""

    async def receive(kind: str, row_count: int, **_: Any) -> None: ...

    async def demand(statement: Any, **_: Any) -> None: ...

    post_statement.connect(receive, sender=Article, durable=name)
    with pytest.raises(InvalidReceiverError, match="statement"):
        post_statement.connect(demand, sender=Article, durable=f"{name}.d")
    await session.execute(RENAME)
    [row] = await stored(session)
    data = _payload(row)["data"]
    assert (data["kind"], data["row_count"]) == ("update", 2)

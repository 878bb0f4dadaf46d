"""A receiver costs one SELECT for each class, and nothing where no receiver reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kit.articles import Article, Base, Topic, articles_in, quiet
from sqlalchemy import Engine, event, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, load_only

from aksara_signals import (
    post_bulk_update,
    post_delete,
    post_save,
    pre_delete,
    pre_save,
    pre_update,
)


@pytest.fixture
async def sessions(async_engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return await articles_in(async_engine)


class Statements:
    """The SELECTs that an engine has executed."""

    def __init__(self, engine: Engine) -> None:
        self.selects: list[str] = []
        event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, _c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT"):
            self.selects.append(statement)


@pytest.fixture
def statements(async_engine: AsyncEngine) -> Statements:
    return Statements(async_engine.sync_engine)


@pytest.mark.parametrize("phase", ["immediate", "after_commit"])
async def test_bulk_receivers_read_unloaded_columns(
    sessions: async_sessionmaker[AsyncSession], statements: Statements, phase: str
) -> None:
    """Receivers of bulk_update read the columns that a query has left out, by one SELECT."""
    received: list[Any] = []

    @post_bulk_update(Article, phase=phase)
    async def note(instances: list[Article], **kwargs: Any) -> None:
        received.extend(each.title for each in instances)

    async with sessions() as session:
        query = select(Article).options(load_only(Article.views)).order_by(Article.id)
        articles = (await session.scalars(query)).unique().all()
        for each in articles:
            each.views += 1
        statements.selects.clear()
        await Article.objects.bulk_update(articles, fields=["views"], session=session)
        await session.commit()
    assert received == ["title 1", "title 2", "title 3"]
    # One reads what the UPDATE has set besides, as without receivers.
    assert len(statements.selects) == 2


def change_expired(session: Session) -> None:
    articles = session.scalars(select(Article)).unique().all()
    session.commit()
    statements_begin(session)
    for article in articles:
        article.views = 9
    session.commit()


def change_part(session: Session) -> None:
    articles = session.scalars(select(Article).options(load_only(Article.views))).unique().all()
    statements_begin(session)
    for article in articles:
        article.views = 9
    session.commit()


def delete_all(session: Session) -> None:
    articles = session.scalars(select(Article)).unique().all()
    statements_begin(session)
    for article in articles:
        session.delete(article)
    session.flush()
    session.rollback()


def statements_begin(session: Session) -> None:
    session.info["statements"].selects.clear()


async def quiet_async(**kwargs: Any) -> None:
    """Read nothing."""


def delete_expired(session: Session) -> None:
    articles = session.scalars(select(Article)).unique().all()
    session.commit()
    statements_begin(session)
    for article in articles:
        session.delete(article)
    session.flush()
    session.rollback()


WAYS = [change_expired, change_part, delete_all, delete_expired]


@pytest.mark.parametrize("way", WAYS)
async def test_sync_receivers_that_read_nothing_cause_no_select(
    sessions: async_sessionmaker[AsyncSession], statements: Statements, way: Callable[..., None]
) -> None:
    """With a sync receiver that reads nothing the same statements are executed as without."""
    counts: list[int] = []
    for signals in ((), (pre_save, pre_update, post_save, pre_delete, post_delete)):
        for signal in signals:
            signal.connect(quiet, sender=Base)
        async with sessions(info={"statements": statements}) as session:
            await session.run_sync(way)
            counts.append(len(statements.selects))
        async with sessions.begin() as session:
            await session.execute(update(Article).values(views=0))
    assert counts[1] == counts[0]


@pytest.mark.parametrize("way", [change_expired, change_part])
@pytest.mark.parametrize("phase", ["immediate", "after_commit"])
async def test_async_and_queued_receivers_cost_one_select(
    sessions: async_sessionmaker[AsyncSession],
    statements: Statements,
    way: Callable[..., None],
    phase: str,
) -> None:
    """An async receiver, or one that waits, costs one SELECT for all rows of a class."""
    counts: list[int] = []
    for connect in (False, True):
        if connect:
            post_save.connect(quiet_async, sender=Article, phase=phase)
        async with sessions(info={"statements": statements}) as session:
            await session.run_sync(way)
            counts.append(len(statements.selects))
        async with sessions.begin() as session:
            await session.execute(update(Article).values(views=0))
    assert counts[1] <= counts[0] + 1
    # SQLAlchemy loads expired rows that it updates one by one; the last SELECT is ours.
    assert "JOIN" not in statements.selects[-1]


async def test_old_values_cost_one_select(
    sessions: async_sessionmaker[AsyncSession], statements: Statements
) -> None:
    """The old values of columns that were changed while they weren't loaded are read together."""
    received: list[Any] = []

    @post_save(Article)
    def note(instance: Article, changes: Any, **kwargs: Any) -> None:
        received.append(changes["title"])

    async with sessions() as session:
        options = load_only(Article.id)
        query = select(Article).order_by(Article.id).options(options)
        articles = (await session.scalars(query)).unique().all()
        statements.selects.clear()
        for article in articles:
            article.title = "new"
        await session.commit()
    assert received == [(f"title {n}", "new") for n in (1, 2, 3)]
    assert len(statements.selects) == 1


async def test_values_that_the_database_works_out_cost_one_select(
    sessions: async_sessionmaker[AsyncSession], statements: Statements
) -> None:
    """SQL that was assigned is read back, for the changes of many rows, by one SELECT."""
    received: list[Any] = []

    @post_save(Article)
    def note(instance: Article, changes: Any, **kwargs: Any) -> None:
        received.append(changes["views"])

    async with sessions() as session:
        articles = (await session.scalars(select(Article))).unique().all()
        statements.selects.clear()
        for article in articles:
            article.views = Article.views + 1
        await session.commit()
    assert received == [(0, 1)] * 3
    assert len(statements.selects) == 1


async def test_many_rows_are_loaded_in_chunks(
    sessions: async_sessionmaker[AsyncSession], statements: Statements
) -> None:
    """More rows than a statement takes are loaded by a few of them."""
    seen: set[int] = set()

    @post_save(Topic, phase="after_commit")
    def note(instance: Topic, **kwargs: Any) -> None:
        if instance.name is not None:
            seen.add(instance.id)

    async with sessions.begin() as session:
        await session.execute(
            Topic.__table__.insert(), [{"id": n, "name": f"{n}"} for n in range(10, 1211)]
        )
    async with sessions() as session:
        topics = (await session.scalars(select(Topic).where(Topic.id >= 10))).all()
        for topic in topics:
            session.expire(topic, ["name"])
            await session.run_sync(lambda _, topic=topic: setattr(topic, "id", topic.id + 5000))
        statements.selects.clear()
        await session.commit()
    assert len(seen) == 1201
    assert len(statements.selects) == 3

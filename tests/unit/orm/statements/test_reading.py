"""Rows that are read before a statement: those that it is going to write, whatever queries hide."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kit.statements import Article, Base, fill
from sqlalchemy import Engine, create_engine, delete, event, insert, inspect, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.ext.horizontal_shard import ShardedSession, set_shard_id
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    ORMExecuteState,
    Session,
    mapped_column,
    sessionmaker,
    with_loader_criteria,
)
from sqlalchemy.pool import StaticPool

from aksara_signals import post_delete, post_save
from aksara_signals.orm import SignalMixin

Sent = list[tuple[int, Any]]


@pytest.fixture(params=[None, (15, 0)], ids=["as it is", "before PostgreSQL 18"])
async def session(
    request: pytest.FixtureRequest, async_engine: AsyncEngine
) -> AsyncIterator[AsyncSession]:
    """A session on rows; old values come from RETURNING where it knows them, and where it doesn't."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.run_sync(fill)
    if async_engine.dialect.name == "postgresql" and request.param is not None:
        async_engine.dialect.server_version_info = request.param
    async with AsyncSession(async_engine) as session:
        yield session


def _connect() -> Sent:
    """Receivers of the rows, from whose connection on the library listens to statements."""
    sent: Sent = []

    async def saved(instance: Article, changes: Any, **_: Any) -> None:
        sent.append((instance.id, changes["name"]))

    async def deleted(instance: Article, **_: Any) -> None:
        sent.append((instance.id, instance.name))

    post_save.connect(saved, sender=Article, statements=True)
    post_delete.connect(deleted, sender=Article, statements=True)
    return sent


@contextmanager
def _listening(
    order: str, session: AsyncSession, listener: Callable[[ORMExecuteState], None]
) -> Iterator[Sent]:
    """A user's listener, registered before the library's, after it, or with the session alone."""
    target: Any = session.sync_session if order == "of the session" else Session
    if order == "before":
        event.listen(target, "do_orm_execute", listener)
        sent = _connect()
    else:
        sent = _connect()
        event.listen(target, "do_orm_execute", listener)
    try:
        yield sent
    finally:
        event.remove(target, "do_orm_execute", listener)


ORDERS = ("before", "after", "of the session")


@pytest.mark.parametrize("order", ORDERS)
async def test_criteria_that_a_listener_adds_hold_for_the_rows_that_are_sent(
    session: AsyncSession, order: str
) -> None:
    """What the statement then leaves alone is neither locked nor sent."""

    def restrict(state: ORMExecuteState) -> None:
        if state.is_update or state.is_delete:
            criteria = with_loader_criteria(Article, Article.id > 2)
            state.statement = state.statement.options(criteria)

    with _listening(order, session, restrict) as sent:
        result: Any = await session.execute(update(Article).values(name="new"))
        assert result.rowcount == 2
        assert sorted(sent) == [(number, (f"title {number}", "new")) for number in (3, 4)]
        sent.clear()
        assert (await session.scalars(select(Article.name).order_by(Article.id))).all() == [
            "title 1",
            "title 2",
            "new",
            "new",
        ]
        await session.execute(delete(Article).where(Article.id != 4))
        assert sent == [(3, "new")]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", ["auto", "fetch", False])
async def test_criteria_of_queries_hide_no_row_of_a_statement(
    session: AsyncSession, order: str, mode: Any
) -> None:
    """A soft delete by criteria of SELECTs: the statement writes such rows, so they are sent."""

    def hide(state: ORMExecuteState) -> None:
        if state.is_select and not state.is_column_load:
            criteria = with_loader_criteria(Article, Article.status != "gone")
            state.statement = state.statement.options(criteria)

    gone = update(Article).where(Article.id.in_([1, 2])).values(status="gone")
    await session.execute(gone, execution_options={"signals": False})
    held = await session.get_one(Article, 1)
    with _listening(order, session, hide) as sent:
        assert (await session.scalars(select(Article.id).order_by(Article.id))).all() == [3, 4]
        options = {"synchronize_session": mode}
        renamed = update(Article).where(Article.id < 4).values(name="new")
        await session.execute(renamed, execution_options=options)
        expected = [(number, (f"title {number}", "new")) for number in (1, 2, 3)]
        assert sorted(sent) == expected
        sent.clear()
        session.expire(held)
        await session.execute(delete(Article).where(Article.id < 4), execution_options=options)
        assert sorted(sent) == [(number, "new") for number in (1, 2, 3)]


# -- shards ----------------------------------------------------------------------------------------


class ShardBase(SignalMixin, DeclarativeBase):
    """The base of a class whose rows are in two databases."""


class Town(ShardBase):
    __tablename__ = "town"
    id: Mapped[int] = mapped_column(primary_key=True)
    shard: Mapped[str]
    name: Mapped[str]


@pytest.fixture
def sharded(sync_engine: Engine) -> Iterator[Session]:
    """A session over two databases, with the towns 1 and 2 in each."""
    south = create_engine("sqlite://", poolclass=StaticPool)
    shards = {"north": sync_engine, "south": south}
    for name, engine in shards.items():
        ShardBase.metadata.create_all(engine)
        rows = [{"id": number, "shard": name, "name": name} for number in (1, 2)]
        with engine.begin() as connection:
            connection.execute(insert(Town.__table__), rows)
    sessions = sessionmaker(
        class_=ShardedSession,
        shards=shards,
        shard_chooser=lambda _mapper, instance, _clause=None: instance.shard,
        identity_chooser=lambda *_, **__: [*shards],
        execute_chooser=lambda _: [*shards],
    )
    with sessions() as session:
        yield session
    south.dispose()


def test_rows_of_shards_are_sent_once_with_their_identity(sharded: Session) -> None:
    """Rows of two databases may have the same key; the session's own objects are not confused."""
    held = {
        inspect(each).identity_token: each for each in sharded.scalars(select(Town)) if each.id == 1
    }
    assert {*held} == {"north", "south"}
    sent: list[Any] = []

    def saved(instance: Town, changes: Any, created: bool, **_: Any) -> None:
        token = inspect(instance).identity_token
        is_held = instance is held.get(token)
        sent.append((token, instance.id, instance.shard, is_held, created, changes["name"]))

    def deleted(instance: Town, **_: Any) -> None:
        token = inspect(instance).identity_token
        sent.append((token, instance.id, instance.shard, instance is held.get(token)))

    post_save.connect(saved, sender=Town, statements=True)
    post_delete.connect(deleted, sender=Town, statements=True)
    sharded.execute(update(Town).values(name="new"))
    assert sent == [
        (token, number, token, number == 1, False, (token, "new"))
        for token in ("north", "south")
        for number in (1, 2)
    ]
    sent.clear()
    south = update(Town).where(Town.id == 1).values(name="newer").options(set_shard_id("south"))
    sharded.execute(south)
    assert sent == [("south", 1, "south", True, False, ("new", "newer"))]
    sent.clear()
    sharded.execute(delete(Town))
    assert sent == [
        (token, number, token, number == 1) for token in ("north", "south") for number in (1, 2)
    ]
    sent.clear()
    added = insert(Town).values(id=9, shard="south", name="added").options(set_shard_id("south"))
    sharded.execute(added)
    assert sent == [("south", 9, "south", False, True, (None, "added"))]
    sharded.commit()

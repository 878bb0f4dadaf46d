"""A DELETE that met no row isn't sent after the flush, as far as the driver counts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import ForeignKey, create_engine, delete
from sqlalchemy.exc import SAWarning
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from aksara_signals import AksaraSignalsWarning, post_delete, pre_delete
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "account"}


class Savings(Account):
    __tablename__ = "savings"

    id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True)
    __mapper_args__ = {"polymorphic_identity": "savings"}


class Versioned(Base):
    __tablename__ = "versioned"

    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


@pytest.fixture
async def sessions(async_engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    maker = async_sessionmaker(async_engine)
    async with maker.begin() as session:
        session.add_all(Account(id=number) for number in (1, 2, 3))
        session.add_all(Savings(id=number) for number in (11, 12))
        session.add(Versioned(id=1))
    return maker


@pytest.fixture
def received() -> Iterator[list[Any]]:
    received: list[Any] = []

    @pre_delete.connect
    @post_delete.connect
    def note(signal: Any, instance: Any, **kwargs: Any) -> None:
        received.append((signal.name, instance.id))

    post_delete.connect(
        lambda instance, **kwargs: received.append(("after_commit", instance.id)),
        phase="after_commit",
    )
    return received


async def delete_all(
    sessions: async_sessionmaker[AsyncSession], cls: type[Any], *gone: int, missing: tuple[int, ...]
) -> None:
    """Delete rows in a session, some of which another statement has deleted before."""
    async with sessions() as session:
        rows = [await session.get_one(cls, number) for number in gone]
        table = Account.__table__ if issubclass(cls, Account) else cls.__table__
        if cls is Savings:
            await session.execute(
                delete(Savings.__table__).where(Savings.__table__.c.id.in_(missing))
            )
        await session.execute(delete(table).where(table.c.id.in_(missing)))
        for row in rows:
            await session.delete(row)
        await session.commit()


@pytest.mark.parametrize(("cls", "key"), [(Account, 1), (Savings, 11)])
async def test_a_row_that_was_gone_is_not_sent(
    sessions: async_sessionmaker[AsyncSession], received: list[Any], cls: type[Any], key: int
) -> None:
    """A DELETE of one row that has matched none sends no post_delete."""
    with pytest.warns(SAWarning, match="expected to delete 1 row"):
        await delete_all(sessions, cls, key, missing=(key,))
    assert received == [("pre_delete", key)]


async def test_a_row_that_was_there_is_sent(
    sessions: async_sessionmaker[AsyncSession], received: list[Any]
) -> None:
    """Rows that are there are sent, one by one and several in one statement."""
    await delete_all(sessions, Account, 1, missing=())
    await delete_all(sessions, Account, 2, 3, missing=())
    assert [key for name, key in received if name == "after_commit"] == [1, 2, 3]


async def test_flushes_of_one_transaction_count_for_themselves(
    sessions: async_sessionmaker[AsyncSession], received: list[Any]
) -> None:
    """What an earlier flush has found on the same connection says nothing about a later one."""
    async with sessions() as session:
        first, second = await session.get_one(Account, 1), await session.get_one(Account, 2)
        await session.execute(delete(Account.__table__).where(Account.__table__.c.id == 1))
        await session.delete(first)
        with pytest.warns(SAWarning, match="expected to delete 1 row"):
            await session.flush()
        await session.execute(delete(Savings.__table__))
        await session.delete(second)
        await session.commit()
    assert [key for name, key in received if name == "post_delete"] == [2]


async def test_of_several_rows_all_are_sent_and_a_short_count_warns_once(
    sessions: async_sessionmaker[AsyncSession], received: list[Any], async_engine: AsyncEngine
) -> None:
    """When one statement deletes several, those that were there can't be identified: all are sent."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await delete_all(sessions, Account, 1, 2, 3, missing=(2,))
    assert [key for name, key in received if name == "after_commit"] == [1, 2, 3]
    ours = [str(each.message) for each in caught if each.category is AksaraSignalsWarning]
    counts = async_engine.dialect.supports_sane_multi_rowcount
    assert len(ours) == (1 if counts else 0)  # asyncpg doesn't count
    assert all("delete 3 rows and has deleted 2" in each for each in ours)


async def test_of_several_rows_none_is_sent_if_none_was_there(
    sessions: async_sessionmaker[AsyncSession], received: list[Any], async_engine: AsyncEngine
) -> None:
    """A statement for several rows that has matched none sends none, where the driver counts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)
        await delete_all(sessions, Account, 1, 2, missing=(1, 2))
    counts = async_engine.dialect.supports_sane_multi_rowcount
    sent = [key for name, key in received if name == "post_delete"]
    assert sent == ([] if counts else [1, 2])


async def test_a_versioned_row_fails_the_flush_as_ever(
    sessions: async_sessionmaker[AsyncSession], received: list[Any]
) -> None:
    """With a version counter SQLAlchemy raises, and nothing is sent after the flush."""
    with pytest.raises(StaleDataError):
        await delete_all(sessions, Versioned, 1, missing=(1,))
    assert received == [("pre_delete", 1)]


def test_each_shard_counts_its_own(received: list[Any]) -> None:
    """In a sharded session each row is looked for on its own connection."""
    engines = {name: create_engine("sqlite://") for name in ("a", "b")}
    for engine in engines.values():
        Base.metadata.create_all(engine)

    def choose(mapper: Any, instance: Any, clause: Any = None) -> str:
        return "a" if instance is None or instance.id == 1 else "b"

    with ShardedSession(
        shards=engines,
        shard_chooser=choose,
        identity_chooser=lambda mapper, key, **kwargs: ["a" if key[0] == 1 else "b"],
        execute_chooser=lambda context: list(engines),
    ) as session:
        session.add_all([Account(id=1), Account(id=2)])
        session.commit()
        first, second = session.get_one(Account, 1), session.get_one(Account, 2)
        with engines["b"].begin() as connection:
            connection.execute(delete(Account))
        session.delete(first)
        session.delete(second)
        with pytest.warns(SAWarning, match="expected to delete 1 row"):
            session.commit()
    assert [key for name, key in received if name == "post_delete"] == [1]
    for engine in engines.values():
        engine.dispose()

"""Sessions that roll back, and delivery as if they had committed."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from aksara_signals import post_save
from aksara_signals.orm import SignalMixin, on_commit, on_rollback
from aksara_signals.testing import as_if_committed, rolled_back


class Base(SignalMixin, DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "rolled_back_note"

    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def delivered() -> list[Any]:
    """The ids that receivers were called with after the outcome; negative after a rollback."""
    delivered: list[Any] = []

    @post_save(Note, phase="after_commit")
    async def after(instance: Note, **kwargs: Any) -> None:
        delivered.append(instance.id)

    @post_save(Note, phase="after_rollback")
    async def undone(instance: Note, **kwargs: Any) -> None:
        delivered.append(-instance.id)

    return delivered


async def test_commits_are_delivered_and_nothing_remains(
    async_engine: AsyncEngine, delivered: list[Any]
) -> None:
    """The usual recipe: the code under test commits as often as it likes."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with rolled_back(async_engine, expire_on_commit=False) as session:
        session.add(Note(id=1))
        await session.commit()
        assert delivered == [1]
        session.add(Note(id=2))
        await session.flush()
        await session.rollback()
        assert delivered == [1, -2]
        assert await session.scalar(select(func.count(Note.id))) == 1
    async with AsyncSession(async_engine) as session:
        assert await session.scalar(select(func.count(Note.id))) == 0


def test_synchronous_sessions_roll_back_too(sync_engine: Engine, delivered: list[Any]) -> None:
    """Also when the test fails."""
    Base.metadata.create_all(sync_engine)
    with pytest.raises(RuntimeError), rolled_back(sync_engine) as session:
        session.add(Note(id=1))
        session.commit()
        raise RuntimeError
    assert delivered == [1]
    with Session(sync_engine) as session:
        assert session.scalar(select(func.count(Note.id))) == 0


async def test_what_only_flushes_is_delivered_as_if_committed(
    async_engine: AsyncEngine, delivered: list[Any]
) -> None:
    """Only what happened inside of the block, in order, once."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(async_engine) as session:
        session.add(Note(id=1))
        await session.flush()
        async with as_if_committed(session):
            session.add(Note(id=2))
            await session.flush()
            on_commit(session, lambda: delivered.append("callback"))
            assert delivered == []
        assert delivered == [2, "callback"]
        await session.rollback()
    assert delivered == [2, "callback", -1]


async def test_a_savepoint_that_was_rolled_back_is_delivered_as_such(
    async_engine: AsyncEngine, delivered: list[Any]
) -> None:
    """As when the outermost transaction is committed."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(async_engine) as session:
        async with as_if_committed(session):
            savepoint = await session.begin_nested()
            session.add(Note(id=1))
            await session.flush()
            await savepoint.rollback()
            session.add(Note(id=2))
            await session.flush()
        assert delivered == [-1, 2]
        with pytest.raises(RuntimeError):
            async with as_if_committed(session):
                raise RuntimeError
        await session.commit()
    assert delivered == [-1, 2]


def test_synchronous_code_and_blocks_that_raise(sync_engine: Engine, delivered: list[Any]) -> None:
    """If the block raises, everything stays queued; a session without writes has nothing to deliver."""
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        with as_if_committed(session):
            pass
        with pytest.raises(RuntimeError), as_if_committed(session):
            session.add(Note(id=1))
            session.flush()
            raise RuntimeError
        assert delivered == []
        with as_if_committed(session):
            on_commit(session, lambda: delivered.append("callback"))
            on_rollback(session, lambda: delivered.append("never"))
        assert delivered == ["callback"]
        session.commit()
    assert delivered == ["callback", 1]


async def test_a_synchronous_session_in_an_async_block(
    sync_engine: Engine, delivered: list[Any]
) -> None:
    """It is delivered as in a plain block."""
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        async with as_if_committed(session):
            on_commit(session, lambda: delivered.append("callback"))
        assert delivered == ["callback"]

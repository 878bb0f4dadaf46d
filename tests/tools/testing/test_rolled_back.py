"""Which session ``rolled_back`` gives, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import sqlmodel
from sqlalchemy import Engine, make_url, select
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlmodel.ext.asyncio.session import AsyncSession as SQLModelAsyncSession

from aksara_signals import InvalidOptionError, post_save
from aksara_signals.orm import register, unregister
from aksara_signals.testing import as_if_committed, rolled_back


class Ledger(sqlmodel.SQLModel, table=True):
    __tablename__ = "rolled_back_ledger"

    id: int | None = sqlmodel.Field(default=None, primary_key=True)
    title: str = ""


@pytest.fixture
def titles() -> Any:
    """The titles of the ledgers that were committed."""
    titles: list[str] = []
    register(Ledger)

    @post_save(Ledger, phase="after_commit")
    async def note(instance: Ledger, **kwargs: Any) -> None:
        titles.append(instance.title)

    yield titles
    unregister(Ledger)


def test_a_session_of_sqlmodel(sync_engine: Engine, titles: list[str]) -> None:
    """The class that is asked for, with its own verbs; nothing remains."""
    Ledger.__table__.create(sync_engine)
    with rolled_back(sync_engine, class_=sqlmodel.Session, expire_on_commit=False) as session:
        assert type(session) is sqlmodel.Session
        session.add(Ledger(title="one"))
        session.commit()
        assert session.exec(sqlmodel.select(Ledger.title)).all() == ["one"]
    assert titles == ["one"]
    with Session(sync_engine) as session:
        assert session.scalars(select(Ledger)).all() == []


async def test_an_async_session_of_sqlmodel(async_engine: AsyncEngine, titles: list[str]) -> None:
    """The same for the async one."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Ledger.__table__.create)
    async with rolled_back(async_engine, class_=SQLModelAsyncSession) as session:
        assert type(session) is SQLModelAsyncSession
        session.add(Ledger(title="one"))
        await session.commit()
        assert (await session.exec(sqlmodel.select(Ledger.title))).all() == ["one"]
    assert titles == ["one"]
    async with AsyncSession(async_engine) as session:
        assert (await session.scalars(select(Ledger))).all() == []


async def test_kinds_of_engines_are_distinguished(
    sync_engine: Engine, async_engine: AsyncEngine
) -> None:
    """The wrong kind of block, or of session, is refused with what is right."""
    with pytest.raises(InvalidOptionError, match=r"given an Engine.*write 'with rolled_back"):
        async with rolled_back(sync_engine):
            pass
    refused = pytest.raises(InvalidOptionError, match=r"given an AsyncEngine.*write 'async with r")
    with refused, rolled_back(async_engine):
        pass
    with pytest.raises(
        InvalidOptionError, match=r"class_=sqlmodel.*but was also given an AsyncEngine; give Asyn"
    ):
        rolled_back(async_engine, class_=sqlmodel.Session)
    with pytest.raises(
        InvalidOptionError, match=r"AsyncSession.*needs an AsyncEngine, but was also "
    ):
        rolled_back(sync_engine, class_=AsyncSession)


async def test_a_block_may_be_entered_again(sync_engine: Engine, async_engine: AsyncEngine) -> None:
    """Each time it gives another session."""
    block, async_block = rolled_back(sync_engine), rolled_back(async_engine)
    with block as first:
        pass
    with block as second:
        assert second is not first
    async with async_block as first_async:
        pass
    async with async_block as second_async:
        assert second_async is not first_async


@pytest.mark.parametrize(
    "given", [5, Engine, Session(), sessionmaker()], ids=["number", "class", "session", "factory"]
)
def test_what_is_not_a_class_of_sessions_is_refused(sync_engine: Engine, given: Any) -> None:
    """Also what makes sessions."""
    with pytest.raises(
        InvalidOptionError, match="not a session class; give Session, or a subclass"
    ):
        rolled_back(sync_engine, class_=given)


SECRET = "postgresql+asyncpg://user:secret@host/database"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (SECRET, r"given a URL; give an engine, such as rolled_back\(create_async_engine\(url"),
        (make_url(SECRET), "given a URL"),
        (Session(), "given 'Session', but makes a session of its own; give the engine"),
        (AsyncSession(), "given 'AsyncSession'"),
        (scoped_session(sessionmaker()), "given 'scoped_session'"),
        (
            async_scoped_session(async_sessionmaker(), scopefunc=lambda: 1),
            "given 'async_scoped_session'",
        ),
        (sessionmaker(), "given 'sessionmaker'; give the engine that it is bound to"),
        (async_sessionmaker(), "given 'async_sessionmaker'"),
        (None, "given 'NoneType'; it takes an AsyncEngine or an Engine"),
    ],
)
def test_what_is_not_an_engine_is_refused(given: Any, message: str) -> None:
    """At once, naming the way out, and without a password."""
    with pytest.raises(InvalidOptionError, match=message) as caught:
        rolled_back(given)
    assert "secret" not in str(caught.value)


async def test_a_connection_is_not_an_engine(
    sync_engine: Engine, async_engine: AsyncEngine
) -> None:
    """It opens one itself; nor can the session be bound elsewhere."""
    with (
        sync_engine.connect() as connection,
        pytest.raises(InvalidOptionError, match="given 'Connection', but opens a connection of"),
    ):
        rolled_back(connection)
    async with async_engine.connect() as connection:
        with pytest.raises(InvalidOptionError, match="given 'AsyncConnection'"):
            rolled_back(connection)
    with pytest.raises(InvalidOptionError, match="given bind="):
        rolled_back(sync_engine, bind=sync_engine)


def test_blocks_that_need_a_session_decorate_nothing(
    sync_engine: Engine, async_engine: AsyncEngine
) -> None:
    """They say what to write instead."""
    for decorator, words in (
        (rolled_back(sync_engine), r"'with rolled_back\(engine\)"),
        (rolled_back(async_engine), r"'async with rolled_back\(engine\)"),
        (as_if_committed(Session()), r"'with as_if_committed\(session\)'"),
    ):
        with pytest.raises(InvalidOptionError, match=words):
            decorator(print)  # type: ignore[operator]

"""MySQL rolls back a transaction with a deadlock: what was lost isn't sent as committed."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kit import databases
from sqlalchemy import Connection, Engine, event, select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from aksara_signals import post_save
from aksara_signals.orm import SignalMixin
from aksara_signals.orm.bridge import aborted

TIMEOUT, DEADLOCK, CHANGED = 1205, 1213, 1020


class Base(SignalMixin, DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def engine(mariadb_server: Any) -> Iterator[Engine]:
    """Two accounts on MariaDB."""
    with databases.mariadb_database(mariadb_server) as database:
        engine = database.create_sync_engine()
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all([Account(id=1, name="a"), Account(id=2, name="b")])
            session.commit()
        yield engine
        engine.dispose()


@pytest.fixture
def sent() -> list[tuple[str, str]]:
    """What is sent once the outcome is known."""
    sent: list[tuple[str, str]] = []
    for phase in ("after_commit", "after_rollback"):

        def receive(instance: Account, phase: Any = phase, **kwargs: Any) -> None:
            sent.append((phase, instance.name))

        post_save.connect(receive, sender=Account, phase=phase)
    return sent


def rename(connection: Connection | Session, key: int) -> None:
    connection.execute(text("UPDATE account SET name = 'x' WHERE id = :key"), {"key": key})


def lose_a_deadlock(engine: Engine, session: Session) -> None:
    """Two transactions wait for each other; MariaDB gives up the one that has written less."""
    is_locked, is_over = threading.Event(), threading.Event()

    def win() -> None:
        with engine.begin() as connection:
            for number in range(100, 120):
                values = {"id": number, "name": "theirs"}
                connection.execute(Account.__table__.insert(), values)
            rename(connection, 2)
            is_locked.set()
            rename(connection, 1)
            is_over.set()

    rename(session, 1)
    other = threading.Thread(target=win)
    other.start()
    try:
        assert is_locked.wait(10)
        rename(session, 2)
    finally:
        other.join(10)
    assert is_over.is_set()


def change_what_was_changed(engine: Engine, session: Session) -> None:
    """A row is written of which the snapshot is stale, where MariaDB takes that for an error."""
    try:
        session.execute(text("SET innodb_snapshot_isolation = ON"))
    except DBAPIError:
        pytest.skip("innodb_snapshot_isolation came with MariaDB 10.6.18 and 10.11.8")
    session.execute(select(Account.id)).all()
    with engine.begin() as connection:
        rename(connection, 1)
    rename(session, 1)


@pytest.mark.parametrize(
    ("fail", "code"), [(lose_a_deadlock, DEADLOCK), (change_what_was_changed, CHANGED)]
)
@pytest.mark.parametrize("has_savepoint", [False, True])
def test_a_transaction_that_was_rolled_back_is_not_committed(
    engine: Engine, sent: list[Any], fail: Any, code: int, has_savepoint: bool
) -> None:
    """COMMIT raises the error that was caught before it: MariaDB would commit what came after."""
    with Session(engine) as session:
        session.add(Account(id=3, name="lost"))
        session.flush()
        with pytest.raises(DBAPIError):
            if has_savepoint:
                with session.begin_nested():
                    fail(engine, session)
            else:
                fail(engine, session)
        session.add(Account(id=4, name="late"))
        with pytest.raises(OperationalError) as raised:
            session.commit()
        assert raised.value.orig.args[0] == code
        session.rollback()
        assert sent == [("after_rollback", "lost")]
        assert session.scalars(select(Account.id).where(Account.id.in_([3, 4]))).all() == []
        sent.clear()
        session.add(Account(id=5, name="next"))
        session.commit()
        assert sent == [("after_commit", "next")]
    del raised
    gc.collect()
    assert not aborted._errors


async def test_the_error_of_an_async_driver_is_raised_as_well(
    mariadb_server: Any, sent: list[Any]
) -> None:
    """COMMIT of an async session raises the error of its own driver."""
    with databases.mariadb_database(mariadb_server) as database:
        async_engine, engine = database.create_async_engine(), database.create_sync_engine()
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(Account(id=1, name="a"))
            session.commit()
        sent.clear()
        async with AsyncSession(async_engine) as session:
            session.add(Account(id=3, name="lost"))
            await session.flush()
            with pytest.raises(OperationalError):
                await session.run_sync(lambda plain: change_what_was_changed(engine, plain))
            with pytest.raises(OperationalError, match=str(CHANGED)):
                await session.commit()
        assert sent == [("after_rollback", "lost")]
        await async_engine.dispose()
        engine.dispose()


def time_out(engine: Engine, session: Session) -> None:
    session.execute(text("SET innodb_lock_wait_timeout = 1"))
    with engine.begin() as connection:
        rename(connection, 1)
        with pytest.raises(OperationalError) as raised:
            rename(session, 1)
    assert raised.value.orig.args[0] == TIMEOUT


def test_a_lock_timeout_undoes_its_statement_only(engine: Engine, sent: list[Any]) -> None:
    """The transaction goes on, unless the server is configured to roll it back."""
    with Session(engine) as session:
        session.add(Account(id=3, name="new"))
        session.flush()
        time_out(engine, session)
        session.commit()
        assert sent == [("after_commit", "new")]
        sent.clear()

        @event.listens_for(engine, "before_cursor_execute", retval=True)
        def roll_back(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> Any:
            return statement.replace("@@innodb_rollback_on_timeout", "1"), parameters

        session.add(Account(id=4, name="lost"))
        session.flush()
        time_out(engine, session)
        with pytest.raises(OperationalError):
            session.commit()
        session.rollback()
        assert sent == [("after_rollback", "lost")]


def test_an_earlier_transaction_of_the_connection_is_over(engine: Engine, sent: list[Any]) -> None:
    """On a connection of the application's own, the next transaction can be committed."""
    with engine.connect() as connection:
        with Session(connection) as session:
            with pytest.raises(DBAPIError):
                lose_a_deadlock(engine, session)
            session.rollback()
        connection.rollback()
        with Session(connection) as session:
            session.add(Account(id=3, name="new"))
            session.commit()
        connection.commit()
    assert sent == [("after_commit", "new")]


def test_without_transactions_nothing_is_lost(engine: Engine, sent: list[Any]) -> None:
    """Where each statement is committed by itself, an error undoes that one only."""
    with Session(engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
        session.add(Account(id=3, name="new"))
        session.flush()
        time_out(engine, session)
        session.commit()
    assert sent == [("after_commit", "new")]

"""What the tests of faults have in common: a session that fails, and what is sent meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from aksara_signals import AksaraSignalsError, post_delete, post_save
from aksara_signals.orm import SignalMixin, on_commit, on_rollback
from aksara_signals.orm.outcome.queue import _QUEUE
from kit.databases import Database
from kit.effort import EFFORT

IMMEDIATE, COMMIT, ROLLBACK = "immediate", "after_commit", "after_rollback"
PHASES = (IMMEDIATE, COMMIT, ROLLBACK)
Work = Callable[[Session], Any]

ASYNC_DRIVERS, SYNC_DRIVERS = ("asyncpg", "asyncmy"), ("psycopg", "pymysql")
DRIVERS = {
    "asyncpg": "postgresql",
    "psycopg": "postgresql",
    "asyncmy": "mariadb",
    "pymysql": "mariadb",
}
"""The drivers with their databases: SQLite has no connection to lose."""


def only_on(dialect: str, *, because: str) -> pytest.MarkDecorator:
    """For a test of what only one of the databases does."""
    assert because
    drivers = [driver for driver, its in DRIVERS.items() if its == dialect]
    return pytest.mark.parametrize("driver", drivers, indirect=True)


with_async_drivers = pytest.mark.parametrize("driver", ASYNC_DRIVERS, indirect=True)
"""For a test of what is cancelled: only tasks are."""


def code_of(error: BaseException | None) -> str | int:
    """What the database calls an error: PostgreSQL's SQLSTATE, MariaDB's number."""
    assert isinstance(error, DBAPIError)
    found = getattr(error.orig, "sqlstate", None)
    return error.orig.args[0] if error.orig and isinstance(error.orig.args[0], int) else found


class Base(SignalMixin, DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "row_of_faults"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    secret: Mapped[str] = mapped_column(default="")


class ReceivedKeys:
    """What receivers get: the key of each row that is saved, minus the key of one that is deleted."""

    def __init__(self) -> None:
        self.called: dict[str, list[int]] = {COMMIT: [], ROLLBACK: []}
        self._received: dict[tuple[str, bool], list[int]] = {}
        for phase in PHASES:
            for is_async in (False, True):
                for signal, sign in (post_save, 1), (post_delete, -1):
                    receiver = self._receiver(phase, is_async, sign)
                    signal.connect(receiver, sender=Row, phase=phase)

    def _receiver(self, phase: str, is_async: bool, sign: int) -> Callable[..., Any]:
        received = self._received.setdefault((phase, is_async), [])

        def note(instance: Row, **kwargs: Any) -> None:
            received.append(sign * instance.id)

        async def note_later(instance: Row, **kwargs: Any) -> None:
            note(instance)

        return note_later if is_async else note

    def promise(self, session: Any, number: int) -> None:
        """Callbacks that go the way of the row with this number."""
        on_commit(session, lambda: self.called[COMMIT].append(number))
        on_rollback(session, lambda: self.called[ROLLBACK].append(number))

    def of(self, phase: str) -> list[int]:
        """What was sent in a phase, to async receivers as to sync ones."""
        sync, later = (self._received[phase, is_async] for is_async in (False, True))
        assert Counter(sync) == Counter(later)  # those of two sessions at once may be out of step
        return list(sync)

    def clear(self) -> None:
        """Forget what was received."""
        for received in (*self._received.values(), *self.called.values()):
            received.clear()


class Server:
    """A second connection, which does harm to the first and looks at what is left."""

    def __init__(self, database: Database) -> None:
        self.is_mariadb: bool = database.dialect == "mariadb"
        self.engine = database.create_sync_engine(isolation_level="AUTOCOMMIT", pool_pre_ping=True)

    def execute(self, statement: str, **values: Any) -> Any:
        """The first value that a statement gives, if any."""
        with self.engine.connect() as connection:
            result = connection.execute(text(statement), values)
            return result.scalar() if result.returns_rows else None

    def kill(self, process: int) -> None:
        """End a connection; it is gone when this returns."""
        if self.is_mariadb:
            self.execute(f"kill {process}")
        else:
            assert self.execute("select pg_terminate_backend(:process)", process=process)
        # PostgreSQL's own way to wait looks ten times a second only.
        while process in self._processes():
            time.sleep(0.001)

    def _processes(self) -> set[int]:
        find = "show processlist" if self.is_mariadb else "select pid from pg_stat_activity"
        with self.engine.connect() as connection:
            return set(connection.execute(text(find)).scalars())

    def rows(self) -> set[int]:
        """The keys in the database."""
        with self.engine.connect() as connection:
            return set(connection.execute(select(Row.id)).scalars())

    def contents(self) -> list[tuple[int, str]]:
        """All that is in the database."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(Row.id, Row.secret).order_by(Row.id))
            return [tuple(row) for row in rows]

    def write(self, *keys: int) -> None:
        """Make these the rows in the database, beside all signals."""
        with self.engine.begin() as connection:
            connection.execute(Row.__table__.delete())
            for key in keys:
                connection.execute(Row.__table__.insert().values(id=key, secret=""))


class Twin:
    """One session of either kind, on an engine of its own that has one connection."""

    def __init__(self, driver: str, database: Database, **options: Any) -> None:
        self.driver = driver
        self.is_async = driver in ASYNC_DRIVERS
        self.is_mariadb: bool = DRIVERS[driver] == "mariadb"
        options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 10} | options
        if self.is_async:
            self._async_engine = database.create_async_engine(**options)
            self.engine: Engine = self._async_engine.sync_engine
            self.sessions: Any = async_sessionmaker(self._async_engine)
        else:
            self.engine = database.create_sync_engine(**options)
            self.sessions = sessionmaker(self.engine)
        self.session: Any = self.sessions()
        self.lost_by_sqlalchemy: int = 0
        """Connections that SQLAlchemy's own pool doesn't get back."""

    @property
    def plain(self) -> Session:
        return self.session.sync_session if self.is_async else self.session

    async def do(self, work: Work) -> Any:
        """Do synchronous work with the session; a hang fails."""
        async with asyncio.timeout(60):
            if self.is_async:
                return await self.session.run_sync(work)
            return work(self.session)

    async def block(self, row: Row, *, of_maker: bool) -> None:
        """Add a row in a ``begin()`` block, of the session or of its factory."""
        begin = (self.sessions if of_maker else self.session).begin()
        if self.is_async:
            async with begin as given:
                (given if of_maker else self.session).add(row)
        else:
            with begin as given:
                (given if of_maker else self.session).add(row)

    async def renew(self, **options: Any) -> None:
        """Go on with a new session."""
        await self.do(Session.close)
        self.session = self.sessions(**options)

    async def dispose(self) -> None:
        """No connection is left outside of the pool."""
        await self.do(Session.close)
        assert self.engine.pool.checkedout() == self.lost_by_sqlalchemy
        if self.is_async:
            await self._async_engine.dispose()
        else:
            self.engine.dispose()


# -- points at which a fault strikes --------------------------------------------------------------


def process_of(connection: Connection) -> int:
    """The server's process behind a connection, without a query."""
    driver: Any = connection.connection.driver_connection
    if hasattr(driver, "get_server_pid"):
        return driver.get_server_pid()
    if hasattr(driver, "thread_id"):
        return driver.thread_id()
    return driver.info.backend_pid


class Trips:
    """Counts the round trips of an engine: before and behind each statement, before COMMIT…"""

    def __init__(self, strike: Callable[[Connection], Any], at: int | None) -> None:
        self._strike = strike
        self._at = at
        self.names: list[str] = []
        """What each point was."""

    @property
    def has_struck(self) -> bool:
        return self._at is not None and len(self.names) > self._at

    def pass_by(self, name: str, connection: Connection) -> None:
        self.names.append(name)
        if len(self.names) - 1 == self._at:
            self._strike(connection)


@contextmanager
def trips(
    engine: Engine, strike: Callable[[Connection], Any] = process_of, at: int | None = None
) -> Iterator[Trips]:
    """Call ``strike`` at one point of what happens inside."""
    found = Trips(strike, at)

    def statement(moment: str) -> Callable[..., None]:
        def listen(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
            found.pass_by(f"{moment} {statement.split(maxsplit=1)[0]}", connection)

        return listen

    listeners: dict[str, Callable[..., None]] = {
        "before_cursor_execute": statement("before"),
        "after_cursor_execute": statement("after"),
        "commit": lambda connection: found.pass_by("before COMMIT", connection),
        "rollback": lambda connection: found.pass_by("before ROLLBACK", connection),
    }
    for name, listener in listeners.items():
        event.listen(engine, name, listener)
    try:
        yield found
    finally:
        for name, listener in listeners.items():
            event.remove(engine, name, listener)


def some(points: list[str], name: str, most: int = 4) -> list[tuple[int, str]]:
    """The points with their places: a few in an ordinary run, all of them in a longer one."""
    places = range(len(points))
    if EFFORT == 1 and len(points) > most:
        places = sorted(random.Random(name).sample(places, most))
    return [(at, points[at]) for at in places]


# -- what must hold ------------------------------------------------------------------------------


def is_sqlalchemys(error: BaseException) -> bool:
    """Whether an error of the database has come through as SQLAlchemy raised it."""
    return (
        type(error).__module__ == "sqlalchemy.exc"
        and isinstance(error, DBAPIError)
        and error.orig is not None
        and not isinstance(error, AksaraSignalsError)
    )


def is_empty(session: Session) -> bool:
    """Whether nothing waits in a session."""
    queue = vars(session).get(_QUEUE)
    return queue is None or (
        not queue.by_transaction
        and not queue.next
        and not queue.committed
        and not queue.shields
        and not queue.deliveries
    )


def recover(session: Session, how: str = "rollback") -> list[DBAPIError]:
    """End what is left of the transaction, as often as it takes; what that raised.

    In a savepoint SQLAlchemy itself needs a second ``rollback()`` or ``close()`` if the connection
    turns out to be lost in the first.
    """
    errors: list[DBAPIError] = []
    for _ in range(4):
        try:
            getattr(session, how)()
        except DBAPIError as error:
            errors.append(error)
        if not session.in_transaction():
            assert all(is_sqlalchemys(error) for error in errors)
            return errors
    raise AssertionError("the session doesn't end")


async def check_next_transaction(
    twin: Twin, received: ReceivedKeys, server: Server, key: int = 900
) -> None:
    """The session that has failed writes a row, and all receivers are called once."""
    assert is_empty(twin.plain)
    before = {phase: received.of(phase) for phase in PHASES}
    called = {phase: list(keys) for phase, keys in received.called.items()}

    def write(session: Session) -> None:
        received.promise(session, key)
        session.add(Row(id=key))
        session.commit()

    await twin.do(write)
    assert received.of(IMMEDIATE) == [*before[IMMEDIATE], key]
    assert received.of(COMMIT) == [*before[COMMIT], key]
    assert received.of(ROLLBACK) == before[ROLLBACK]
    assert received.called == {COMMIT: [*called[COMMIT], key], ROLLBACK: called[ROLLBACK]}
    assert key in server.rows()
    assert is_empty(twin.plain)
    assert twin.engine.pool.checkedout() == 0

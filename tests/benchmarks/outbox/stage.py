"""Where durable receivers are measured: databases, mapped classes, receivers, and stored rows."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kit import databases
from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aksara_signals import post_save
from aksara_signals.contrib.outbox import Durable, Outbox
from aksara_signals.contrib.outbox.models import model_name
from aksara_signals.orm import SignalMixin

DIALECTS = ("sqlite", "postgresql", "mariadb")
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB"}

SERVER_SETTINGS = """
max_connections = 200
shared_buffers = 512MB
max_wal_size = 4GB
autovacuum_naptime = 10s
"""
"""Those of a small server of one's own: commits are on the disk before they return (``fsync``,
``synchronous_commit`` and ``full_page_writes`` are on), and autovacuum runs."""

ResultT = TypeVar("ResultT")


class Base(SignalMixin, DeclarativeBase):
    """Mapped classes, with signals."""


class Columns:
    """What all mapped classes have."""

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


class Plain(Columns, Base):
    """Nothing is connected to it."""

    __tablename__ = "plain"


class Later(Columns, Base):
    """With a receiver after the commit."""

    __tablename__ = "later"


class Stored(Columns, Base):
    """With a durable receiver."""

    __tablename__ = "stored"


class Effect(Base):
    """What a receiver with a session writes."""

    __tablename__ = "effect"

    id: Mapped[int] = mapped_column(primary_key=True)
    about: Mapped[int]


class Handmade(Base):
    """What a loop by hand has in place of an outbox."""

    __tablename__ = "handmade"

    seq: Mapped[int] = mapped_column(primary_key=True)
    about: Mapped[int]
    status: Mapped[int] = mapped_column(default=0)


outbox = Outbox(Base.metadata)
announcing = Outbox(Base.metadata, notify=True, name="announced_outbox")
"""The same; processes that write into it notify workers."""


async def receive(instance: Any, **kwargs: Any) -> None:
    """A receiver that does nothing."""


async def write(event: Any, session: AsyncSession, **kwargs: Any) -> None:
    """A receiver that writes one row, in the transaction that marks its own as done."""
    session.add(Effect(about=event.key[0]))


async def look(event: Any, **kwargs: Any) -> None:
    """A receiver without a session: rows are marked as done in batches."""


async def wait(event: Any, **kwargs: Any) -> None:
    """A receiver that waits for something, as most of them do."""
    await asyncio.sleep(0.02)


async def fail(event: Any, **kwargs: Any) -> None:
    """A receiver that is down."""
    raise ConnectionError("the search engine is down")


SESSION, BATCHED, DOWN = "bench.session", "bench.batched", "bench.down"
PATIENT = "bench.waiting"
SHARES = tuple(f"bench.share{number}" for number in range(5))
"""Receivers among which the rows of claims are divided."""


@contextmanager
def connected() -> Iterator[None]:
    """Receivers of rows that are stored by :func:`store`."""
    with (
        post_save.connected_to(write, sender=Plain, durable=SESSION),
        post_save.connected_to(look, sender=Plain, durable=BATCHED),
        post_save.connected_to(wait, sender=Plain, durable=PATIENT),
        post_save.connected_to(fail, sender=Plain, durable=Durable(DOWN)),
    ):
        outbox.install()
        yield
        outbox.uninstall()


@dataclass(frozen=True)
class Place:
    """An empty database; another process may open it, too."""

    dialect: str
    url: str
    schema: str | None = None
    synchronous: str = "NORMAL"
    """SQLite: whether each commit waits for the disk (``FULL``)."""

    def engine(self, **options: Any) -> AsyncEngine:
        """A new engine, as an application would make it."""
        arguments: dict[str, Any] = {}
        if self.schema is not None:
            arguments["server_settings"] = {"search_path": self.schema}
        engine = create_async_engine(
            make_url(self.url),
            **{"pool_size": 20, "max_overflow": 0, "connect_args": arguments, **options},
        )
        if self.dialect == "sqlite":
            use_immediate_recipe(engine, self.synchronous)
        return engine


def use_immediate_recipe(engine: AsyncEngine, synchronous: str) -> None:
    """Begin SQLite's transactions at once, as workers need it."""

    @event.listens_for(engine.sync_engine, "connect")
    def leave_transactions_to_sqlalchemy(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA synchronous = {synchronous}")
        cursor.execute("PRAGMA busy_timeout = 30000")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


class Stage:
    """Makes empty databases on one server and in one folder."""

    def __init__(self, server: Any, mariadb: Any, folder: Path) -> None:
        self._server = server
        self._mariadb = mariadb
        self._folder = folder
        self._count = 0

    @contextmanager
    def empty(self, dialect: str) -> Iterator[Place]:
        """A database with empty tables."""
        self._count += 1
        if dialect == "sqlite":
            folder = self._folder / str(self._count)
            folder.mkdir()
            database = databases.sqlite_database(folder)
            place = Place(dialect, str(database.async_url))
            asyncio.run(create_tables(place))
            yield place
            for file in folder.iterdir():
                file.unlink()
            return
        is_mariadb = dialect == "mariadb"
        make = databases.mariadb_database if is_mariadb else databases.postgresql_database
        with make(self._mariadb if is_mariadb else self._server) as database:
            url = database.async_url.render_as_string(hide_password=False)
            place = Place(dialect, url, database.schema)
            asyncio.run(create_tables(place))
            yield place


def server_version(stage: Stage, dialect: str) -> str:
    """Name and version of a database."""
    with stage.empty(dialect) as place:
        number = asyncio.run(with_engine(place, _version))
    return f"{NAMES[dialect]} {number.partition(' ')[0].partition('-')[0]}"


async def _version(engine: AsyncEngine) -> str:
    statement = {
        "sqlite": "SELECT sqlite_version()",
        "postgresql": "SHOW server_version",
        "mariadb": "SELECT version()",
    }[engine.dialect.name]
    async with engine.connect() as connection:
        return str((await connection.exec_driver_sql(statement)).scalar_one())


async def create_tables(place: Place) -> None:
    """Create all tables."""
    engine = place.engine()
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()


@contextmanager
def opened() -> Iterator[Stage]:
    """All databases: the servers of the variables of the tests; or a throw-away PostgreSQL.

    Raises:
        RuntimeError: No MariaDB server answers.
    """
    mariadb = databases.mariadb_server()
    if mariadb is None:
        raise RuntimeError(f"no MariaDB server answers ({databases.MARIADB})")
    mariadb = mariadb.set(drivername=mariadb.drivername.replace("mysql", "mariadb"))
    given = os.environ.get("AKSARA_TEST_POSTGRES_URL")
    with tempfile.TemporaryDirectory(prefix="aksara-bench-") as folder:
        if given:
            yield Stage(make_url(given), mariadb, Path(folder))
            return
        with databases.throw_away_server(SERVER_SETTINGS) as server:
            yield Stage(server, mariadb, Path(folder))


async def with_engine(
    place: Place, function: Callable[..., Awaitable[ResultT]], *arguments: Any
) -> ResultT:
    """Call a coroutine function with an engine, which is disposed of afterwards."""
    engine = place.engine()
    try:
        return await function(engine, *arguments)
    finally:
        await engine.dispose()


# -- stored rows -----------------------------------------------------------------------------------

_STORE = r"""
    INSERT INTO aksara_outbox
        (id, receiver, type, aggregatetype, aggregateid, lane, payload, created_at)
    SELECT {identifier}, CAST(:receiver AS VARCHAR), 'post_save', CAST(:model AS VARCHAR),
        '[' || number || ']', {lane},
        CAST('{{"v"\: 1, "key"\: [' || number || '], "created"\: true}}' AS {json}), {now}
    FROM {numbers}
"""
_PARTS = {
    "postgresql": {
        "identifier": "gen_random_uuid()",
        "lane": "hashtextextended(CAST(:receiver AS VARCHAR) || number, 0)",
        "json": "JSONB",
        "now": "clock_timestamp()",
        "numbers": "generate_series(CAST(:first AS BIGINT), CAST(:last AS BIGINT)) AS all_(number)",
    },
    "sqlite": {
        "identifier": "lower(hex(randomblob(16)))",
        "lane": "number * 1000003 + unicode(substr(:receiver, -1)) * 1000000000039",
        "json": "TEXT",
        "now": "strftime('%Y-%m-%d %H:%M:%f', 'now')",
        "numbers": "(WITH RECURSIVE all_(number) AS (SELECT :first UNION ALL "
        "SELECT number + 1 FROM all_ WHERE number < :last) SELECT number FROM all_)",
    },
}
_STORE_IN_MARIADB = r"""
    INSERT INTO aksara_outbox
        (id, receiver, type, aggregatetype, aggregateid, lane, payload, created_at)
    SELECT replace(uuid(), '-', ''), :receiver, 'post_save', :model, concat('[', seq, ']'),
        conv(left(md5(concat(:receiver, seq)), 15), 16, 10),
        concat('{{"v"\: 1, "key"\: [', seq, '], "created"\: true}}'), utc_timestamp(6)
    FROM seq_{first}_to_{last}
"""


async def store(connection: AsyncConnection, receiver: str, count: int, first: int = 1) -> None:
    """Store rows for a receiver, each about another object, as flushes would have stored them.

    Args:
        connection: In a transaction.
        receiver: The name of the receiver.
        count: How many rows.
        first: The key of the first object.
    """
    values: dict[str, Any] = {"receiver": receiver, "model": model_name(Plain)}
    limits = {"first": first, "last": first + count - 1}
    if connection.dialect.name == "mariadb":
        await connection.execute(text(_STORE_IN_MARIADB.format(**limits)), values)
        return
    statement = text(_STORE.format(**_PARTS[connection.dialect.name]))
    await connection.execute(statement, values | limits)


async def analyze(engine: AsyncEngine) -> None:
    """Let the database look at what it holds, as it does by itself sooner or later."""
    async with engine.begin() as connection:
        is_mariadb = engine.dialect.name == "mariadb"
        await connection.exec_driver_sql(f"ANALYZE{' TABLE aksara_outbox' * is_mariadb}")

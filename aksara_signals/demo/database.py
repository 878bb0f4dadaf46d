"""The database of the demonstration, and what to say if it can't be used."""

from __future__ import annotations

import threading
from typing import Any

from sqlalchemy import MetaData, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidRequestError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

EMBEDDED: str = "sqlite+aiosqlite://"
"""A database in the memory of this process."""


def make_engine(url: str) -> AsyncEngine:
    """An engine for the demonstration.

    Raises:
        SystemExit: The URL is malformed, or its driver is not installed or not async.
    """
    hint = f"try {EMBEDDED}, postgresql+asyncpg://… or mysql+asyncmy://…"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # A password may be anywhere in a malformed URL, so its text is not repeated.
        raise SystemExit(
            f"this is not a URL of an async database: it can't be read; {hint}"
        ) from None
    try:
        engine = create_async_engine(parsed)
    except ModuleNotFoundError as error:
        extra = {"aiosqlite": "sqlite", "asyncpg": "postgres", "asyncmy": "mariadb"}
        wanted = error.name
        if error.name in extra:
            wanted = f"aksara-signals[{extra[error.name]}]"
        raise SystemExit(f"{error.name} is not installed; run: pip install '{wanted}'") from error
    except ImportError as error:
        raise SystemExit(f"{parsed.drivername} can't be loaded: {one_line(error)}") from error
    except (ArgumentError, NoSuchModuleError, InvalidRequestError) as error:
        raise SystemExit(
            f"this is not a URL of an async database: {one_line(error)}; {hint}"
        ) from error
    if engine.dialect.name == "sqlite":
        use_begin_recipe(engine)
    return engine


async def create_tables(engine: AsyncEngine, metadata: MetaData) -> None:
    """Create the tables of the demonstration.

    Raises:
        SystemExit: The database can't be reached, or rejects the tables.
    """
    doing = "connect to"
    threads = {*threading.enumerate()}
    try:
        async with engine.connect():
            doing = "create tables in"
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
    except Exception as error:  # every driver has errors of its own
        if engine.dialect.name == "sqlite":
            # aiosqlite's thread of a connection that failed still reports to the event loop. If
            # the loop is closed before it does, a traceback is printed.
            for thread in {*threading.enumerate()} - threads:
                thread.join(timeout=1)
        # The query of the URL may hold secrets, too.
        where = engine.url.set(query={}).render_as_string(hide_password=True)
        why = one_line(error)
        if engine.url.password:
            why = why.replace(engine.url.password, "***")
        raise SystemExit(f"could not {doing} {where}: {why}") from error


def one_line(error: BaseException) -> str:
    """The type and message of an error; of the driver's own error, if SQLAlchemy has wrapped it."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig.__cause__ or error.orig  # asyncpg's errors are wrapped twice
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(" .:")


def use_begin_recipe(engine: AsyncEngine) -> None:
    """SQLAlchemy's recipe for SQLite: without it, releasing a savepoint would commit.

    Transactions begin with the lock for writing. Otherwise, two processes that have both read, and
    both want to write, would fail with "database is locked".
    """

    @event.listens_for(engine.sync_engine, "connect")
    def leave_transactions_alone(connection: Any, record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

"""How the commands use the database of an outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from aksara_signals.contrib.outbox.outbox import Outbox
from aksara_signals.contrib.outbox.rows.errors import is_missing
from aksara_signals.contrib.outbox.worker.gateway import begin


class OutboxCommandError(Exception):
    """A command can't be run; the message is for the user."""


class Store:
    """The database of an outbox, through the application's sessions.

    Args:
        outbox: The outbox.
        sessions: What makes sessions, async or not.
        runner: Runs what is async.
    """

    def __init__(self, outbox: Outbox, sessions: Callable[[], Any], runner: asyncio.Runner) -> None:
        self.outbox: Outbox = outbox
        self.sessions: Callable[[], Any] = sessions
        self._runner = runner

    def run(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a function with a connection and ``arguments``, in a transaction of its own."""

        def call(session: Session) -> Any:
            result = function(begin(session, self.outbox.tables), *arguments, **options)
            session.commit()
            return result

        return self.in_session(call)

    def in_session(self, function: Callable[[Session], Any]) -> Any:
        """Call a function with a session."""
        session = self.sessions()
        if isinstance(session, AsyncSession):
            return self._runner.run(_in_async_session(session, function))
        with session:
            return function(session)

    def dispose(self) -> None:
        """Close the connections that the engine holds."""
        self.in_session(
            lambda session: session.get_bind(clause=self.outbox.tables.outbox).engine.dispose()
        )


async def _in_async_session(session: AsyncSession, function: Callable[[Session], Any]) -> Any:
    async with session:
        return await session.run_sync(function)


@contextmanager
def reported(outbox: Outbox) -> Iterator[None]:
    """Report what goes wrong in the database, in one line."""
    try:
        yield
    except DBAPIError as error:
        if is_missing(error):
            raise OutboxCommandError(
                f"table {outbox.tables.outbox.fullname} is missing, or lacks a column; see "
                f"'aksara-signals outbox check'"
            ) from error
        raise OutboxCommandError(f"the database: {_first_line(error.orig or error)}") from error
    except Exception as error:
        # asyncpg's errors of connecting are passed on by SQLAlchemy as they are.
        is_of_driver = type(error).__module__.partition(".")[0] == "asyncpg"
        if not is_of_driver and not isinstance(error, (SQLAlchemyError, OSError)):
            raise
        raise OutboxCommandError(f"the database: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"

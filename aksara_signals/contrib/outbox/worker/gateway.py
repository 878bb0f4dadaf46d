"""How a worker uses the sessions that it was given: in greenlets of its loop, or in threads.

What is done with a session is synchronous code in both cases. An AsyncSession runs it in a greenlet
(``run_sync``), from which async receivers are awaited; a plain session runs it in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import CancelledError, Future
from contextlib import closing
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from aksara_signals.contrib.outbox.rows.tables import Tables
from aksara_signals.contrib.outbox.worker.threads import Threads
from aksara_signals.dispatch.delivery.delivery import Delivery
from aksara_signals.dispatch.delivery.loop import deliver, deliver_sync
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import InvalidOptionError
from aksara_signals.orm.bridge.dialects import is_mysql
from aksara_signals.orm.session.current import ActiveSession, AnySession, user_session

ResultT = TypeVar("ResultT")

_READ_COMMITTED = {"isolation_level": "READ COMMITTED"}

Sessions = Callable[..., AnySession]
"""What makes sessions: an ``async_sessionmaker`` or a ``sessionmaker``."""


def connection_to(session: Session, tables: Tables) -> Connection:
    """The connection of a session to the database that the tables are in."""
    return session.connection(bind_arguments={"clause": tables.outbox})


def _closing(
    session: Session, function: Callable[..., ResultT], arguments: Iterable[Any]
) -> ResultT:
    with closing(session):
        return function(session, *arguments)


def begin(session: Session, tables: Tables) -> Connection:
    """Begin a transaction of a worker, which is ``READ COMMITTED`` on MySQL as elsewhere.

    By default it would be ``REPEATABLE READ`` there: locks would also hold up who inserts beside
    the locked rows, and a heartbeat could make the receiver fail whose row it has changed.
    """
    session.begin()  # as a context manager, it wouldn't commit an inactive one, silently
    bind = session.get_bind(clause=tables.outbox)
    options = _READ_COMMITTED if is_mysql(bind.dialect) and isinstance(bind, Engine) else None
    return session.connection(bind_arguments={"clause": tables.outbox}, execution_options=options)


def _in_transaction(
    session: Session, tables: Tables, function: Callable[..., ResultT], arguments: Iterable[Any]
) -> ResultT:
    result = function(begin(session, tables), *arguments)
    session.commit()
    return result


class Gateway:
    """Opens sessions, and runs functions in them.

    Args:
        sessions: Makes AsyncSessions.
        tables: The tables of the outbox.
        bind: What the sessions connect to for these tables.
    """

    is_async: bool = True

    def __init__(self, sessions: Sessions, tables: Tables, bind: Engine | Connection) -> None:
        self._sessions = sessions
        self.tables: Tables = tables
        self.bind: Engine | Connection = bind

    @property
    def engine(self) -> Engine:
        """The engine of the outbox's database."""
        return self.bind.engine

    @property
    def is_sqlite(self) -> bool:
        """Whether the database has only one writer at a time."""
        return self.bind.dialect.name == "sqlite"

    @property
    def capacity(self) -> int | None:
        """How many connections there are at most; None if that isn't known."""
        if isinstance(self.bind, Connection):
            return 1
        pool = self.bind.pool
        if not isinstance(pool, QueuePool):
            return None
        overflow: int = pool._max_overflow  # noqa: SLF001 - no public name  # pyright: ignore[reportPrivateUsage]
        return None if overflow < 0 or not pool.size() else pool.size() + overflow

    def open(self) -> Any:
        """A new session."""
        return self._sessions(expire_on_commit=False)

    async def run(self, function: Callable[..., ResultT], *arguments: Any) -> ResultT:
        """Call ``function(session, *arguments)`` with a new session, and close that."""
        # Closed within the greenlet: AsyncSession.close() would take a task of its own.
        session: AsyncSession = self.open()
        return await session.run_sync(_closing, function, arguments)

    async def run_in_transaction(
        self, function: Callable[..., ResultT], *arguments: Any
    ) -> ResultT:
        """Call ``function(connection, *arguments)`` in a transaction, and commit it."""
        return await self.run(_in_transaction, self.tables, function, arguments)

    async def deliver(self, delivery: Delivery, is_async: bool) -> None:
        """Deliver to one receiver that is given no session."""
        await deliver((delivery,))

    def driver(self) -> Driver | None:
        """What runs the awaitables of receivers, if synchronous code can't await them itself."""
        return None

    def close(self) -> None:
        """To be called at the end."""


class ThreadGateway(Gateway):
    """As :class:`Gateway`, with plain sessions: everything runs in threads."""

    is_async = False

    def __init__(self, sessions: Sessions, tables: Tables, bind: Engine | Connection) -> None:
        super().__init__(sessions, tables, bind)
        self._threads = Threads("aksara-signals worker")

    async def run(self, function: Callable[..., ResultT], *arguments: Any) -> ResultT:
        """As in the base class, in a thread."""
        return await self._threads.run(self._run, function, arguments)

    def _run(self, function: Callable[..., ResultT], arguments: tuple[Any, ...]) -> ResultT:
        return _closing(self.open(), function, arguments)

    async def deliver(self, delivery: Delivery, is_async: bool) -> None:
        """Deliver to one receiver that is given no session; a synchronous one gets a thread."""
        if is_async:
            await deliver((delivery,))
            return
        driver = Driver(asyncio.get_running_loop())
        try:
            await self._threads.run(deliver_sync, (delivery,), False, None, driver)
        except asyncio.CancelledError:
            driver.cancel()
            raise

    def driver(self) -> Driver | None:
        """As in the base class."""
        return Driver(asyncio.get_running_loop())

    def close(self) -> None:
        """As in the base class."""
        self._threads.close()


class Driver:
    """Runs awaitables for a thread, on the event loop of the worker.

    The clients that receivers use, for HTTP for example, belong to that loop. The thread waits
    meanwhile, so its session is used by one of both at a time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: Future[Any] | None = None
        self._is_cancelled = False
        self.session: Session | None = None
        """The session of the receiver, if it has one."""

    def __call__(self, awaitable: Awaitable[Any], /) -> Any:
        """Run an awaitable to its end, and return its result."""
        self._future = asyncio.run_coroutine_threadsafe(self._awaited(awaitable), self._loop)
        if self._is_cancelled:
            self._future.cancel()
        try:
            return self._future.result()
        except CancelledError as error:
            raise asyncio.CancelledError from error

    async def _awaited(self, awaitable: Awaitable[Any]) -> Any:
        # The active session is that of a thread, or of a task: here another task goes on with it.
        active = None if self.session is None else ActiveSession(user_session(self.session))
        try:
            return await awaitable
        finally:
            if active is not None:
                active.end()

    def cancel(self) -> None:
        """Cancel what runs on the loop; a thread itself can't be cancelled."""
        self._is_cancelled = True
        if self._future is not None:
            self._future.cancel()


def gateway_for(sessions: Any, tables: Tables) -> Gateway:
    """The gateway to a factory of sessions.

    Raises:
        InvalidOptionError: It doesn't make sessions, or they are bound to nothing.
    """
    start = f"a worker was given the sessions {describe_sender(sessions)}"
    remedy = "give it an async_sessionmaker or a sessionmaker, bound to an engine"
    try:
        session = sessions(expire_on_commit=False)
    except TypeError as error:
        raise InvalidOptionError(f"{start}, which make no session; {remedy}") from error
    if not isinstance(session, (AsyncSession, Session)):
        if asyncio.iscoroutine(session):
            session.close()
        raise InvalidOptionError(f"{start}, which make {describe_sender(session)}; {remedy}")
    is_async = isinstance(session, AsyncSession)
    plain = session.sync_session if isinstance(session, AsyncSession) else session
    try:
        bind = plain.get_bind(clause=tables.outbox)
    except Exception as error:
        raise InvalidOptionError(f"{start}, which are not bound to a database; {remedy}") from error
    return (Gateway if is_async else ThreadGateway)(sessions, tables, bind)

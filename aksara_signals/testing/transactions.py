"""Sessions whose writes never last, and what waits for their outcome."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from types import TracebackType
from typing import Any, NoReturn, TypeVar, overload

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from aksara_signals.dispatch.receivers.identity import is_class, type_name
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import InvalidOptionError
from aksara_signals.orm.outcome.queue import Checkpoint, checkpoint, deliver_since
from aksara_signals.orm.session.current import AnySession, sync_session_of

__all__ = ["as_if_committed", "rolled_back"]

SessionT = TypeVar("SessionT", bound=Session)
AsyncSessionT = TypeVar("AsyncSessionT", bound=AsyncSession)
ClassT = TypeVar("ClassT", Session, AsyncSession)


@overload
def rolled_back(
    engine: AsyncEngine, class_: None = None, **options: Any
) -> AbstractAsyncContextManager[AsyncSession]: ...


@overload
def rolled_back(
    engine: AsyncEngine, class_: type[AsyncSessionT], **options: Any
) -> AbstractAsyncContextManager[AsyncSessionT]: ...


@overload
def rolled_back(
    engine: Engine, class_: None = None, **options: Any
) -> AbstractContextManager[Session]: ...


@overload
def rolled_back(
    engine: Engine, class_: type[SessionT], **options: Any
) -> AbstractContextManager[SessionT]: ...


def rolled_back(engine: Any, class_: Any = None, **options: Any) -> Any:
    """A session for a test, which rolls back at the end whatever the test has committed.

    The session is joined into a transaction of its connection (SQLAlchemy's recipe for test
    suites): its ``commit()`` releases a savepoint, and receivers that wait for the commit are
    called. What is written is seen on this connection only.

    Args:
        engine: An ``AsyncEngine``, for ``async with``, or an ``Engine``, for ``with``. On SQLite it
            needs SQLAlchemy's recipe for savepoints.
        class_: The class of the session, such as ``sqlmodel.Session``; by default
            ``AsyncSession`` or ``Session``, as the engine needs it.
        options: Of the session.

    Raises:
        InvalidOptionError: What was given is no engine, or the class of the session is for the
            other kind of engine, or the block was entered with ``with`` instead of ``async with``,
            or the reverse.
    """
    if not isinstance(engine, (AsyncEngine, Engine)):
        raise InvalidOptionError(f"rolled_back() was given {_what_instead_of_an_engine(engine)}")
    if "bind" in options:
        raise InvalidOptionError(
            "rolled_back() was given bind=; the session is bound to a connection of the engine"
        )
    options.setdefault("join_transaction_mode", "create_savepoint")
    if isinstance(engine, AsyncEngine):
        return _AsyncRolledBack(engine, _class_of(class_, AsyncSession, engine), options)
    return _RolledBack(engine, _class_of(class_, Session, engine), options)


def _class_of(given: Any, usual: type[ClassT], engine: AsyncEngine | Engine) -> type[ClassT]:
    if given is None:
        return usual
    if not (is_class(given) and issubclass(given, usual)):
        raise InvalidOptionError(_problem_of_class(given, engine))
    return given


def _what_instead_of_an_engine(given: Any) -> str:
    """What is wrong, and the way out; a URL's text is not shown, it may hold a password."""
    if isinstance(given, (str, URL)):
        return "a URL; give an engine, such as rolled_back(create_async_engine(url))"
    if isinstance(given, (Connection, AsyncConnection)):
        return (
            f"{type_name(given)!r}, and opens a connection of its own; give the engine: "
            f"rolled_back(engine)"
        )
    if isinstance(given, (sessionmaker, async_sessionmaker)):
        return (
            f"{type_name(given)!r}; give the engine that it is bound to, and what it makes as "
            f"class_=: rolled_back(engine, class_=…)"
        )
    if isinstance(given, (Session, AsyncSession, scoped_session, async_scoped_session)):
        return (
            f"{type_name(given)!r}, and makes a session of its own; give the engine: "
            f"rolled_back(engine)"
        )
    return f"{type_name(given)!r}; it takes an AsyncEngine or an Engine"


def _problem_of_class(class_: Any, engine: AsyncEngine | Engine) -> str:
    is_async = isinstance(engine, AsyncEngine)
    of_engine = "an AsyncEngine" if is_async else "an Engine"
    usual = "AsyncSession" if is_async else "Session"
    given = f"rolled_back() was given class_={describe_sender(class_)}"
    if is_class(class_) and issubclass(class_, (Session, AsyncSession)):
        other = "an Engine" if is_async else "an AsyncEngine"
        return (
            f"{given}, which works with {other}, and {of_engine}; give {usual}, or a subclass of "
            f"it, or {other}"
        )
    return f"{given}, which is not a class of sessions; give {usual}, or a subclass of it"


class _RolledBack(AbstractContextManager[Session]):
    """For a plain engine."""

    def __init__(self, engine: Engine, class_: type[Session], options: dict[str, Any]) -> None:
        self._block = _rolled_back(engine, class_, options)

    def __call__(self, _: object) -> NoReturn:
        raise InvalidOptionError(
            "rolled_back() can't decorate, because it gives the session to its block; write "
            "'with rolled_back(engine) as session'"
        )

    def __enter__(self) -> Session:
        return self._block.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._block.__exit__(exc_type, exc, traceback)

    def __aenter__(self) -> NoReturn:
        raise InvalidOptionError(
            "rolled_back() was given an Engine, whose sessions are for 'with', and was entered "
            "with 'async with'; write 'with rolled_back(engine)', or give an AsyncEngine"
        )

    def __aexit__(self, *_: object) -> None:
        """Never called: ``async with`` looks for it before it enters."""


class _AsyncRolledBack(AbstractAsyncContextManager[AsyncSession]):
    """For an async engine."""

    def __init__(
        self, engine: AsyncEngine, class_: type[AsyncSession], options: dict[str, Any]
    ) -> None:
        self._block = _rolled_back_async(engine, class_, options)

    def __call__(self, _: object) -> NoReturn:
        raise InvalidOptionError(
            "rolled_back() can't decorate, because it gives the session to its block; write "
            "'async with rolled_back(engine) as session'"
        )

    async def __aenter__(self) -> AsyncSession:
        return await self._block.__aenter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._block.__aexit__(exc_type, exc, traceback)

    def __enter__(self) -> NoReturn:
        raise InvalidOptionError(
            "rolled_back() was given an AsyncEngine, whose sessions are for 'async with', and was "
            "entered with 'with'; write 'async with rolled_back(engine)', or give an Engine"
        )

    def __exit__(self, *_: object) -> None:
        """Never called: ``with`` looks for it before it enters."""


@contextmanager
def _rolled_back(
    engine: Engine, class_: type[Session], options: dict[str, Any]
) -> Iterator[Session]:
    with engine.connect() as connection:
        transaction = connection.begin()
        try:
            with class_(connection, **options) as session:
                yield session
        finally:
            transaction.rollback()


@asynccontextmanager
async def _rolled_back_async(
    engine: AsyncEngine, class_: type[AsyncSession], options: dict[str, Any]
) -> AsyncIterator[AsyncSession]:
    async with engine.connect() as connection:
        transaction = await connection.begin()
        try:
            async with class_(connection, **options) as session:
                yield session
        finally:
            await transaction.rollback()


class as_if_committed:  # noqa: N801 - used like a function, as contextlib's are
    """Deliver what a block has left waiting as if its transaction had been committed.

    For tests of code that only flushes, in a transaction that is rolled back later: at the end of
    the ``with`` or ``async with`` block, receivers with ``phase="after_commit"`` and callbacks of
    ``on_commit`` are called for what happened inside, in order, and wait no longer. If the block
    raises, all goes on waiting.

    Args:
        session: An ``AsyncSession``, for ``async with``, or a ``Session``, for ``with``.

    Source: Django's ``captureOnCommitCallbacks(execute=True)``.
    """

    def __init__(self, session: AnySession) -> None:
        self._session = session
        self._mark: Checkpoint = {}

    def __call__(self, _: object) -> NoReturn:
        """Never decorates.

        Raises:
            InvalidOptionError: Always: its session is there before the test is.
        """
        raise InvalidOptionError(
            "as_if_committed() can't decorate, because its session is the test's; write "
            "'with as_if_committed(session)' inside the function"
        )

    def __enter__(self) -> None:
        self._mark = checkpoint(sync_session_of(self._session))

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            deliver_since(sync_session_of(self._session), self._mark)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None and isinstance(self._session, AsyncSession):
            await self._session.run_sync(deliver_since, self._mark)
        else:
            self.__exit__(exc_type, exc, traceback)

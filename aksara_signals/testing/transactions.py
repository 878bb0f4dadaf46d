"""Sessions that are rolled back after a test, and delivery as if they had been committed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from functools import partial
from typing import Any, TypeVar, overload

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from aksara_signals.dispatch.blocks import Block
from aksara_signals.dispatch.receivers.identity import is_class, type_name
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import InvalidOptionError
from aksara_signals.orm.outcome.queue import checkpoint, deliver_since
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
    """A session for a test; at the end, everything is rolled back, even what was committed.

    The session is joined into a transaction of its connection (SQLAlchemy's recipe for test
    suites): its ``commit()`` releases a savepoint, and receivers with ``phase="after_commit"``
    are called. What is written is visible on this connection only.

    Args:
        engine: An ``AsyncEngine``, for ``async with``, or an ``Engine``, for ``with``. On SQLite it
            needs SQLAlchemy's recipe for savepoints.
        class_: The class of the session, such as ``sqlmodel.Session``; by default
            ``AsyncSession`` or ``Session``, whichever fits the engine.
        options: Further arguments for the session.

    Raises:
        InvalidOptionError: The first argument is not an engine, or the class of the session is
            for the other kind of engine, or the block was entered with ``with`` instead of
            ``async with``, or the reverse.
    """
    if not isinstance(engine, (AsyncEngine, Engine)):
        raise InvalidOptionError(f"rolled_back() was given {_what_instead_of_an_engine(engine)}")
    if "bind" in options:
        raise InvalidOptionError(
            "rolled_back() was given bind=; the session is bound to a connection of the engine"
        )
    options.setdefault("join_transaction_mode", "create_savepoint")
    if isinstance(engine, AsyncEngine):
        class_, statement = _class_of(class_, AsyncSession, engine), "async with"
    else:
        class_, statement = _class_of(class_, Session, engine), "with"
    return Block(
        partial(_rolled_back, engine, class_, options),
        "rolled_back()",
        make_async=partial(_rolled_back_async, engine, class_, options),
        undecorated=(
            f"it gives the session to its block; write '{statement} rolled_back(engine) as session'"
        ),
    )


def _class_of(given: Any, usual: type[ClassT], engine: AsyncEngine | Engine) -> type[ClassT]:
    if given is None:
        return usual
    if not (is_class(given) and issubclass(given, usual)):
        raise InvalidOptionError(_problem_of_class(given, engine))
    return given


def _what_instead_of_an_engine(given: Any) -> str:
    """What was given, and the way out. A URL's text is not shown: it may hold a password."""
    if isinstance(given, (str, URL)):
        return "a URL; give an engine, such as rolled_back(create_async_engine(url))"
    if isinstance(given, (Connection, AsyncConnection)):
        return (
            f"{type_name(given)!r}, but opens a connection of its own; give the engine: "
            f"rolled_back(engine)"
        )
    if isinstance(given, (sessionmaker, async_sessionmaker)):
        return (
            f"{type_name(given)!r}; give the engine that it is bound to, and the class of its "
            f"sessions as class_=: rolled_back(engine, class_=…)"
        )
    if isinstance(given, (Session, AsyncSession, scoped_session, async_scoped_session)):
        return (
            f"{type_name(given)!r}, but makes a session of its own; give the engine: "
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
            f"{given}, which needs {other}, but was also given {of_engine}; give {usual}, or a "
            f"subclass of it, or {other}"
        )
    return f"{given}, which is not a session class; give {usual}, or a subclass of it"


@contextmanager
def _rolled_back(
    engine: Engine | AsyncEngine, class_: type[Session], options: dict[str, Any]
) -> Iterator[Session]:
    if isinstance(engine, AsyncEngine):
        raise InvalidOptionError(
            "rolled_back() was given an AsyncEngine, whose sessions are for 'async with', but was "
            "entered with 'with'; write 'async with rolled_back(engine)', or give an Engine"
        )
    with engine.connect() as connection:
        transaction = connection.begin()
        try:
            with class_(connection, **options) as session:
                yield session
        finally:
            transaction.rollback()


@asynccontextmanager
async def _rolled_back_async(
    engine: Engine | AsyncEngine, class_: type[AsyncSession], options: dict[str, Any]
) -> AsyncIterator[AsyncSession]:
    if isinstance(engine, Engine):
        raise InvalidOptionError(
            "rolled_back() was given an Engine, whose sessions are for 'with', but was entered "
            "with 'async with'; write 'with rolled_back(engine)', or give an AsyncEngine"
        )
    async with engine.connect() as connection:
        transaction = await connection.begin()
        try:
            async with class_(connection, **options) as session:
                yield session
        finally:
            await transaction.rollback()


def as_if_committed(session: AnySession) -> Block[None]:
    """Deliver what a block has queued as if its transaction had been committed.

    For tests of code that only flushes, in a transaction that is rolled back later: at the end of
    the ``with`` or ``async with`` block, receivers with ``phase="after_commit"`` and callbacks of
    ``on_commit`` are called for what happened inside, in order, and are queued no longer. If the
    block raises, everything stays queued.

    Args:
        session: An ``AsyncSession``, for ``async with``, or a ``Session``, for ``with``.

    Source: Django's ``captureOnCommitCallbacks(execute=True)``.
    """
    return Block(
        partial(_delivered, session),
        "as_if_committed()",
        make_async=partial(_delivered_async, session),
        undecorated=(
            "its session is made inside the test; write 'with as_if_committed(session)' there"
        ),
    )


@contextmanager
def _delivered(session: AnySession) -> Iterator[None]:
    sync_session = sync_session_of(session)
    before = checkpoint(sync_session)
    yield  # if the block raises, this function ends here and delivers nothing
    deliver_since(sync_session, before)


@asynccontextmanager
async def _delivered_async(session: AnySession) -> AsyncIterator[None]:
    if not isinstance(session, AsyncSession):
        with _delivered(session):
            yield
        return
    before = checkpoint(session.sync_session)
    yield
    await session.run_sync(deliver_since, before)

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
from typing import Any, overload

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from aksara_signals.orm.sessions import AnySession, sync_session_of
from aksara_signals.orm.transactions import Mark, deliver_since, mark

__all__ = ["as_if_committed", "rolled_back"]


@overload
def rolled_back(
    engine: AsyncEngine, **options: Any
) -> AbstractAsyncContextManager[AsyncSession]: ...


@overload
def rolled_back(engine: Engine, **options: Any) -> AbstractContextManager[Session]: ...


def rolled_back(engine: AsyncEngine | Engine, **options: Any) -> Any:
    """A session for a test, which rolls back at the end whatever the test has committed.

    The session is joined into a transaction of its connection (SQLAlchemy's recipe for test
    suites): its ``commit()`` releases a savepoint, and receivers that wait for the commit are
    called. What is written is seen on this connection only.

    Args:
        engine: An ``AsyncEngine``, for ``async with``, or an ``Engine``, for ``with``. On SQLite it
            needs SQLAlchemy's recipe for savepoints.
        options: Of the session.
    """
    options.setdefault("join_transaction_mode", "create_savepoint")
    if isinstance(engine, AsyncEngine):
        return _rolled_back_async(engine, options)
    return _rolled_back_sync(engine, options)


@contextmanager
def _rolled_back_sync(engine: Engine, options: dict[str, Any]) -> Iterator[Session]:
    with engine.connect() as connection:
        transaction = connection.begin()
        try:
            with Session(connection, **options) as session:
                yield session
        finally:
            transaction.rollback()


@asynccontextmanager
async def _rolled_back_async(
    engine: AsyncEngine, options: dict[str, Any]
) -> AsyncIterator[AsyncSession]:
    async with engine.connect() as connection:
        transaction = await connection.begin()
        try:
            async with AsyncSession(connection, **options) as session:
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
        self._mark: Mark = {}

    def __enter__(self) -> None:
        self._mark = mark(sync_session_of(self._session))

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

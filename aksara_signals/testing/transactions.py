"""Sessions whose writes never last, and what waits for their outcome."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:  # importing SQLAlchemy takes long, and pytest loads this at its start
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
    from sqlalchemy.orm import Session

    from aksara_signals.orm.sessions import AnySession

__all__ = ["as_if_committed", "rolled_back"]


@overload
def rolled_back(engine: AsyncEngine, **options: Any) -> AbstractAsyncContextManager[AsyncSession]: ...


@overload
def rolled_back(engine: Engine, **options: Any) -> AbstractContextManager[Session]: ...


def rolled_back(engine: Any, **options: Any) -> Any:
    """A session for a test, which rolls back at the end whatever the test has committed.

    The session is joined into a transaction of its connection (SQLAlchemy's recipe for test
    suites): its ``commit()`` releases a savepoint, and tells receivers that wait for the commit.
    What the code under test writes is seen by this connection only.

    Args:
        engine: An ``AsyncEngine``, for ``async with``, or an ``Engine``, for ``with``. On SQLite it
            needs SQLAlchemy's recipe for savepoints.
        options: Of the session.
    """
    from sqlalchemy.ext.asyncio import AsyncEngine

    options.setdefault("join_transaction_mode", "create_savepoint")
    return _rolled_back_async(engine, options) if isinstance(engine, AsyncEngine) else _rolled_back(engine, options)


def _rolled_back(engine: Engine, options: dict[str, Any]) -> AbstractContextManager[Session]:
    from contextlib import contextmanager

    from sqlalchemy.orm import Session

    @contextmanager
    def manage() -> Any:
        with engine.connect() as connection, connection.begin() as transaction:
            with Session(connection, **options) as session:
                yield session
            transaction.rollback()

    return manage()

"""Transactions that PostgreSQL has aborted although the application takes them for healthy.

After an error PostgreSQL executes nothing more in a transaction until the transaction, or the
savepoint around the error, is rolled back. If the error was caught and the next statement is
COMMIT, the server rolls back. It says so in a command tag that no driver reads, so SQLAlchemy takes
it for a success. Receivers with ``phase="after_commit"`` would be called for rows that don't exist.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref

from sqlalchemy import Connection, event
from sqlalchemy.engine import Dialect, ExceptionContext
from sqlalchemy.orm import Session, SessionTransaction

connections_in_doubt: weakref.WeakSet[Connection] = weakref.WeakSet()
"""Connections on which a statement has failed, perhaps inside a savepoint that was rolled back."""
_watched: weakref.WeakSet[Dialect] = weakref.WeakSet()


def notice_errors(_: Session, _transaction: SessionTransaction, connection: Connection) -> None:
    """Start to note failing statements on connections to PostgreSQL."""
    # Not on the Engine class: with a listener there, SQLAlchemy looks for events at every statement
    # of every engine.
    dialect = connection.dialect
    if dialect.name == "postgresql" and dialect not in _watched:
        event.listen(connection.engine, "handle_error", _notice)
        _watched.add(dialect)


def _notice(context: ExceptionContext) -> None:
    connection = context.connection
    if connection is not None and not context.is_disconnect:
        connections_in_doubt.add(connection)


def require_working_transaction(session: Session) -> None:
    """If a statement has failed, ask the database whether the transaction can be committed.

    Raises:
        sqlalchemy.exc.DBAPIError: It can't; this is the database's own error.
    """
    transaction = session.get_transaction() if connections_in_doubt else None
    if transaction is None:
        return
    for connection, *_ in set(transaction._connections.values()):
        if connection in connections_in_doubt:
            connection.exec_driver_sql("SELECT 1")
            connections_in_doubt.discard(connection)

"""Transactions that the database has given up while somebody looked away.

After an error PostgreSQL executes nothing more of a transaction, until it or the savepoint around
the error is rolled back. If the error was caught and the next thing sent is COMMIT, the server
rolls back, and says so in a word that no driver looks at: SQLAlchemy takes it for a success.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref

from sqlalchemy import Connection, event
from sqlalchemy.engine import Dialect, ExceptionContext
from sqlalchemy.orm import Session, SessionTransaction

connections_in_doubt: weakref.WeakSet[Connection] = weakref.WeakSet()
"""Connections on which a statement has failed; not known is whether a savepoint was around it."""
_watched: weakref.WeakSet[Dialect] = weakref.WeakSet()


def notice_errors(_: Session, _transaction: SessionTransaction, connection: Connection) -> None:
    """Note from now on when a statement fails on a connection to PostgreSQL."""
    # Not on all engines at once: every statement of theirs would be looked at.
    dialect = connection.dialect
    if dialect.name == "postgresql" and dialect not in _watched:
        event.listen(connection.engine, "handle_error", _notice)
        _watched.add(dialect)


def _notice(context: ExceptionContext) -> None:
    connection = context.connection
    if connection is not None and not context.is_disconnect:
        connections_in_doubt.add(connection)


def require_working_transaction(session: Session) -> None:
    """Ask the database, if there is doubt, whether a transaction can still be committed.

    Raises:
        sqlalchemy.exc.DBAPIError: It can't: the database's own error.
    """
    transaction = session.get_transaction() if connections_in_doubt else None
    if transaction is None:
        return
    for connection, *_ in set(transaction._connections.values()):
        if connection in connections_in_doubt:
            connection.exec_driver_sql("SELECT 1")
            connections_in_doubt.discard(connection)

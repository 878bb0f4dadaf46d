"""Transactions that the database has given up although the application takes them for healthy.

After an error PostgreSQL executes nothing more in a transaction until the transaction, or the
savepoint around the error, is rolled back. If the error was caught and the next statement is
COMMIT, the server rolls back. It says so in a command tag that no driver reads, so SQLAlchemy takes
it for a success. Receivers with ``phase="after_commit"`` would be called for rows that don't exist.

MySQL rolls back the whole transaction when it raises certain errors, such as a deadlock. The next
statement begins another one, unasked, and a COMMIT commits that.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref
from typing import Any

from sqlalchemy import Connection, RootTransaction, event
from sqlalchemy.engine import Dialect, ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, SessionTransaction

from aksara_signals.orm.bridge.dialects import is_mysql

_CHANGED_SINCE_SNAPSHOT, _LOCK_WAIT_TIMEOUT, _LOCK_TABLE_FULL, _DEADLOCK = 1020, 1205, 1206, 1213
_ROLLED_BACK = frozenset({_CHANGED_SINCE_SNAPSHOT, _LOCK_WAIT_TIMEOUT, _LOCK_TABLE_FULL, _DEADLOCK})
"""Errors with which MySQL rolls back the transaction; the second one does so if it is asked to."""

connections_in_doubt: weakref.WeakSet[Connection] = weakref.WeakSet()
"""Connections on which a statement has failed, perhaps inside a savepoint that was rolled back."""
_errors: weakref.WeakKeyDictionary[RootTransaction, tuple[Any, tuple[Any, ...]]] = (
    weakref.WeakKeyDictionary()
)
"""Transactions of MySQL, each with the class and the arguments of an error that has perhaps rolled
it back. The error itself has a traceback, which would keep the transaction alive."""
_watched: weakref.WeakSet[Dialect] = weakref.WeakSet()


def notice_errors(_: Session, _transaction: SessionTransaction, connection: Connection) -> None:
    """Start to note failing statements on connections to PostgreSQL and MySQL."""
    # Not on the Engine class: with a listener there, SQLAlchemy looks for events at every statement
    # of every engine.
    dialect = connection.dialect
    if dialect not in _watched and (dialect.name == "postgresql" or is_mysql(dialect)):
        event.listen(connection.engine, "handle_error", _notice)
        _watched.add(dialect)


def _notice(context: ExceptionContext) -> None:
    connection = context.connection
    if connection is None or context.is_disconnect:
        return
    if is_mysql(connection.dialect):
        _note_rollback(connection, context.original_exception)
    else:
        connections_in_doubt.add(connection)


def _note_rollback(connection: Connection, error: Any) -> None:
    transaction = connection.get_transaction()
    is_rolled_back = bool(error.args) and error.args[0] in _ROLLED_BACK
    if is_rolled_back and transaction is not None and not connection._is_autocommit_isolation():
        connections_in_doubt.add(connection)
        _errors[transaction] = type(error), error.args


def require_working_transaction(session: Session) -> None:
    """If a statement has failed, find out whether the transaction can still be committed.

    Raises:
        sqlalchemy.exc.DBAPIError: It can't; this is the database's own error.
    """
    transaction = session.get_transaction() if connections_in_doubt else None
    if transaction is None:
        return
    for connection, *_ in set(transaction._connections.values()):
        if connection in connections_in_doubt:
            if is_mysql(connection.dialect):
                _require_no_rollback(connection)
            else:
                connection.exec_driver_sql("SELECT 1")
            connections_in_doubt.discard(connection)


def _require_no_rollback(connection: Connection) -> None:
    root: Any = connection.get_transaction()
    kind, arguments = _errors.get(root, (None, ()))
    if kind is None:
        return  # it was the error of an earlier transaction
    if arguments[0] == _LOCK_WAIT_TIMEOUT:
        asked = connection.exec_driver_sql("SELECT @@innodb_rollback_on_timeout")
        if not asked.scalar():
            del _errors[root]
            return
    raise DBAPIError.instance(None, None, kind(*arguments), Exception)

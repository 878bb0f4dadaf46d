"""Transactions that the database has given up although the application takes them for healthy.

After an error PostgreSQL executes nothing more in a transaction until the transaction, or the
savepoint around the error, is rolled back. If the error was caught and the next statement is
COMMIT, the server rolls back. It says so in a command tag that no driver reads, so SQLAlchemy takes
it for a success. Receivers with ``phase="after_commit"`` would be called for rows that don't exist.

After most errors MariaDB and MySQL undo the statement and go on. But after a deadlock, and a few
other errors, they have rolled back everything, savepoints included. The next statement begins
another transaction, and a COMMIT commits what was written since. SQLAlchemy takes the two for one.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref
from collections.abc import Callable

from sqlalchemy import Connection, event
from sqlalchemy.engine import Dialect, ExceptionContext
from sqlalchemy.orm import Session, SessionTransaction

from aksara_signals.orm.bridge.dialects import MYSQL
from aksara_signals.orm.bridge.sessions import live_sessions

connections_in_doubt: weakref.WeakSet[Connection] = weakref.WeakSet()
"""Connections on which a statement has failed, perhaps inside a savepoint that was rolled back."""
loss_listeners: list[Callable[[Session, BaseException], None]] = []
"""Called with each session whose transaction the database has rolled back, and with the error."""
_watched: weakref.WeakSet[Dialect] = weakref.WeakSet()

_DEADLOCK, _LOCK_TABLE_FULL, _RECORD_CHANGED, _LOCK_TIMEOUT = 1213, 1206, 1020, 1205
_ROLLED_BACK = frozenset({_DEADLOCK, _LOCK_TABLE_FULL, _RECORD_CHANGED})
"""The errors after which InnoDB has rolled back the whole transaction."""


def notice_errors(_: Session, _transaction: SessionTransaction, connection: Connection) -> None:
    """Start to note failing statements on connections to databases that may give up."""
    # Not on the Engine class: with a listener there, SQLAlchemy looks for events at every statement
    # of every engine.
    dialect = connection.dialect
    notice = _NOTICES.get(dialect.name)
    if notice is not None and dialect not in _watched:
        event.listen(connection.engine, "handle_error", notice)
        _watched.add(dialect)


def _notice_doubt(context: ExceptionContext) -> None:
    connection = context.connection
    if connection is not None and not context.is_disconnect:
        connections_in_doubt.add(connection)


def _notice_loss(context: ExceptionContext) -> None:
    connection = context.connection
    if connection is None or context.is_disconnect or connection._is_autocommit_isolation():
        return
    original, dialect = context.original_exception, connection.dialect
    is_by_database = isinstance(original, dialect.loaded_dbapi.Error) and original.args
    code = original.args[0] if is_by_database else None
    if code in _ROLLED_BACK or (code == _LOCK_TIMEOUT and _rolls_back_on_timeout(connection)):
        error = context.sqlalchemy_exception or context.original_exception
        for session in live_sessions():
            transaction = session.get_transaction()
            if transaction is not None and connection in transaction._connections:
                for listener in loss_listeners:
                    listener(session, error)


def _rolls_back_on_timeout(connection: Connection) -> bool:
    """Whether the server was started with an option that is off by default."""
    return bool(connection.exec_driver_sql("SELECT @@innodb_rollback_on_timeout").scalar())


_NOTICES: dict[str, Callable[[ExceptionContext], None]] = {
    "postgresql": _notice_doubt,
    **dict.fromkeys(MYSQL, _notice_loss),
}


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

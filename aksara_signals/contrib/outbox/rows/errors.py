"""What an error of the database means, whichever driver it comes from."""

from __future__ import annotations

from sqlalchemy import Table
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from aksara_signals.exceptions import OutboxError
from aksara_signals.orm.bridge.dialects import mysql_number_of

_OUTAGES = ("08", "57P", "53300")
"""Connection lost, server shutting down or starting, too many connections."""
_UNKNOWN_TABLE = ("42P01", "42703")
"""A table and a column that don't exist."""
_MYSQL_UNKNOWN_TABLE = (1146, 1054)
_MYSQL_OUTAGES = frozenset(
    (
        *(1020, 1205, 1213),  # another transaction was in the way: changed a row, held one for long
        *(1040, 1203, 1226),  # too many connections, of all or of this user
        *(1053, 1077, 1079, 1080, 1927, 3169, 4031),  # shutting down; the connection was killed
        *(1152, 1158, 1159, 1160, 1161, 1184),  # the network
        *(1290, 1792, 1836),  # read-only, as a replica is until it is promoted
        1317,  # the statement was interrupted
        *(2002, 2003, 2005, 2006, 2012, 2013, 2055),  # no connection, as the client says it
    )
)


def sqlstate_of(error: BaseException) -> str | None:
    """The SQLSTATE of a database's error, if its driver has one."""
    original = getattr(error, "orig", error)
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    return state if isinstance(state, str) else None


def is_missing(error: DBAPIError) -> bool:
    """Whether a statement has failed because a table or a column doesn't exist."""
    text = str(error.orig)
    is_unknown = sqlstate_of(error) in _UNKNOWN_TABLE
    is_unknown = is_unknown or mysql_number_of(error) in _MYSQL_UNKNOWN_TABLE
    return is_unknown or "no such table" in text or "has no column named" in text


def missing_table(what: str, table: Table, error: DBAPIError) -> OutboxError:
    """The error for a table that doesn't exist, or lacks a column.

    Args:
        what: What can't be done without it.
        table: The table.
        error: The database's own error.
    """
    return OutboxError(
        f"{what}: table {table.fullname} is missing, or lacks a column "
        f"({type(error.orig).__name__}); create it by a migration ('alembic revision "
        f"--autogenerate', 'alembic upgrade head') or by metadata.create_all()"
    )


def is_outage(error: BaseException) -> bool:
    """Whether an error says that the database can't be reached, or is busy, at the moment."""
    # asyncpg's errors of connecting come as they are: a server that starts is one.
    state = sqlstate_of(error)
    if state is not None and state.startswith(_OUTAGES):
        return True
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        number = mysql_number_of(error)
        if number is not None:
            return number in _MYSQL_OUTAGES
        name = getattr(error.orig, "sqlite_errorname", None)
        if name is not None:
            return str(name).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
        # psycopg has no SQLSTATE for a server that doesn't answer.
        return isinstance(error, OperationalError) and state is None
    # The timeout of a pool; and what asyncpg raises if it can't connect, by TCP or by a socket.
    return isinstance(error, (PoolTimeoutError, OSError))

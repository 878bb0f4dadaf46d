"""Advice that is added to the errors of SQLAlchemy that receivers meet most often."""

from __future__ import annotations

from sqlalchemy.exc import MissingGreenlet, StatementError
from sqlalchemy.orm.exc import DetachedInstanceError

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.types import IMMEDIATE

_LAZY_LOAD = (
    "an async receiver can't load an attribute lazily: load it first, by "
    '`await session.refresh(instance, ["attribute"])` (name it, or changes not yet flushed are '
    "lost), by a query with selectinload(), or through AsyncAttrs; inside a flush, a receiver that "
    "is a plain function can"
)
_DETACHED = (
    "a receiver with phase= is given a detached copy of the instance, with its columns: load the "
    "rest by its key in a new session, or read it in a receiver without phase="
)


def advise(error: BaseException, connection: Connection) -> str | None:
    """Advice on an error that a receiver raised; None if there is none.

    Args:
        error: The error.
        connection: The connection of the receiver.
    """
    kind: type = type(error)
    if isinstance(error, StatementError):
        kind = type(error.orig)  # SQLAlchemy 2.1 wraps errors that occur while a statement runs
    if issubclass(kind, MissingGreenlet):
        return _LAZY_LOAD
    if issubclass(kind, DetachedInstanceError) and connection.phase != IMMEDIATE:
        return _DETACHED
    return None

"""What is stored and logged of an exception: where it comes from, and no values of rows.

The message of a database's error repeats the statement's parameters, and often a row. Of such an
error, and of any that was raised while it was handled, only classes and the SQLSTATE are shown.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from sqlalchemy.exc import PendingRollbackError, StatementError

from aksara_signals.contrib.outbox.rows.errors import sqlstate_of
from aksara_signals.dispatch.receivers.identity import type_name
from aksara_signals.dispatch.receivers.naming import safe_str
from aksara_signals.orm.bridge.dialects import MYSQL_DRIVERS, mysql_number_of

_WITH_VALUES = (StatementError, PendingRollbackError)
_DRIVERS = frozenset(("asyncpg", "psycopg", "psycopg2", "sqlite3")) | MYSQL_DRIVERS
"""Packages whose own errors have values of rows, too."""
_LONGEST = 500


def error_text(error: BaseException) -> str:
    """One line about an exception."""
    chain = list(_chain(error))
    if any(_has_values(each) for each in chain):
        names = " from ".join(dict.fromkeys(_name(each) for each in chain))
        state = next((state for each in chain if (state := sqlstate_of(each))), None)
        if state:
            return f"{names} (SQLSTATE {state})"
        number = next((number for each in chain if (number := mysql_number_of(each))), None)
        return f"{names} (error {number})" if number else names
    if isinstance(error, BaseExceptionGroup):
        inner = ", ".join(dict.fromkeys(_name(each) for each in error.exceptions))
        return f"{_name(error)} of {inner}"
    message = " ".join(safe_str(error).split())
    text = f"{_name(error)}: {message}" if message else _name(error)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def traceback_text(error: BaseException) -> str:
    """The lines of the traceback, followed by :func:`error_text`."""
    return "".join(traceback.format_tb(error.__traceback__)) + error_text(error)


def has_values(error: BaseException) -> bool:
    """Whether the message of an error, or of one in its traceback, may have values of rows."""
    return any(_has_values(each) for each in _chain(error))


def _has_values(error: BaseException) -> bool:
    module = type(error).__module__
    return (
        isinstance(error, _WITH_VALUES)
        or module.partition(".")[0] in _DRIVERS
        or module.startswith("sqlalchemy.dialects.")  # the faces of async drivers
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    rest = [error]
    while rest:
        each = rest.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            rest += each.exceptions
        original = getattr(each, "orig", None)
        if isinstance(each, StatementError) and isinstance(original, BaseException):
            rest.append(original)
        earlier = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
        if earlier is not None:
            rest.append(earlier)


def _name(error: BaseException) -> str:
    kind = type(error)
    return (
        kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{type_name(error)}"
    )

"""Rows, as they are read from the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, CursorResult, select

from aksara_signals.contrib.outbox.message import Message
from aksara_signals.contrib.outbox.rows.tables import Tables, aware, clock

_COLUMNS = (
    *(each.name for each in fields(Message)),
    "seq",
    "aggregateid",
    "crashes",
)
_CREATED_AT = _COLUMNS.index("created_at")
_READ_AT = len(_COLUMNS)


@dataclass(frozen=True, slots=True)
class Row(Message):
    """One call of a receiver, as it was claimed."""

    seq: int
    aggregateid: str | None
    crashes: int
    read_at: datetime
    """When it was read, by the clock of the database, as ``created_at``."""
    is_probe: bool
    """The receiver's breaker is open: a failure counts no attempt."""


def read_rows(
    connection: Connection,
    tables: Tables,
    condition: ColumnElement[bool],
    is_probe: Callable[[str], bool] = lambda _: False,
) -> list[Row]:
    """Read rows, by ``seq``.

    Args:
        connection: The connection.
        tables: The tables of the outbox.
        condition: Which rows.
        is_probe: Whether the breaker of a receiver, by the name in the row, is open.
    """
    statement = select(*columns_of(tables)).where(condition).order_by(tables.outbox.c.seq)
    return rows_of(connection.execute(statement), is_probe)


def columns_of(tables: Tables) -> list[ColumnElement[Any]]:
    """What is read of a row."""
    return [*(tables.outbox.c[name] for name in _COLUMNS), clock()]


def rows_of(result: CursorResult[Any], is_probe: Callable[[str], bool]) -> list[Row]:
    """Rows out of :func:`columns_of`, as they come."""
    found: list[Row] = []
    for each in result:
        values: list[Any] = [*each, is_probe(each.receiver)]
        for place in (_CREATED_AT, _READ_AT):
            values[place] = aware(values[place])
        found.append(Row(*values))
    return found

"""Statements that every call pays for: each is made and compiled once for each driver.

To make a statement and to find it among those that are compiled takes longer than to execute it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import Connection, Delete, Insert, Table, Update
from sqlalchemy.engine import Dialect

Statement = Insert | Update | Delete

_KEEPING = {"preserve_rowcount": True}
"""psycopg forgets the number when its cursor is closed, which it is at once after an INSERT."""


class Compiled(NamedTuple):
    """A statement as a driver takes it."""

    text: str
    names: tuple[str, ...] | None
    """The parameters in order, if the driver takes them by position."""
    processors: dict[str, Callable[[Any], Any]]
    """What makes of a value what the driver takes, where that differs."""


class CompiledStatement:
    """A statement that changes rows of a table.

    Args:
        make: Makes it, with a ``bindparam`` for each value, out of the table and the name of the
            dialect.
    """

    def __init__(self, make: Callable[[Table, str], Statement]) -> None:
        self._make = make
        self._known: weakref.WeakKeyDictionary[
            Table, weakref.WeakKeyDictionary[Dialect, Compiled]
        ] = weakref.WeakKeyDictionary()

    def execute(self, connection: Connection, table: Table, values: dict[str, Any]) -> int:
        """Execute it, and return how many rows it has changed.

        Where schemas are translated, which happens while a statement is executed, it is made the
        usual way.

        Args:
            connection: The connection.
            table: The table.
            values: One for each ``bindparam``.
        """
        dialect = connection.dialect
        if connection.get_execution_options().get("schema_translate_map"):
            return connection.execute(
                self._make(table, dialect.name), values, execution_options=_KEEPING
            ).rowcount
        found = self.compiled(table, dialect)
        names, processors = found.names, found.processors
        if processors:
            values = values | {name: to(values[name]) for name, to in processors.items()}
        parameters: Any = values if names is None else tuple(values[name] for name in names)
        return connection.exec_driver_sql(
            found.text, parameters, execution_options=_KEEPING
        ).rowcount

    def compiled(self, table: Table, dialect: Dialect) -> Compiled:
        """The statement as the driver takes it."""
        of_table = self._known.get(table)
        if of_table is None:
            of_table = self._known[table] = weakref.WeakKeyDictionary()
        found = of_table.get(dialect)
        if found is None:
            found = of_table[dialect] = _compile(self._make(table, dialect.name), dialect)
        return found


def _compile(statement: Statement, dialect: Dialect) -> Compiled:
    compiled: Any = statement.compile(dialect=dialect)
    names = compiled.positiontup
    processors = {
        name: processor
        for name, parameter in compiled.binds.items()
        if (processor := parameter.type.dialect_impl(dialect).bind_processor(dialect)) is not None
    }
    return Compiled(str(compiled), None if names is None else tuple(names), processors)

"""Inserting rows, in one statement."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Insert, Table, bindparam, insert

from aksara_signals.contrib.outbox.rows.compiled import CompiledStatement
from aksara_signals.orm.bridge.dialects import is_mysql

COLUMNS: tuple[str, ...] = (
    "id",
    "receiver",
    "type",
    "aggregatetype",
    "aggregateid",
    "lane",
    "payload",
    "headers",
    "version",
)
"""What a row is inserted with; the database adds the rest."""

_NAMED = re.compile(r"%\((\w+)\)s")
_LONGEST = 1_000_000
"""Characters of texts in one statement on MySQL, whose servers limit the size of one."""


@lru_cache(maxsize=32)
def insert_into(table: Table) -> Insert:
    """The statement that inserts rows, without asking for the generated keys."""
    return insert(table).inline()


def insert_rows(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows.

    Args:
        connection: In a transaction.
        table: The table of the outbox.
        rows: Their values, by :data:`COLUMNS`.
    """
    translates = connection.get_execution_options().get("schema_translate_map")
    if len(rows) == 1 or translates or not is_mysql(connection.dialect):
        connection.execute(insert_into(table), rows)
        return
    # The drivers of MySQL insert rows one by one if a value isn't a parameter: the time isn't one.
    compiled = _ONE_ROW.compiled(table, connection.dialect)
    start, values, one = compiled.text.rpartition("VALUES ")
    names = compiled.names or _NAMED.findall(one)
    one = _NAMED.sub("%s", one)  # some drivers take names, which would be the same in each row
    given = (compiled.processed({f"the_{name}": row[name] for name in COLUMNS}) for row in rows)
    for chunk in _chunks(tuple(row[name] for name in names) for row in given):
        many = start + values + ", ".join([one] * len(chunk))
        connection.exec_driver_sql(many, tuple(value for row in chunk for value in row))


def _chunks(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    chunk: list[tuple[Any, ...]] = []
    length = 0
    for row in rows:
        longer = sum(len(value) for value in row if isinstance(value, str))
        if chunk and length + longer > _LONGEST:
            yield chunk
            chunk, length = [], 0
        chunk.append(row)
        length += longer
    yield chunk


def _one_row(outbox: Table, _dialect: str) -> Insert:
    columns = {name: outbox.c[name] for name in COLUMNS}
    values = {name: bindparam(f"the_{name}", type_=each.type) for name, each in columns.items()}
    return insert_into(outbox).values(values)


_ONE_ROW = CompiledStatement(_one_row)

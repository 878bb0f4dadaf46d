"""Inserting rows, in one statement; and deleting them, where they are for a log of changes only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Insert, Table, bindparam, delete, insert, select

from aksara_signals.contrib.outbox.rows.changing import delete_by_seq
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
"""Characters of one statement on MySQL, whose servers limit its size."""
_DELETED_AT_ONCE = 10_000
"""How many rows one DELETE names: a statement has at most 32,767 parameters."""
_TEXTS = ("payload", "headers", "aggregateid")
_BESIDE = 500
"""About so many of each row are something else."""


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
    columns = [(name.removeprefix("the_"), compiled.processors.get(name)) for name in names]
    given = [
        tuple([row[name] if to is None else to(row[name]) for name, to in columns]) for row in rows
    ]
    texts = [names.index(f"the_{name}") for name in _TEXTS]
    lengths = [sum(len(row[place] or "") for place in texts) for row in given]
    for chunk in _chunks(given, lengths):
        many = start + values + ", ".join([one] * len(chunk))
        connection.exec_driver_sql(many, tuple(chain.from_iterable(chunk)))


def delete_rows(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Delete rows that the same transaction has inserted."""
    identifiers = list({values["id"] for values in rows})
    for start in range(0, len(identifiers), _DELETED_AT_ONCE):
        are_these = table.c.id.in_(identifiers[start : start + _DELETED_AT_ONCE])
        if is_mysql(connection.dialect):
            # By their key, as an UPDATE: a DELETE that has to look for rows locks those of others.
            seqs = connection.scalars(select(table.c.seq).where(are_these)).all()
            delete_by_seq(connection, table, seqs)
        else:
            connection.execute(delete(table).where(are_these))


def _chunks(rows: list[tuple[Any, ...]], lengths: list[int]) -> Iterator[list[tuple[Any, ...]]]:
    """The rows in order, so many at once that their lengths are few enough together."""
    start = length = 0
    for place, longer in enumerate(lengths):
        length += longer + _BESIDE
        if place > start and length > _LONGEST:
            yield rows[start:place]
            start, length = place, longer + _BESIDE
    yield rows[start:]


def _one_row(outbox: Table, _dialect: str) -> Insert:
    columns = {name: outbox.c[name] for name in COLUMNS}
    values = {name: bindparam(f"the_{name}", type_=each.type) for name, each in columns.items()}
    return insert_into(outbox).values(values)


_ONE_ROW = CompiledStatement(_one_row)

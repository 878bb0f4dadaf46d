"""INSERTs and upserts, with the rows that they write."""

from __future__ import annotations

from typing import Any

from sqlalchemy import literal_column

from aksara_signals.exceptions import StatementSignalError
from aksara_signals.orm.bridge.statements import (
    has_many_values,
    is_from_select,
    is_upsert,
    leaves_existing_rows,
    names_by_row,
)
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.statements.writing import Writing, WrittenRows


def insert_rows(writing: Writing) -> WrittenRows:
    """Execute an INSERT.

    Raises:
        StatementSignalError: Its rows can't be known; nothing was written.
    """
    statement: Any = writing.state.statement
    if not writing.can_return("insert_executemany" if writing.is_bulk else "insert"):
        return _insert_one(writing)
    if is_upsert(statement) and not leaves_existing_rows(statement):
        return _upsert(writing)
    names = names_by_row(writing.state, writing.mapper) if writing.needs_old else None
    if names is None or is_upsert(statement):
        return writing.returned()
    written = writing.returned(in_order=True)
    written.names = names
    return written


def _insert_one(writing: Writing) -> WrittenRows:
    """Execute an INSERT where the database returns nothing but the key of one row."""
    statement: Any = writing.state.statement
    if (
        writing.is_bulk
        or is_upsert(statement)
        or is_from_select(statement)
        or has_many_values(statement)
    ):
        raise writing.refused(
            f"{writing.dialect.name} doesn't return its rows", "add the instances to the session"
        )
    result = writing.execute()
    if result.rowcount == 0:  # INSERT IGNORE
        return WrittenRows(result, [])
    found = writing.reading.by_key([tuple(result.inserted_primary_key)])
    if not found:
        raise StatementSignalError(
            f"the row of {writing.mapper.class_.__name__} that was inserted can't be found, "
            f"because {writing.dialect.name} has made its primary key and doesn't return it; the "
            f"statement was rolled back: give the key"
        )
    return WrittenRows(result, [*found.values()])


def _upsert(writing: Writing) -> WrittenRows:
    count = len(writing.layout.columns)
    if writing.needs_old and writing.knows_old:
        written = writing.returned(writing.layout.returned_before)
        key = [count + place for place in writing.layout.key_places]
        new = [all(row[place] is None for place in key) for row in written.rows]
        written.old = [
            None if is_new else row[count:] for row, is_new in zip(written.rows, new, strict=True)
        ]
    elif writing.dialect.name == "postgresql" and not writing.needs_old:
        # The version of a row that ON CONFLICT DO UPDATE writes has locked the one before.
        flag: Any = literal_column("(xmax = 0)").label("_aksara_new")
        written = writing.returned([flag])
        new = [bool(row[count]) for row in written.rows]
    elif writing.needs_old or writing.needs_kind:
        raise _unknown(writing)
    else:
        written = writing.returned()
        written.kinds = [Kind.UPSERT] * len(written.rows)
        return written
    written.rows = [row[:count] for row in written.rows]
    written.kinds = [Kind.CREATE if is_new else Kind.UPDATE for is_new in new]
    return written


def _unknown(writing: Writing) -> StatementSignalError:
    name = writing.dialect.name
    what = (
        "the old values of the rows that an upsert has updated, before version 18"
        if name == "postgresql"
        else "which rows an upsert has inserted and which it has updated"
    )
    return writing.refused(
        f"{name} doesn't return {what}, and a receiver asks for that (created=, coalesce=, "
        f"fields=, transition=, changes, or post_update)",
        "connect the receiver to post_save without them",
    )

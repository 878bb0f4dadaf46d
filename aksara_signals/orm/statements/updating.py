"""UPDATEs and DELETEs, with the rows that they write.

Where RETURNING doesn't know enough, the rows are read and locked before: the old values of an
UPDATE, rows whose columns are in several tables, and all rows where the database returns none.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Mapper

from aksara_signals.exceptions import StatementSignalError
from aksara_signals.orm.bridge.dialects import is_mysql
from aksara_signals.orm.bridge.loading import key_is_in
from aksara_signals.orm.bridge.results import Row
from aksara_signals.orm.bridge.statements import limit_of, sets_other_tables
from aksara_signals.orm.mapping.info import info_of
from aksara_signals.orm.statements.layout import Identity
from aksara_signals.orm.statements.writing import Writing, WrittenRows

MAX_RESTRICTED = 10_000
"""The most values of keys that are added to a statement's WHERE clause."""


def update_rows(writing: Writing) -> WrittenRows:
    """Execute an UPDATE.

    Raises:
        StatementSignalError: Its rows can't be known, and nothing was written; or other rows were
            written than those that had been locked.
    """
    if writing.is_bulk:
        return _update_by_key(writing)
    can_return = writing.can_return("update")
    if can_return and not writing.needs_old:
        return writing.returned()
    if can_return and writing.knows_old:
        count = len(writing.layout.columns)
        written = writing.returned(writing.layout.returned_before)
        written.old = [row[count:] for row in written.rows]
        written.rows = [row[:count] for row in written.rows]
        return written
    if not writing.statement.names.isdisjoint(info_of(writing.mapper).key_names):
        raise writing.refused(
            f"it changes the primary key, and {writing.dialect.name} doesn't return which old "
            f"values belong to which new key",
            "load the instances and change them",
        )
    if not can_return and sets_other_tables(
        writing.state, writing.mapper, writing.statement.selectable
    ):
        raise writing.refused(
            "it sets columns of other tables as well, whose rows aren't sent",
            "write a statement for each class",
        )
    before, statement = _locked(writing)
    if can_return:
        written = writing.returned(statement=statement)
        _require_same(writing, before, written.rows)
    else:
        result = writing.execute(statement)
        written = WrittenRows(result, [*writing.reading.by_key(before).values()])
        _require_count(writing, result, before)
    identity_of = writing.layout.identity_of
    written.old = [before[identity_of(row)] for row in written.rows]
    return written


def delete_rows(writing: Writing) -> WrittenRows:
    """Execute a DELETE.

    Raises:
        StatementSignalError: Other rows were deleted than those that had been locked.
    """
    can_return = writing.can_return("delete")
    if can_return and writing.layout.has_all_values:
        return writing.returned()
    before, statement = _locked(writing)
    elsewhere = writing.reading.elsewhere(before.values())
    if can_return:
        written = writing.returned(statement=statement)
        _require_same(writing, before, written.rows)
    else:
        result = writing.execute(statement)
        _require_count(writing, result, before)
        written = WrittenRows(result, [*before.values()])
    written.elsewhere = elsewhere
    return written


def _update_by_key(writing: Writing) -> WrittenRows:
    """Execute an UPDATE of the rows whose keys are in a list of parameters."""
    names = info_of(writing.mapper).key_names
    parameters: Any = writing.state.parameters
    identities = [
        tuple(row[name] for name in names)
        for row in parameters
        if all(name in row for name in names)  # otherwise SQLAlchemy raises an error
    ]
    reading, needs_old = writing.reading, writing.needs_old
    before = reading.locked_by_key(identities) if needs_old else {}
    elsewhere = reading.elsewhere(before.values()) if before else None
    result = writing.execute()
    found = reading.by_key(identities)
    old = [before.get(each) for each in found] if needs_old else None
    return WrittenRows(result, [*found.values()], old, old_elsewhere=elsewhere)


def _locked(writing: Writing) -> tuple[dict[Identity, Row], Any]:
    """The rows before a statement, locked, and the statement restricted to them.

    Raises:
        StatementSignalError: A SELECT can't find the same rows; nothing was written.
    """
    statement: Any = writing.state.statement
    before = writing.reading.locked(writing.statement)
    key = writing.statement.key_attributes
    # SQLite has locked all of the database. Which rows a LIMIT leaves out, nobody knows beforehand.
    if writing.dialect.name != "sqlite" and (
        len(before) * len(key) <= MAX_RESTRICTED
        or limit_of(statement, writing.dialect.name) is not None
    ):
        statement = statement.where(key_is_in(key, [*before]))
    return before, statement


def _require_same(writing: Writing, before: dict[Identity, Row], rows: list[Row]) -> None:
    if before.keys() != {writing.layout.identity_of(row) for row in rows}:
        raise _changed_meanwhile(writing.mapper)


def _require_count(writing: Writing, result: Any, before: dict[Identity, Row]) -> None:
    if result.rowcount not in (-1, len(before)):
        raise _changed_meanwhile(writing.mapper, _OTHER_COUNTS if is_mysql(writing.dialect) else "")


_OTHER_COUNTS = (
    "; or connect as SQLAlchemy does, with the flag FOUND_ROWS, if the engine has its own "
    "creator=; or give the class a primary key that is no FLOAT"
)
"""Why MySQL may count fewer rows than were locked, though nobody has changed any."""


def _changed_meanwhile(mapper: Mapper[Any], further: str = "") -> StatementSignalError:
    return StatementSignalError(
        f"other rows of {mapper.class_.__name__} were written than those that had been locked to "
        f"read their values, probably because another transaction has changed them meanwhile; the "
        f"statement was rolled back: repeat the transaction{further}"
    )

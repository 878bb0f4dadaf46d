"""Results of ORM statements, as the caller would have got them.

A statement that returns the rows that it writes gives its caller another kind of result. So what
was added to it has to be taken out of its result again.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, CursorResult, Result, Table, func, select
from sqlalchemy.engine import Row as EngineRow
from sqlalchemy.engine import cursor as engine_cursor

from aksara_signals.orm.bridge.statements import UPDATE_OPTIONS, has_own_defaults

_cursor: Any = engine_cursor
_NOTHING: Any = _cursor._NO_RESULT_METADATA
_make_row: Any = EngineRow

Row = tuple[Any, ...]
"""The values of one row."""


def with_defaults(statement: Any, key: Sequence[Any], columns: Sequence[Any]) -> Any:
    """The statement, returning columns that are not for the caller.

    Args:
        statement: The statement; the caller may have called ``return_defaults()``.
        key: Some columns that are returned besides; without any, all columns with defaults would
            be.
        columns: The columns, with labels.
    """
    if has_own_defaults(statement):
        key = statement._return_defaults_columns
    return statement.return_defaults(*key, supplemental_cols=columns)


def defaults_taken(
    result: Any,
    labels: Sequence[str],
    expected: Sequence[str] | None,
    *,
    by_row_id: bool = False,
    row_id_of: Callable[[list[Row]], int] | None = None,
    keeps_others: bool = False,
) -> list[Row]:
    """Take what :func:`with_defaults` has added out of a result.

    Args:
        result: The result; it is changed in place.
        labels: The names of the columns that were added.
        expected: The columns that SQLAlchemy itself would have fetched; None if it wouldn't.
        keeps_others: Whether it would have fetched all but the added columns, as the caller said.
        by_row_id: Whether it would have taken the key of an INSERT from the driver's last row id.
        row_id_of: The last row id of an INSERT, by its rows.

    Returns:
        The values of the added columns, by row.
    """
    context = result.context
    fetched: Sequence[Any] | None = result.returned_defaults_rows
    metadata = result._metadata
    names = [*metadata.keys]
    if keeps_others:
        expected = [name for name in names if name not in labels] or None
    take = taking([names.index(label) for label in labels])
    rows = [take(row) for row in fetched or ()]
    result._soft_close()
    if expected is None:
        result._metadata, result.cursor_strategy = _NOTHING, _cursor._NO_CURSOR_DML
        context.returned_default_rows = None
        if row_id_of is not None:
            _complete_cursor(context, rows, row_id_of)
        if by_row_id:
            context.inserted_primary_key_rows = context._setup_ins_pk_from_lastrowid()
    else:
        places = [place for place, name in enumerate(names) if name in expected]
        result._metadata = reduced = metadata._reduce(places)
        result.cursor_strategy = _cursor._NO_CURSOR_DQL
        if fetched is not None:
            keep, index = taking(places), reduced._key_to_index
            context.returned_default_rows = [
                _make_row(reduced, None, index, keep(row)) for row in fetched
            ]
    return rows


def _complete_cursor(context: Any, rows: list[Row], row_id_of: Callable[[list[Row]], int]) -> None:
    """Give an INSERT what its driver has lost because the statement returned rows.

    With SQLAlchemy 2.0, aiosqlite has neither the last row id nor the number of rows then. The
    drivers of MariaDB have no last row id.
    """
    cursor: Any = context.cursor
    if context.dialect.name == "sqlite":
        if cursor.rowcount == cursor.lastrowid == -1:
            cursor.rowcount = len(rows)
            cursor.lastrowid = context.root_connection.scalar(select(func.last_insert_rowid()))
    elif context.dialect.postfetch_lastrowid:
        row_id = row_id_of(rows)
        context.get_lastrowid = lambda: row_id


def fetched_by_insert(statement: Any, connection: Connection) -> tuple[Sequence[str] | None, bool]:
    """What SQLAlchemy itself fetches by an INSERT: the names of columns, if any.

    And whether it takes the key from the driver's last row id.
    """
    engine: Any = connection.engine
    compiled = statement._compile_w_cache(
        connection.dialect, compiled_cache=engine._compiled_cache, column_keys=[]
    )[0]
    columns: Any = compiled.implicit_returning
    names = [column.key for column in columns] if columns else None
    return names, compiled.postfetch_lastrowid


def fetched_by_synchronization(result: Any, selectable: Any) -> Sequence[str] | None:
    """The names of the columns that SQLAlchemy itself fetches to synchronise the session, if any.

    Args:
        result: Of an UPDATE or DELETE.
        selectable: The table that it writes to, or an alias. SQLAlchemy fetches nothing
            by the UPDATE of one.
    """
    options = result.context.execution_options[UPDATE_OPTIONS]
    is_fetched = options._synchronize_session == "fetch" and options._can_use_returning
    if not is_fetched or (result.context.isupdate and not isinstance(selectable, Table)):
        return None
    return [column.key for column in selectable.primary_key]


def taking(places: Sequence[int]) -> Callable[[Any], Row]:
    """A function that takes the values at some places of a row."""
    first, count = places[0], len(places)
    if [*places] == [*range(first, first + count)]:
        return itemgetter(slice(first, first + count))  # several times as fast on rows of a result
    return itemgetter(*places)


def with_returned(statement: Any, columns: Sequence[Any], *, in_order: bool = False) -> Any:
    """The statement, returning these columns after those of the caller."""
    if in_order:
        return statement.returning(*columns, sort_by_parameter_order=True)
    return statement.returning(*columns)


def returned_taken(result: Any, count: int, added: int) -> tuple[Result[Any], list[Row]]:
    """Take what :func:`with_returned` has added out of the result of a caller's own RETURNING.

    Args:
        result: The result, which is read completely.
        count: How many elements are the caller's.
        added: How many columns were added.
    """
    rows = [*result.iterator]
    result = result.columns(*range(count))
    _refill(result, rows)
    part = slice(count, count + added)
    return result, [tuple(row)[part] for row in rows]


def _refill(result: Any, rows: list[Any]) -> None:
    """Let a result that was read completely be read once more; what is read is released."""
    queue = deque(rows)

    def left() -> Iterator[Any]:
        while queue:
            yield queue.popleft()

    def chunks(size: int | None) -> Iterator[list[Any]]:
        if not size:
            yield [*left()]
            return
        while chunk := [*islice(left(), size)]:
            yield chunk

    result.iterator = left()
    if hasattr(result, "chunks"):
        result.chunks = chunks


def rows_counted(result: Any) -> int | None:
    """The number of rows of a result that is left as it is; None if it isn't known."""
    if isinstance(result, CursorResult):
        count = result.rowcount
        return None if count < 0 else count
    if result._soft_closed:
        return None
    rows = [*result.iterator]
    _refill(result, rows)
    return len(rows)


def plain_result(
    result: Any, *, is_bulk: bool, row_id_of: Callable[[list[Row]], int]
) -> tuple[Any, list[Row]]:
    """The result without RETURNING of an INSERT that was given one, and its rows.

    Args:
        result: The result of :func:`with_returned`.
        is_bulk: Whether parameters were given beside the statement.
        row_id_of: The last row id, by the rows.
    """
    rows = [tuple(row) for row in result.iterator]
    if is_bulk:
        return _cursor.null_dml_result(), rows
    raw = result.raw
    _complete_cursor(raw.context, rows, row_id_of)
    raw._soft_close()
    raw._metadata, raw.cursor_strategy = _NOTHING, _cursor._NO_CURSOR_DML
    raw.context._is_explicit_returning = False
    return raw, rows

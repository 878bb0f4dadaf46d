"""ORM statements: what they write, and their results as the caller would have got them.

A statement that returns the rows that it writes gives its caller another kind of result. So what
was added to it has to be taken out of its result again.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any

from sqlalchemy import Column, Connection, CursorResult, Result, Table, TextClause, func, select
from sqlalchemy.engine import Row as EngineRow
from sqlalchemy.engine import cursor as engine_cursor
from sqlalchemy.orm import Mapper, ORMExecuteState
from sqlalchemy.orm import bulk_persistence as orm_statements

_cursor: Any = engine_cursor
_orm: Any = orm_statements
_UpdateOrDelete: Any = (
    _orm._BulkUDCompileState
    if hasattr(orm_statements, "_BulkUDCompileState")
    else _orm.BulkUDCompileState  # SQLAlchemy 2.0
)

_NOTHING: Any = _cursor._NO_RESULT_METADATA
_make_row: Any = EngineRow

Row = tuple[Any, ...]
"""The values of one row."""


def entity_of(statement: Any) -> Any:
    """The mapper or the alias that an ORM statement writes to; None of a Core statement."""
    table = getattr(statement, "table", None)
    return None if table is None else table._annotations.get("parententity")


def is_upsert(statement: Any) -> bool:
    """Whether an INSERT has a clause for rows that exist already."""
    return getattr(statement, "_post_values_clause", None) is not None


def leaves_existing_rows(statement: Any) -> bool:
    """Whether an upsert does nothing to rows that exist already, so that it only inserts."""
    name: str = type(statement._post_values_clause).__name__
    return name == "OnConflictDoNothing"


def is_from_select(statement: Any) -> bool:
    """Whether an INSERT takes its rows from a SELECT."""
    return getattr(statement, "select", None) is not None


def has_many_values(statement: Any) -> bool:
    """Whether an INSERT has several rows in its VALUES."""
    return bool(statement._multi_values)


def has_criteria(statement: Any) -> bool:
    """Whether an UPDATE or DELETE has a WHERE clause."""
    return bool(statement._where_criteria)


def returned_columns(statement: Any) -> int:
    """How many elements the caller has given to ``returning()``."""
    return len(statement._returning)


def returns_everything(statement: Any) -> bool:
    """Whether a statement has ``RETURNING *``, or other text that may stand for several columns."""
    return any(
        isinstance(each, TextClause) or getattr(each, "_is_star", False)
        for each in statement._returning
    )


def has_own_defaults(statement: Any) -> bool:
    """Whether the caller has called ``return_defaults()``."""
    return bool(getattr(statement, "_return_defaults", False))


def strategy_of(state: ORMExecuteState) -> str:
    """How SQLAlchemy executes a statement: ``orm``, ``bulk``, ``raw`` or ``core_only``."""
    options = state.execution_options
    found: Any = options.get("_sa_orm_insert_options" if state.is_insert else _UD_OPTIONS)
    strategy: str = found._dml_strategy
    return strategy


_UD_OPTIONS = "_sa_orm_update_options"


def identity_token_of(state: ORMExecuteState) -> Any:
    """The identity token of the rows of a statement: that of its shard, if there are any."""
    options: Any = state.execution_options.get(_UD_OPTIONS)
    if options is None:  # an INSERT, whose session has no use for it
        return state.execution_options.get("identity_token")
    return options._identity_token


def after_all_others(state: ORMExecuteState, listener: Callable[[ORMExecuteState], Any]) -> Any:
    """Execute a statement so that a listener comes after all other ones.

    Others may change the statement, or execute it several times, once in each shard.

    Args:
        state: The statement, as SQLAlchemy's listener gets it.
        listener: Called at the end.

    Returns:
        The result; None if there are no other listeners, and the caller has to call this one.
    """
    if not state._remaining_events():
        return None
    state._events_todo.append(listener)
    return state.invoke_statement()


def written_names(state: ORMExecuteState, mapper: Mapper[Any]) -> frozenset[str]:
    """The attributes that a statement sets, as far as it names them."""
    statement: Any = state.statement
    if state.is_update:
        resolved = _UpdateOrDelete._get_resolved_values(mapper, statement)
        names = _names_of(mapper, (key for key, _ in resolved))
    else:
        rows = [statement._values or {}]
        for each in statement._multi_values:
            rows += each
        keys: set[Any] = {key for row in rows for key in row}
        if is_from_select(statement):
            keys.update(statement._select_names)
        names = _names_of(mapper, keys)
    if strategy_of(state) == "bulk":
        names = names.union(*_names_by_keys(state, mapper).values())
    return names


def names_by_row(state: ORMExecuteState, mapper: Mapper[Any]) -> list[frozenset[str]] | None:
    """The attributes that an INSERT of many sets, row by row; None if they are always the same."""
    names = _names_by_keys(state, mapper)
    if len(names) < 2:
        return None
    statement: Any = state.statement
    shared = _names_of(mapper, statement._values or ())
    return [shared | names[frozenset(row)] for row in _rows_of(state)]


def _names_by_keys(
    state: ORMExecuteState, mapper: Mapper[Any]
) -> dict[frozenset[str], frozenset[str]]:
    """The attributes of the parameters of many rows, by the keys that these have in common."""
    return {keys: _names_of(mapper, keys) for keys in set(map(frozenset, _rows_of(state)))}


def _rows_of(state: ORMExecuteState) -> list[Any]:
    rows: Any = state.parameters
    return rows if isinstance(rows, list) else [rows or {}]


def _names_of(mapper: Mapper[Any], keys: Iterable[Any]) -> frozenset[str]:
    """The attributes of keys of ``values()``, without those that are none."""
    return frozenset(name for key in keys if (name := _name_of(mapper, key)) is not None)


def upserted_names(statement: Any, mapper: Mapper[Any]) -> frozenset[str]:
    """The attributes that an upsert sets of a row that exists already, and may set of no other."""
    clause: Any = getattr(statement, "_post_values_clause", None)
    values: Any = getattr(clause, "update_values_to_set", None) or getattr(clause, "update", None)
    names = (_name_of(mapper, key) for key in dict(values or ()))
    return frozenset(name for name in names if name is not None)


def _name_of(mapper: Mapper[Any], key: Any) -> str | None:
    """The attribute of a key of ``values()``: a name, a column or an attribute."""
    if isinstance(key, str):
        if key in mapper.column_attrs:
            return key
        column = mapper.local_table.c.get(key)
        return None if column is None else _name_of(mapper, column)
    known = mapper._columntoproperty
    return known[key].key if key in known else getattr(key, "key", None)


def updated_by_default(mapper: Mapper[Any]) -> frozenset[str]:
    """The attributes of columns that an UPDATE sets by itself."""
    return frozenset(
        prop.key
        for prop in mapper.column_attrs
        if isinstance(column := prop.columns[0], Column)
        and (column.onupdate is not None or column.server_onupdate is not None)
    )


def key_columns_in(mapper: Mapper[Any], selectable: Any) -> list[Any] | None:
    """The columns of one table that hold the primary key of a mapper; None if it lacks some.

    A table of a subclass may name its key otherwise than that of the base.
    """
    found = []
    for column in mapper.primary_key:
        known, queue = {column}, [column]
        while queue:
            fresh = mapper._equivalent_columns.get(queue.pop(), set()) - known
            known |= fresh
            queue += fresh
        own = [each for each in known if each.table is selectable]
        if not own:
            return None
        found += own[:1]
    return found


def select_of(statement: Any, entity: Any, columns: Sequence[Any]) -> Any:
    """A SELECT of the rows that an UPDATE or DELETE is going to write.

    It has the criteria of the statement, those of its options, and those of a subclass in the table
    of its base.
    """
    found = select(*columns).where(*statement._where_criteria).options(*statement._with_options)
    table = getattr(entity, "local_table", None)
    if table is None or entity.persist_selectable is table:
        return found.select_from(entity)
    # A SELECT of a joined class would join the tables of its bases, but the statement doesn't.
    attributes: dict[Any, Any] = {}
    for option in statement._with_options:
        if option._is_criteria_option:
            option.get_global_criteria(attributes)
    criteria = _UpdateOrDelete._adjust_for_extra_criteria(attributes, entity)
    return found.select_from(table).where(*criteria)


# -- the result, as the caller would have got it ---------------------------------------------------


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
    keeps_others: bool = False,
) -> list[Row]:
    """Take what :func:`with_defaults` has added out of a result.

    Args:
        result: The result; it is changed in place.
        labels: The names of the columns that were added.
        expected: The columns that SQLAlchemy itself would have fetched; None if it wouldn't.
        keeps_others: Whether it would have fetched all but the added columns, as the caller said.
        by_row_id: Whether it would have taken the key of an INSERT from the driver's last row id.

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
        if context.isinsert:
            _complete_cursor(context, len(rows))
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


def _complete_cursor(context: Any, count: int) -> None:
    """Give a cursor of SQLite what its driver has lost because the statement returned rows.

    With SQLAlchemy 2.0, aiosqlite's has neither the last row id nor the number of rows then.
    """
    cursor: Any = context.cursor
    if context.dialect.name == "sqlite" and cursor.rowcount == cursor.lastrowid == -1:
        cursor.rowcount = count
        cursor.lastrowid = context.root_connection.scalar(select(func.last_insert_rowid()))


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
    options = result.context.execution_options[_UD_OPTIONS]
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


def plain_result(result: Any, *, is_bulk: bool) -> tuple[Any, list[Row]]:
    """The result without RETURNING of an INSERT that was given one, and its rows.

    Args:
        result: The result of :func:`with_returned`.
        is_bulk: Whether parameters were given beside the statement.
    """
    rows = [tuple(row) for row in result.iterator]
    if is_bulk:
        return _cursor.null_dml_result(), rows
    raw = result.raw
    _complete_cursor(raw.context, len(rows))
    raw._soft_close()
    raw._metadata, raw.cursor_strategy = _NOTHING, _cursor._NO_CURSOR_DML
    raw.context._is_explicit_returning = False
    return raw, rows

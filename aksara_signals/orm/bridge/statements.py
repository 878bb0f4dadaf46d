"""ORM statements: what they hold, and what they write."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import (
    CTE,
    Column,
    CompoundSelect,
    Select,
    Subquery,
    TextClause,
    TextualSelect,
    select,
)
from sqlalchemy.orm import LoaderCriteriaOption, Mapper, ORMExecuteState
from sqlalchemy.orm import bulk_persistence as orm_statements
from sqlalchemy.sql import dml, visitors
from sqlalchemy.sql.selectable import ForUpdateArg

_orm: Any = orm_statements
_DeleteState: Any = dml.DeleteDMLState
_UpdateOrDelete: Any = (
    _orm._BulkUDCompileState
    if hasattr(orm_statements, "_BulkUDCompileState")
    else _orm.BulkUDCompileState  # SQLAlchemy 2.0
)


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
    found: Any = options.get("_sa_orm_insert_options" if state.is_insert else UPDATE_OPTIONS)
    strategy: str = found._dml_strategy
    return strategy


UPDATE_OPTIONS = "_sa_orm_update_options"
"""The execution option that holds what SQLAlchemy knows of an UPDATE or DELETE."""


def identity_token_of(state: ORMExecuteState) -> Any:
    """The identity token of the rows of a statement: that of its shard, if there are any."""
    options: Any = state.execution_options.get(UPDATE_OPTIONS)
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


def sets_other_tables(state: ORMExecuteState, mapper: Mapper[Any], selectable: Any) -> bool:
    """Whether an UPDATE sets columns of other tables than its own, which MySQL takes.

    Args:
        state: The UPDATE.
        mapper: The mapper of the class that it names.
        selectable: The table of that, or the alias that it names.
    """
    statement: Any = state.statement
    own = (selectable, mapper.local_table)  # the names of attributes stand for the table's columns
    tables = (getattr(key, "table", selectable) for key in statement._values or ())
    return any(all(table is not each for each in own) for table in tables)


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


_SELECT = re.compile(r"\bselect\b", re.IGNORECASE)


class UnlockableError(Exception):
    """A criterion has a subquery that can't lock the rows that it reads."""


def _locking(criterion: Any) -> Any:
    """A criterion whose subqueries lock the rows that they read.

    Raises:
        UnlockableError: One of them is a UNION or text, or it is joined.
    """
    parts = [*visitors.iterate(criterion)]
    if any(isinstance(origin, (CTE, Subquery)) for origin in criterion._from_objects) or any(
        isinstance(part, (CompoundSelect, TextualSelect)) or _SELECT.search(_text_of(part))
        for part in parts
    ):
        raise UnlockableError
    if not any(isinstance(part, Select) for part in parts):
        return criterion
    return visitors.cloned_traverse(criterion, {}, {"select": _lock})


def _text_of(part: Any) -> str:
    """The SQL that the caller has written in an element, if any."""
    if isinstance(part, TextClause):
        return part.text
    return part.name if getattr(part, "is_literal", False) else ""


def _lock(subquery: Any) -> None:
    # Exclusively: shared first, and exclusively by the statement then, would be a deadlock of two.
    subquery._for_update_arg = ForUpdateArg()


class _LockingCriteria(LoaderCriteriaOption):
    """``with_loader_criteria()`` whose subqueries lock the rows that they read.

    It may be a function, and holds also for the entities of subqueries: which criteria there are
    is known no earlier than when SQLAlchemy compiles the SELECT.
    """

    __slots__ = ()
    # As SQLAlchemy caches the option itself; the class is a part of the key.
    _traverse_internals: Any = LoaderCriteriaOption._traverse_internals

    @classmethod
    def of(cls, option: Any) -> Any:
        """The option, or what stands for it."""
        if not isinstance(option, LoaderCriteriaOption):
            return option
        found = cls.__new__(cls)
        for name in LoaderCriteriaOption.__slots__:
            setattr(found, name, getattr(option, name))
        return found

    def _resolve_where_criteria(self, ext_info: Any) -> Any:
        return _locking(super()._resolve_where_criteria(ext_info))


def select_of(
    statement: Any, entity: Any, columns: Sequence[Any], *, locks_subqueries: bool
) -> Any:
    """A SELECT of the rows that an UPDATE or DELETE is going to write.

    It has the criteria of the statement, those of its options, and those of a subclass in the table
    of its base.

    Args:
        statement: The statement.
        entity: What it writes to, as its criteria name it.
        columns: What is selected.
        locks_subqueries: Whether the subqueries of all these criteria lock the rows that they read.

    Raises:
        UnlockableError: A subquery can't lock them; the execution of the SELECT may raise it, too.
    """
    criteria, options = statement._where_criteria, statement._with_options
    if locks_subqueries:
        criteria = [*map(_locking, criteria)]
        options = [*map(_LockingCriteria.of, options)]
    found = select(*columns).where(*criteria).options(*options)
    further = getattr(statement, "_extra_froms", ())  # SQLAlchemy 2.1 has delete().using()
    table = getattr(entity, "local_table", None)
    if table is None or entity.persist_selectable is table:
        return found.select_from(entity, *further)
    # A SELECT of a joined class would join the tables of its bases, but the statement doesn't.
    return found.select_from(table, *further).where(*_further_criteria(options, entity))


def _further_criteria(options: Iterable[Any], mapper: Mapper[Any]) -> Any:
    """The criteria of a statement's options, and those of a subclass in the table of its base."""
    attributes: dict[Any, Any] = {}
    for option in options:
        if option._is_criteria_option:
            option.get_global_criteria(attributes)
    return _UpdateOrDelete._adjust_for_extra_criteria(attributes, mapper)


def deletes_by_others(statement: Any, mapper: Mapper[Any], selectable: Any) -> bool:
    """Whether the criteria of a DELETE join other tables: DELETE..USING.

    Args:
        statement: The statement.
        mapper: The mapper of the class that it names.
        selectable: The table that it deletes from, or its alias.
    """
    found = statement.where(*_further_criteria(statement._with_options, mapper))
    found.table = selectable
    return bool(_DeleteState(found, None).is_multitable)


def limit_of(statement: Any, dialect: str) -> Any:
    """The most rows that an UPDATE or DELETE of MySQL writes; None without a LIMIT.

    Args:
        statement: The statement.
        dialect: The name of the dialect.
    """
    clause = getattr(statement, "_post_criteria_clause", None)
    if clause is not None:
        return getattr(clause, "_limit_clause", None)
    return statement.kwargs.get(f"{dialect}_limit")


def has_unknown_ending(statement: Any) -> bool:
    """Whether an UPDATE or DELETE has other syntax than a LIMIT after its criteria."""
    clause = getattr(statement, "_post_criteria_clause", None)
    return clause is not None and not hasattr(clause, "_limit_clause")

"""Statements whose rows can't be sent to the receivers that ask for them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table
from sqlalchemy.orm import Mapper, ORMExecuteState

from aksara_signals.exceptions import StatementSignalError
from aksara_signals.orm.bridge.statements import (
    entity_of,
    has_criteria,
    has_own_defaults,
    is_from_select,
    returns_everything,
    strategy_of,
)

SILENCE = "or execute it with execution_options={'signals': False}, which calls no receivers for it"


def refused(
    state: ORMExecuteState, mapper: Mapper[Any], why: str, remedy: str
) -> StatementSignalError:
    """The error for a statement that is refused before it writes.

    Args:
        state: The statement.
        mapper: The mapper of the class that it names.
        why: The reason, after "because".
        remedy: What to do instead.
    """
    verb = "INSERT" if state.is_insert else "UPDATE" if state.is_update else "DELETE"
    return StatementSignalError(
        f"this {verb} of {mapper.class_.__name__} can't be sent to receivers connected with "
        f"statements=True, because {why}; nothing was written: {remedy}, {SILENCE}"
    )


def require_known_rows(state: ORMExecuteState, mapper: Mapper[Any]) -> None:
    """Refuse a statement whose rows can't be known, whatever the database is.

    Raises:
        StatementSignalError: Says why, and the way out.
    """
    found = _problem_of(state, mapper)
    if found is not None:
        raise refused(state, mapper, *found)


def _problem_of(state: ORMExecuteState, mapper: Mapper[Any]) -> tuple[str, str] | None:
    statement: Any = state.statement
    if state.is_from_statement:
        return (
            "select().from_statement() executes it as a SELECT",
            "execute the statement itself, with returning()",
        )
    if entity_of(statement) is None:
        return "it names a table, not the class", "name the class"
    if not isinstance(mapper.local_table, Table):
        return "the class is not mapped to a table", "name the class of the table"
    if returns_everything(statement):
        return "its RETURNING has text", "name the columns in returning()"
    strategy = strategy_of(state)
    is_bulk = strategy == "bulk"
    if state.is_executemany and not is_bulk:
        return (
            f"it is executed with a list of parameters and dml_strategy={strategy!r}",
            "leave dml_strategy= out",
        )
    if strategy in ("raw", "core_only"):
        return f"its dml_strategy is {strategy!r}", "leave dml_strategy= out"
    if not (state.is_insert or is_bulk) and _writes_rows_of_others(mapper):
        return (
            f"SQLAlchemy writes all rows of {mapper.local_table}, also those of its base class",
            "name the base class, with a WHERE clause",
        )
    if has_own_defaults(statement) and (is_bulk or is_from_select(statement)):
        return "it has return_defaults()", "use returning()"
    if state.is_update and is_bulk and has_criteria(statement):
        return (
            "it has a WHERE clause beside a list of parameters, and may leave some of them out",
            "leave the WHERE clause out, or execute one UPDATE for each",
        )
    return None


def _writes_rows_of_others(mapper: Mapper[Any]) -> bool:
    """Whether a class is distinguished from its base by a column of another table.

    SQLAlchemy has no criterion then that holds for each row: the tables aren't joined.
    """
    discriminator = mapper.polymorphic_on
    return (
        mapper.single
        and discriminator is not None
        and getattr(discriminator, "table", mapper.local_table) is not mapper.local_table
    )

"""Executing a statement so that the rows that it writes are known.

Where the database can return them, the statement gets a RETURNING, which its result must not show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.orm import Mapper, ORMExecuteState

from aksara_signals.exceptions import StatementSignalError
from aksara_signals.orm.bridge.dialects import is_mysql
from aksara_signals.orm.bridge.results import (
    Row,
    defaults_taken,
    fetched_by_insert,
    fetched_by_synchronization,
    plain_result,
    returned_taken,
    with_defaults,
    with_returned,
)
from aksara_signals.orm.bridge.statements import (
    deletes_by_others,
    has_own_defaults,
    is_from_select,
    returned_columns,
    strategy_of,
)
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.statements.layout import Identity, RowLayout
from aksara_signals.orm.statements.reading import Elsewhere, ReadRows
from aksara_signals.orm.statements.recipients import StatementRecipients
from aksara_signals.orm.statements.refusals import refused
from aksara_signals.orm.statements.statement import OrmStatement


@dataclass(slots=True, eq=False)
class WrittenRows:
    """The rows that a statement has written, in the order in which the database returned them."""

    result: Any
    """What the caller gets."""
    rows: list[Row]
    """Their values: after an INSERT or UPDATE, before a DELETE."""
    old: Sequence[Row | None] | None = None
    """Their values before, None for a new row; None altogether if nobody asks for them."""
    names: list[frozenset[str]] | None = None
    """The attributes that were set in each of them, if that differs."""
    kinds: list[Kind] | None = None
    """What was done with each of them, if that differs."""
    elsewhere: dict[Identity, Elsewhere] | None = None
    """What other tables had of deleted rows, if the rows are spread over several tables."""
    old_elsewhere: dict[Identity, Elsewhere] | None = None
    """What other tables had of updated rows, if the statement may have updated it."""


class Writing:
    """One statement on its way to the database.

    Args:
        statement: The statement.
        recipients: Its receivers.
    """

    def __init__(self, statement: OrmStatement, recipients: StatementRecipients) -> None:
        state = statement.state
        self.statement: OrmStatement = statement
        self.state: ORMExecuteState = state
        self.mapper: Mapper[Any] = statement.mapper
        self.layout: RowLayout = statement.layout
        self.is_bulk: bool = strategy_of(state) == "bulk"
        """Whether there are parameters for several rows."""
        self.needs_old: bool = recipients.asks_for_changes and not state.is_delete
        """Whether the values before the statement are needed."""
        self.needs_kind: bool = recipients.asks_if_created
        """Whether it is needed which rows were inserted."""
        self.connection: Connection = state.session.connection(
            bind_arguments=dict(state.bind_arguments)
        )
        self.dialect: Dialect = self.connection.dialect
        self.has_written: bool = False
        """Whether the statement has been executed."""
        self.reading: ReadRows = ReadRows(self.connection, statement)

    def execute(self, statement: Any = None) -> Any:
        """Execute the statement, or another one in its place; returns SQLAlchemy's result."""
        result: Any = self.state.invoke_statement(statement=statement)
        self.has_written = True
        return result

    def returned(
        self, further: Sequence[Any] = (), *, statement: Any = None, in_order: bool = False
    ) -> WrittenRows:
        """Execute the statement so that it returns its rows.

        Args:
            further: Further columns, whose values stand behind those of each row.
            statement: What is executed in its place.
            in_order: Whether the rows of an INSERT have to come in the order of its parameters.
        """
        if statement is None:
            statement = self.state.statement
        columns = [*self.statement.returned, *further]
        given = returned_columns(statement)
        if given:
            result = self.execute(with_returned(statement, columns, in_order=in_order))
            return WrittenRows(*returned_taken(result, given, len(columns)))
        if self.state.is_insert and (self.is_bulk or is_from_select(statement)):
            result = self.execute(with_returned(statement, columns, in_order=in_order))
            return WrittenRows(
                *plain_result(result, is_bulk=self.is_bulk, row_id_of=self._row_id_of)
            )
        return self._defaults(statement, columns)

    def _defaults(self, statement: Any, columns: Sequence[Any]) -> WrittenRows:
        expected, by_row_id = (
            fetched_by_insert(statement, self.connection) if self.state.is_insert else (None, False)
        )
        result = self.execute(
            with_defaults(statement, [*self.statement.selectable.primary_key], columns)
        )
        if not self.state.is_insert:
            expected = fetched_by_synchronization(result, self.statement.selectable)
        rows = defaults_taken(
            result,
            [each.name for each in columns],
            expected,
            keeps_others=has_own_defaults(statement),
            by_row_id=by_row_id,
            row_id_of=self._row_id_of if self.state.is_insert else None,
        )
        return WrittenRows(result, rows)

    def _row_id_of(self, rows: Sequence[Row]) -> int:
        """The last row id of MariaDB: the first key that it has given, or the last that it was."""
        column: Any = self.statement.selectable.autoincrement_column
        places = [place for place, each in enumerate(self.layout.columns) if each is column]
        if not places or not rows:
            return 0
        is_given = self.mapper.get_property_by_column(column).key in self.statement.names
        row_id: int = rows[-1 if is_given else 0][places[0]]
        return row_id

    @property
    def knows_old(self) -> bool:
        """Whether RETURNING knows the values before the statement."""
        version: Any = self.dialect.server_version_info or (0,)
        return self.dialect.name == "postgresql" and version >= (18,)

    def can_return(self, what: str) -> bool:
        """Whether the database returns the rows of a statement, such as ``update``."""
        statement: Any = self.state.statement
        if returned_columns(statement):
            return True  # the caller says so
        table: Any = self.mapper.local_table
        if not (table.implicit_returning and getattr(self.dialect, f"{what}_returning")):
            return False
        # MariaDB returns the rows of a DELETE from one table only.
        return not (self.state.is_delete and is_mysql(self.dialect)) or not deletes_by_others(
            statement, self.mapper, self.statement.selectable
        )

    def refused(self, why: str, remedy: str) -> StatementSignalError:
        """The error for the statement, before it has written anything."""
        return refused(self.state, self.mapper, why, remedy)

"""Executing a statement so that the rows that it writes are known.

Where the database can return them, the statement gets a RETURNING, which its result must not show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, literal_column
from sqlalchemy.orm import Mapper

from aksara_signals.exceptions import StatementSignalError
from aksara_signals.orm.bridge.loading import key_is_in
from aksara_signals.orm.bridge.statements import (
    Row,
    defaults_taken,
    fetched_by_insert,
    fetched_by_synchronization,
    is_from_select,
    is_upsert,
    leaves_existing_rows,
    plain_result,
    returned_columns,
    returned_taken,
    strategy_of,
    with_defaults,
    with_returned,
)
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.mapping.info import info_of
from aksara_signals.orm.statements.layout import Identity
from aksara_signals.orm.statements.reading import Elsewhere, ReadRows
from aksara_signals.orm.statements.recipients import StatementRecipients
from aksara_signals.orm.statements.refusals import refused
from aksara_signals.orm.statements.statement import OrmStatement

MAX_RESTRICTED = 10_000
"""The most values of keys that are added to a statement's WHERE clause."""


@dataclass(slots=True, eq=False)
class WrittenRows:
    """The rows that a statement has written, in the order in which the database returned them."""

    result: Any
    """What the caller gets."""
    rows: list[Row]
    """Their values: after an INSERT or UPDATE, before a DELETE."""
    old: list[Row | None] | None = None
    """Their values before, None for a new row; None altogether if nobody asks for them."""
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
        state, layout = statement.state, statement.layout
        self._state = state
        self._statement: Any = state.statement
        self._layout = layout
        self._names = statement.names
        self._mapper = statement.mapper
        self._needs_old = recipients.asks_for_changes and not state.is_delete
        self._needs_kind = recipients.asks_if_created
        self._connection: Connection = state.session.connection(
            bind_arguments=dict(state.bind_arguments)
        )
        self._dialect = self._connection.dialect
        self.has_written: bool = False
        """Whether the statement has been executed."""
        self.reading: ReadRows = ReadRows(self._connection, layout)

    def write(self) -> WrittenRows:
        """Execute the statement.

        Raises:
            StatementSignalError: Its rows can't be known, and nothing was written; or other rows
                were written than those that were locked for it.
        """
        state = self._state
        if state.is_insert:
            return self._insert()
        if state.is_update and strategy_of(state) == "bulk":
            return self._update_by_key()
        can_return = self._can_return("delete" if state.is_delete else "update")
        if not can_return:
            raise self._refused(f"{self._dialect.name} returns no rows here", "use with_signals()")
        if state.is_delete:
            return self._returned() if self._layout.has_all_values else self._locked_delete()
        if not self._needs_old:
            return self._returned()
        return self._returned_with_old() if self._knows_old else self._locked_update()

    # -- INSERT --------------------------------------------------------------------------------

    def _insert(self) -> WrittenRows:
        statement, state = self._statement, self._state
        is_bulk = strategy_of(state) == "bulk"
        if not self._can_return("insert_executemany" if is_bulk else "insert"):
            raise self._refused(
                f"{self._dialect.name} returns no rows here", "add the instances to the session"
            )
        if is_upsert(statement):
            return self._upsert()
        return self._returned_by_insert([])

    def _upsert(self) -> WrittenRows:
        if leaves_existing_rows(self._statement):
            return self._returned_by_insert([])
        count = len(self._layout.columns)
        if self._needs_old and self._knows_old:
            written = self._returned_by_insert(self._layout.returned_before)
            key = [count + place for place in self._layout.key_places]
            new = [all(row[place] is None for place in key) for row in written.rows]
            written.old = [
                None if is_new else row[count:]
                for row, is_new in zip(written.rows, new, strict=True)
            ]
        elif self._dialect.name == "postgresql" and not self._needs_old:
            # The version of a row that ON CONFLICT DO UPDATE writes has locked the one before.
            flag: Any = literal_column("(xmax = 0)").label("_aksara_new")
            written = self._returned_by_insert([flag])
            new = [bool(row[count]) for row in written.rows]
        elif self._needs_old or self._needs_kind:
            unknown = (
                "the old values of the rows that an upsert has updated, before version 18"
                if self._dialect.name == "postgresql"
                else "which rows an upsert has inserted and which it has updated"
            )
            raise self._refused(
                f"{self._dialect.name} doesn't tell {unknown}, and a receiver asks for that "
                f"(created=, coalesce=, fields=, transition=, changes, or post_update)",
                "connect the receiver to post_save without them",
            )
        else:
            written = self._returned_by_insert([])
            written.kinds = [Kind.UPSERT] * len(written.rows)
            return written
        written.rows = [row[:count] for row in written.rows]
        written.kinds = [Kind.CREATE if is_new else Kind.UPDATE for is_new in new]
        return written

    def _returned_by_insert(self, further: list[Any]) -> WrittenRows:
        """Execute an INSERT that returns its rows, with further columns behind them."""
        statement, state = self._statement, self._state
        columns = [*self._layout.returned, *further]
        given = returned_columns(statement)
        is_bulk = strategy_of(state) == "bulk"
        if given:
            result = self._execute(with_returned(statement, columns))
            return WrittenRows(*returned_taken(result, given, len(columns)))
        if is_bulk or is_from_select(statement):
            result = self._execute(with_returned(statement, columns))
            return WrittenRows(*plain_result(result, is_bulk=is_bulk))
        expected, by_row_id = fetched_by_insert(statement, self._connection)
        result = self._execute(with_defaults(statement, self._key_columns, columns))
        labels = [each.name for each in columns]
        rows = defaults_taken(result, labels, expected, by_row_id=by_row_id)
        return WrittenRows(result, rows)

    # -- UPDATE and DELETE ---------------------------------------------------------------------

    def _returned(self, further: list[Any] | None = None, statement: Any = None) -> WrittenRows:
        """Execute an UPDATE or DELETE that returns its rows, with further columns behind them."""
        if statement is None:
            statement = self._statement
        columns = [*self._layout.returned, *(further or ())]
        given = returned_columns(statement)
        if given:
            result = self._execute(with_returned(statement, columns))
            return WrittenRows(*returned_taken(result, given, len(columns)))
        result = self._execute(with_defaults(statement, self._key_columns, columns))
        expected = fetched_by_synchronization(result, self._mapper)
        return WrittenRows(
            result, defaults_taken(result, [each.name for each in columns], expected)
        )

    def _returned_with_old(self) -> WrittenRows:
        count = len(self._layout.columns)
        written = self._returned(self._layout.returned_before)
        written.old = [row[count:] for row in written.rows]
        written.rows = [row[:count] for row in written.rows]
        return written

    def _locked_update(self) -> WrittenRows:
        if not self._names.isdisjoint(info_of(self._mapper).key_names):
            raise self._refused(
                f"it changes the primary key, and {self._dialect.name} doesn't tell which old "
                f"values belong to which new key",
                "load the instances and change them",
            )
        before, statement = self._locked()
        written = self._returned(statement=statement)
        identity_of = self._layout.identity_of
        written.old = [before.pop(identity_of(row), None) for row in written.rows]
        if before or None in written.old:
            raise _changed_meanwhile(self._mapper)
        return written

    def _locked_delete(self) -> WrittenRows:
        before, statement = self._locked()
        elsewhere = self.reading.elsewhere(before.values())
        written = self._returned(statement=statement)
        if len(written.rows) != len(before):
            raise _changed_meanwhile(self._mapper)
        written.elsewhere = elsewhere
        return written

    def _locked(self) -> tuple[dict[Identity, Row], Any]:
        """The rows before the statement, and the statement restricted to them."""
        statement = self._statement
        before = self.reading.locked(statement, self._state.parameters)
        names = info_of(self._mapper).key_names
        # SQLite has locked all of the database.
        if self._dialect.name != "sqlite" and len(before) * len(names) <= MAX_RESTRICTED:
            key = [getattr(self._mapper.class_, name) for name in names]
            statement = statement.where(key_is_in(key, [*before]))
        return before, statement

    def _update_by_key(self) -> WrittenRows:
        state, names = self._state, info_of(self._mapper).key_names
        parameters: Any = state.parameters
        identities = [
            tuple(row[name] for name in names)
            for row in parameters
            if all(name in row for name in names)  # otherwise SQLAlchemy raises an error
        ]
        before = self.reading.locked_by_key(identities) if self._needs_old else {}
        elsewhere = self.reading.elsewhere(before.values()) if before else None
        result = self._execute(None)
        found = self.reading.by_key(identities)
        old = [before.get(each) for each in found] if self._needs_old else None
        return WrittenRows(result, [*found.values()], old, old_elsewhere=elsewhere)

    # ------------------------------------------------------------------------------------------

    def _execute(self, statement: Any) -> Any:
        result: Any = self._state.invoke_statement(statement=statement)
        self.has_written = True
        return result

    @property
    def _key_columns(self) -> list[Any]:
        return [*self._layout.table.primary_key]

    @property
    def _knows_old(self) -> bool:
        """Whether RETURNING knows the values before the statement."""
        version = self._dialect.server_version_info or (0,)
        return self._dialect.name == "postgresql" and version >= (18,)

    def _can_return(self, what: str) -> bool:
        able: bool = getattr(self._dialect, f"{what}_returning")
        return able and self._layout.table.implicit_returning

    def _refused(self, why: str, remedy: str) -> StatementSignalError:
        return refused(self._state, self._mapper, why, remedy)


def _changed_meanwhile(mapper: Mapper[Any]) -> StatementSignalError:
    return StatementSignalError(
        f"other rows of {mapper.class_.__name__} were written than those that had been locked to "
        f"read their old values, because another transaction has changed them meanwhile; the "
        f"statement was rolled back: repeat the transaction"
    )

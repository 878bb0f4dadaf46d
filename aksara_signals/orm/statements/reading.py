"""Rows of a statement that are read by SELECTs: before it is executed, and after it.

Old values are read before an UPDATE, where its RETURNING doesn't know them, and everything is read
before a DELETE whose rows are spread over several tables. Both are locked, so that they are what
the statement then writes. What a RETURNING of one table doesn't have is read after the statement.

On MySQL and MariaDB each of these SELECTs locks, and so do the subqueries of its criteria. One
that doesn't lock reads the rows as they were when the transaction first read any, while a statement
finds them as they are now. It would read older values even after an UPDATE, of a row that has had
the new ones already and isn't written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, false, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper

from aksara_signals.orm.bridge.dialects import by_primary_key, is_mysql, lacks_primary_key
from aksara_signals.orm.bridge.loading import MAX_KEYS, key_is_in
from aksara_signals.orm.bridge.results import Row
from aksara_signals.orm.bridge.statements import (
    UnlockableError,
    has_unknown_ending,
    limit_of,
    select_of,
)
from aksara_signals.orm.mapping.info import info_of
from aksara_signals.orm.statements.layout import ClassLayout, Identity
from aksara_signals.orm.statements.refusals import refused
from aksara_signals.orm.statements.statement import OrmStatement

Values = dict[str, Any]
"""Values by the names of attributes."""
Elsewhere = tuple[ClassLayout, Values]
"""The class of a row, and those of its values that are in other tables."""


class ReadRows:
    """Rows of one layout, read from the database.

    Args:
        connection: The connection of the statement.
        statement: The statement.
    """

    def __init__(self, connection: Connection, statement: OrmStatement) -> None:
        self._connection = connection
        self._layout = statement.layout
        self._reads_snapshots = is_mysql(connection.dialect)
        """Whether a SELECT that doesn't lock may read rows older than those that are written."""

    def locked(self, statement: OrmStatement) -> dict[Identity, Row]:
        """The rows that an UPDATE or DELETE is going to write, locked until the transaction ends.

        No ``do_orm_execute`` listener is called: one that hides rows from queries doesn't hide
        them from the statement.

        Args:
            statement: The statement; its criteria, options and parameters are those of the SELECT.

        Raises:
            StatementSignalError: A SELECT can't find the same rows; nothing was written.
        """
        state = statement.state
        if has_unknown_ending(state.statement):
            raise refused(
                state,
                statement.mapper,
                "its rows have to be read before it, and further syntax follows its criteria",
                "leave that out",
            )
        try:
            found = self._locked(statement)
        except UnlockableError:
            raise refused(
                state,
                statement.mapper,
                "its rows have to be read before it, and its criteria have a UNION or a SELECT as "
                "text, or join a subquery, which can't lock the rows that it reads",
                "write IN or EXISTS with one select(), or name the keys",
            ) from None
        # UPDATE..FROM may find a row several times.
        return {self._layout.identity_of(row): row for row in found}

    def _locked(self, statement: OrmStatement) -> list[Row]:
        state, snapshots = statement.state, self._reads_snapshots
        reading = select_of(
            state.statement, statement.entity, statement.returned, locks_subqueries=snapshots
        )
        reading = reading.limit(limit_of(state.statement, self._connection.dialect.name))
        # Tables that are only joined have to be read as they are, too.
        reading = reading.with_for_update(of=None if snapshots else statement.selectable)
        self._lock_sqlite()
        return [*map(tuple, self._connection.execute(reading, state.parameters or {}))]

    def locked_by_key(self, identities: Iterable[Identity]) -> dict[Identity, Row]:
        """The rows with these primary keys, locked until the transaction ends."""
        self._lock_sqlite()
        return self._by_key(identities, is_locked=True)

    def by_key(self, identities: Iterable[Identity]) -> dict[Identity, Row]:
        """The rows with these primary keys."""
        return self._by_key(identities, is_locked=False)

    def _by_key(self, identities: Iterable[Identity], *, is_locked: bool) -> dict[Identity, Row]:
        layout = self._layout
        key = [layout.columns[place] for place in layout.key_places]
        reading: Any = select(*layout.columns)
        if is_locked:
            reading = reading.with_for_update()
        rows = self._of_keys(reading, key, [*identities], [key[0].table])
        return {layout.identity_of(row): row for row in rows}

    def _of_keys(
        self,
        reading: Any,
        key: Sequence[Any],
        identities: Sequence[Identity],
        tables: Sequence[Any],
    ) -> Iterator[Row]:
        """The rows of a SELECT that have these primary keys.

        Args:
            reading: The SELECT, without criteria.
            key: The columns of the primary key.
            identities: The keys.
            tables: Those that the SELECT reads.
        """
        plain = reading
        if self._reads_snapshots:
            plain = reading.with_for_update()
            reading = by_primary_key(plain, tables)
        for start in range(0, len(identities), MAX_KEYS):
            criterion = key_is_in(key, identities[start : start + MAX_KEYS])
            try:
                found = self._connection.execute(reading.where(criterion))
            except DBAPIError as error:
                if reading is plain or not lacks_primary_key(error):
                    raise
                reading = plain  # a view, or a table with a unique key instead
                found = self._connection.execute(reading.where(criterion))
            yield from map(tuple, found)

    def _lock_sqlite(self) -> None:
        """Begin writing on SQLite, which has no locks of rows.

        Another connection could write between the SELECT and the statement otherwise. An UPDATE of
        no rows takes the lock of the database.
        """
        if self._connection.dialect.name == "sqlite":
            column = self._layout.columns[0]
            nothing: Any = update(column.table).where(false()).values({column: column})
            self._connection.execute(nothing)

    def elsewhere(self, rows: Iterable[Row]) -> dict[Identity, Elsewhere]:
        """The classes of rows, and those of their values that are in other tables.

        Args:
            rows: Of the layout. One that isn't found elsewhere has no more values.
        """
        layout = self._layout
        found = {layout.identity_of(row): row for row in rows}
        classes = self._classes_of(found)
        by_class: dict[ClassLayout, list[Identity]] = {}
        for identity, cls in classes.items():
            by_class.setdefault(cls, []).append(identity)
        values: dict[Identity, Values] = {}
        for cls, identities in by_class.items():
            if cls.missing:
                columns = [info_of(cls.mapper).columns[name] for name in cls.missing]
                read = self._read(cls.mapper, columns, identities)
                values.update(
                    (identity, dict(zip(cls.missing, row, strict=True)))
                    for identity, row in read.items()
                )
        return {identity: (cls, values.get(identity, {})) for identity, cls in classes.items()}

    def _classes_of(self, rows: dict[Identity, Row]) -> dict[Identity, ClassLayout]:
        layout = self._layout
        if not layout.is_ambiguous:
            return {identity: layout.class_of(row) for identity, row in rows.items()}
        read = self._read(layout.mapper, [layout.mapper.polymorphic_on], [*rows])
        return {
            identity: layout.of_identity(read[identity][0] if identity in read else None)
            for identity in rows
        }

    def _read(
        self, mapper: Mapper[Any], columns: Sequence[Any], identities: Sequence[Identity]
    ) -> dict[Identity, Row]:
        key = [*mapper.primary_key]
        reading = select(*key, *columns).select_from(mapper.persist_selectable)
        rows = self._of_keys(reading, key, identities, mapper.tables)
        split = len(key)
        return {row[:split]: row[split:] for row in rows}

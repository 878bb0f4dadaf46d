"""Which rows a flush has really deleted.

A row may be gone already, because another transaction has deleted it. SQLAlchemy warns of it at
most, and the instance counts as deleted. ``post_delete`` must not be sent for it.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Delete, event
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.base import NO_VALUE

from aksara_signals.orm.bridge.states import State


class _Statement(NamedTuple):
    """One DELETE that was executed."""

    table: Any
    keys: Sequence[Mapping[str, Any]]
    """The primary keys of the rows that it was to delete."""
    matched: int
    """The number of rows that it has deleted; -1 if the driver doesn't return it."""


class DeletedRows:
    """The DELETE statements of one flush, with the number of rows that each has matched.

    A driver counts the rows of a statement. So a DELETE of one row says whether that row was there.
    An ``executemany`` of several rows says so as well if it has matched none of them or all of
    them. If it has matched some, there is no way to find out which.

    Args:
        session: The session that is about to flush.
        states: The states whose rows it is going to delete.
    """

    def __init__(self, session: Session, states: Sequence[State]) -> None:
        self._states = states
        self._statements: list[_Statement] = []
        known: set[Mapper[Any]] = set()
        connect = session.connection_callable
        for state in states:
            mapper = state.mapper.base_mapper
            if connect is not None:  # a sharded session: each row may have another connection
                self._watch(connect(mapper, state.obj()))
            elif mapper not in known:
                known.add(mapper)
                # The flush is about to use the same connection, so nothing is opened in vain.
                self._watch(session.connection(bind_arguments={"mapper": mapper}))

    def _watch(self, connection: Any) -> None:
        if connection not in _flushes:
            event.listen(connection, "after_execute", _note_statement)
        _flushes[connection] = weakref.ref(self)

    def note(self, statement: _Statement) -> None:
        """Note a statement that was executed."""
        self._statements.append(statement)

    def missed(self) -> tuple[set[State], list[tuple[int, int]]]:
        """Compare the rows that were to be deleted with those that were.

        Returns:
            The states whose rows were not there. And, for each statement that has matched some of
            its rows only, how many rows it was to delete and how many it has deleted.
        """
        if all(each.matched == len(each.keys) for each in self._statements):
            return set(), []
        by_key: dict[Any, dict[tuple[Any, ...], _Statement]] = {}
        missed: set[State] = set()
        unsure: dict[int, tuple[int, int]] = {}
        for state in self._states:
            primary = state.mapper.primary_key
            table, names = primary[0].table, tuple(str(column.key) for column in primary)
            found = by_key.get((table, names))
            if found is None:
                found = by_key[table, names] = {
                    tuple(key.get(name) for name in names): each
                    for each in self._statements
                    if each.table is table
                    for key in each.keys
                }
            # If a receiver has emptied the instance, SQLAlchemy finds no key, and gives NO_VALUE to
            # the driver. Those of MySQL take it, as it is an integer.
            nothing = (NO_VALUE,) * len(names)
            statement = found.get(tuple(state.identity or ()), found.get(nothing))
            if statement is None:
                continue
            if statement.matched == 0:
                missed.add(state)
            elif 0 < statement.matched < len(statement.keys):
                unsure[id(statement)] = len(statement.keys), statement.matched
        return missed, list(unsure.values())


_flushes: weakref.WeakKeyDictionary[Connection, weakref.ref[DeletedRows]] = (
    weakref.WeakKeyDictionary()
)
"""Connections with a listener, each with the last flush that deletes rows there."""


def _note_statement(
    connection: Connection,
    statement: Any,
    many: Sequence[Mapping[str, Any]],
    one: Mapping[str, Any],
    _options: Mapping[str, Any],
    result: Any,
) -> None:
    rows = _flushes[connection]()
    if rows is not None and isinstance(statement, Delete):
        rows.note(_Statement(statement.table, many or [one], result.rowcount))

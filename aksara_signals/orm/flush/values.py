"""The values that one flush writes, for receivers that request ``changes``."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_dict

from aksara_signals.orm.bridge.column_edits import LITERALS, expressions, expressions_of_new
from aksara_signals.orm.bridge.hidden_history import hidden_history_of
from aksara_signals.orm.bridge.states import State
from aksara_signals.orm.flush.changes import Change, LiveChanges, changes_of, read_old_values
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.mapping.fields import UNKNOWN, Inserted, has_default
from aksara_signals.orm.mapping.info import info_of
from aksara_signals.types import Changes


class FlushValues:
    """The values that one flush changes: old ones read before it, new ones recorded after it.

    Args:
        session: The flushing session.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._old_values: dict[State, dict[str, Any]] = {}
        self._changes: dict[State, Changes] = {}
        self._expressions: dict[State, dict[str, Any]] = {}
        self._given: dict[State, frozenset[str]] = {}
        """The attributes of new rows that were set, of classes with receivers that want to know."""

    # -- before --------------------------------------------------------------------------------

    def live(self, changes: list[Change]) -> dict[State, LiveChanges]:
        """The changes for pre receivers, computed for each receiver when it is called."""
        self.read_old(changes)
        return {
            each.state: LiveChanges(
                self._session, each, self._old_values.setdefault(each.state, {})
            )
            for each in changes
        }

    def read_old(self, changes: Iterable[Change]) -> None:
        """Read the old values of updated rows that history doesn't know."""
        known: dict[Change, dict[str, Any]] = {}
        for change in changes:
            if change.kind is Kind.UPDATE:
                known[change] = values = self._old_values.setdefault(change.state, {})
                hidden = hidden_history_of(change.state)
                if hidden is not None:
                    values.update(hidden.known_old_values())
        if known:
            read_old_values(self._session, known)

    def read_ahead(self, changes: Iterable[Change], names: Iterable[str]) -> None:
        """Read attributes of rows that aren't loaded, in case that async receivers assign them.

        Args:
            changes: Of one kind and class.
            names: The attributes whose old values are needed then; they can't be read any more.
        """
        known = {
            change: self._old_values.setdefault(change.state, {})
            for change in changes
            if change.kind is Kind.UPDATE
        }
        if known:
            read_old_values(self._session, known, names)

    def expect(self, changes: Iterable[Change]) -> None:
        """Note which attributes of rows hold SQL, which the database will compute.

        Args:
            changes: Inserts or updates.
        """
        create = Kind.CREATE
        for change in changes:
            state = change.state
            values = instance_dict(change.instance)
            is_new = change.kind is create
            for key in values if is_new else state.committed_state:
                if type(values.get(key)) not in LITERALS:
                    break
            else:
                continue
            found = expressions_of_new(state) if is_new else expressions(state)
            if found:
                self._expressions[state] = found

    def expect_new(self, state: State) -> None:
        """Note which attributes of a new row are set: later, defaults have filled others."""
        self._given[state] = frozenset(state.dict)

    # -- after ---------------------------------------------------------------------------------

    def has_expressions(self, state: State) -> bool:
        """Whether the database has computed any of the values, so that they have expired."""
        return state in self._expressions

    def computed_names(self, state: State) -> Iterable[str]:
        """The attributes of a row that the database has computed."""
        return self._expressions.get(state, ())

    def record(self, change: Change, *, is_judged: bool = False) -> None:
        """Record what was really written, while history still shows it.

        Args:
            change: An insert or an update.
            is_judged: Whether its changes decide which receivers are called.
        """
        state = change.state
        self._changes[state] = changes_of(change, self._old_values.get(state, {}))
        if is_judged and change.kind is Kind.CREATE:
            # Relationships have set foreign keys since; unlike defaults, they have left history.
            self._given[state] = self._given.get(state, frozenset()).union(state.committed_state)

    def computed(self) -> list[State]:
        """The instances whose recorded changes have values that the database has computed."""
        return [state for state in self._changes if state in self._expressions]

    def extras(self) -> dict[State, Any]:
        """The on-demand arguments of the post signals, for the recorded changes.

        They have the values that the database has computed; those that aren't loaded are loaded.
        """
        extras: dict[State, Any] = {
            state: {"changes": self._complete(state, changes)}
            for state, changes in self._changes.items()
        }
        for state, given in self._given.items():
            if state in extras:
                row = _row_of(state, extras[state]["changes"])
                extras[state]["inserted"] = Inserted(given, row.get)
        return extras

    def _complete(self, state: State, changes: Changes) -> Changes:
        pending = self._expressions.get(state)
        if not pending:
            return changes
        known = self._old_values.get(state, {})
        instance = state.obj()
        with self._session.no_autoflush:  # loaded already, unless its row is gone
            computed = {
                key: (known.get(key, old), getattr(instance, key)) for key, old in pending.items()
            }
        return MappingProxyType({**changes, **computed})


def _row_of(state: State, changes: Changes) -> dict[str, Any]:
    """The columns of a new row that aren't among its changes, without those that are NULL.

    Taken before receivers are called, which may change the instance.
    """
    row: dict[str, Any] = {}
    for key, column in info_of(state.mapper).columns.items():
        if key in state.dict:
            if key not in changes:
                row[key] = state.dict[key]
        elif key in state.expired_attributes or has_default(column):
            row[key] = UNKNOWN
    return row

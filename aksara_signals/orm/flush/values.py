"""The values that one flush writes, for receivers that ask for ``changes``."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

from sqlalchemy.orm import Session

from aksara_signals.orm.bridge.hidden_history import hidden_history_of
from aksara_signals.orm.bridge.history import expressions, expressions_of_new
from aksara_signals.orm.bridge.states import State
from aksara_signals.orm.flush.changes import Change, LiveChanges, changes_of, read_old_values
from aksara_signals.orm.kind import Kind
from aksara_signals.types import Changes


class FlushValues:
    """What one flush changes, value by value: noted before it and recorded after it.

    Args:
        session: That flushes.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._old_values: dict[State, dict[str, Any]] = {}
        self._changes: dict[State, Changes] = {}
        self._expressions: dict[State, dict[str, Any]] = {}

    # -- before --------------------------------------------------------------------------------

    def live(self, changes: list[Change]) -> dict[State, LiveChanges]:
        """The changes as pre receivers see them: always those of the moment."""
        self.read_old(changes)
        return {
            each.state: LiveChanges(each, self._old_values.setdefault(each.state, {}))
            for each in changes
        }

    def read_old(self, changes: Iterable[Change]) -> None:
        """Read the old values of rows that are updated, as far as history doesn't know them."""
        known: dict[Change, dict[str, Any]] = {}
        for change in changes:
            if change.kind is Kind.UPDATE:
                known[change] = values = self._old_values.setdefault(change.state, {})
                hidden = hidden_history_of(change.state)
                if hidden is not None:
                    values.update(hidden.known_old_values())
        if known:
            read_old_values(self._session, known)

    def expect(self, change: Change) -> None:
        """Note which attributes of a row the database will work out when it is written.

        Args:
            change: Of a row that is inserted or updated.
        """
        state = change.state
        is_new = change.kind is Kind.CREATE
        found = expressions_of_new(state) if is_new else expressions(state)
        if found:
            self._expressions[state] = found

    # -- after ---------------------------------------------------------------------------------

    def has_expressions(self, state: State) -> bool:
        """Whether the database has worked out any of the values, so that they have expired."""
        return state in self._expressions

    def record(self, change: Change) -> None:
        """Note what was really written, while history still shows it."""
        state = change.state
        self._changes[state] = changes_of(change, self._old_values.get(state, {}))

    def worked_out(self) -> list[State]:
        """The instances of which a recorded change has values that the database has worked out."""
        return [state for state in self._changes if state in self._expressions]

    def extras(self) -> dict[State, Any]:
        """The on-demand arguments of the post signals of what was recorded.

        With what the database has worked out, which is loaded where it wasn't.
        """
        return {
            state: {"changes": self._complete(state, changes)}
            for state, changes in self._changes.items()
        }

    def _complete(self, state: State, changes: Changes) -> Changes:
        pending = self._expressions.get(state)
        if not pending:
            return changes
        known = self._old_values.get(state, {})
        instance = state.obj()
        with self._session.no_autoflush:  # loaded already, unless its row is gone
            worked_out = {
                key: (known.get(key, old), getattr(instance, key)) for key, old in pending.items()
            }
        return MappingProxyType({**changes, **worked_out})

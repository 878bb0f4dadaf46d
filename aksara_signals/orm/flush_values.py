"""The values that one flush writes, for receivers that ask for ``changes``."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

from sqlalchemy.orm import Session

from aksara_signals.orm import bridge
from aksara_signals.orm.changes import (
    Change,
    Kind,
    LiveChanges,
    changes_of,
    computed_changes,
    note_computed,
    read_old_values,
)
from aksara_signals.orm.columns import columns_of
from aksara_signals.orm.partial import partial_save_of
from aksara_signals.types import Changes

__all__ = ["FlushValues"]


class FlushValues:
    """What one flush changes, value by value: noted before it and recorded after it.

    Args:
        session: That flushes.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._old_values: dict[bridge.State, dict[str, Any]] = {}
        self._changes: list[tuple[Change, Changes]] = []
        self._computed: dict[bridge.State, list[str]] = {}
        self._expressions: dict[bridge.State, dict[str, Any]] = {}

    # -- before --------------------------------------------------------------------------------

    def live(self, change: Change) -> LiveChanges:
        """The changes as a pre receiver sees them: always those of the moment."""
        return LiveChanges(change, self._read_old(change))

    def expect(self, change: Change, *, all_of_them: bool) -> None:
        """Note what will not be known any more, or not yet, when the row has been written.

        Args:
            change: Of a row that is updated.
            all_of_them: Whether receivers ask for changes; else it is only noted which
                attributes the database will work out.
        """
        state = change.state
        expressions = bridge.expressions(state)
        if expressions:
            self._expressions[state] = expressions
        if not all_of_them:
            return
        known = self._old_values.setdefault(state, {})
        self._computed[state] = note_computed(change, known)
        self._read_old(change, self._computed[state])
        for key, old in expressions.items():
            known.setdefault(key, old)
            self._computed[state].append(key)

    def _read_old(self, change: Change, computed: Iterable[str] = ()) -> dict[str, Any]:
        known = self._old_values.setdefault(change.state, {})
        partial = partial_save_of(change.state)
        if partial is not None:
            known.update(partial.hidden.known_old_values())
        read_old_values(self._session, change, known, computed)
        return known

    # -- after ---------------------------------------------------------------------------------

    def has_expressions(self, state: bridge.State) -> bool:
        """Whether the database has worked out any of the values, so that they have expired."""
        return state in self._expressions

    def record(self, change: Change) -> None:
        """Note what was really written, while history still shows it."""
        state = change.state
        changes = changes_of(change, self._old_values.get(state, {}))
        self._changes.append((change, changes))
        if change.kind is Kind.CREATE:
            self._computed[state] = [key for key in columns_of(state.mapper) if key not in changes]

    def extras(self) -> dict[bridge.State, Any]:
        """The on-demand arguments of the post signals of what was recorded.

        With what the write itself has worked out, which must have been loaded.
        """
        return {
            change.state: {"changes": self._complete(change, changes)}
            for change, changes in self._changes
        }

    def _complete(self, change: Change, changes: Changes) -> Changes:
        computed = self._computed.get(change.state)
        if not computed:
            return changes
        known = self._old_values.get(change.state, {})
        return MappingProxyType({**changes, **computed_changes(change, computed, known)})

"""The values that one flush writes, for receivers that ask for ``changes``."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from sqlalchemy.orm import Session

from aksara_signals.orm import bridge
from aksara_signals.orm.changes import Change, Kind, LiveChanges, changes_of, read_old_values
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
        self._changes: dict[bridge.State, Changes] = {}
        self._expressions: dict[bridge.State, dict[str, Any]] = {}

    # -- before --------------------------------------------------------------------------------

    def live(self, change: Change) -> LiveChanges:
        """The changes as a pre receiver sees them: always those of the moment."""
        return LiveChanges(change, self._read_old(change))

    def expect(self, change: Change, *, all_of_them: bool) -> None:
        """Note what will not be known any more, or not yet, when the row has been written.

        Args:
            change: Of a row that is inserted or updated.
            all_of_them: Whether receivers ask for changes; else it is only noted which
                attributes the database will work out.
        """
        state = change.state
        is_new = change.kind is Kind.CREATE
        expressions = bridge.expressions_of_new(state) if is_new else bridge.expressions(state)
        if expressions:
            self._expressions[state] = expressions
        if all_of_them and not is_new:
            self._read_old(change)

    def _read_old(self, change: Change) -> dict[str, Any]:
        known = self._old_values.setdefault(change.state, {})
        partial = partial_save_of(change.state)
        if partial is not None:
            known.update(partial.hidden.known_old_values())
        read_old_values(self._session, change, known)
        return known

    # -- after ---------------------------------------------------------------------------------

    def has_expressions(self, state: bridge.State) -> bool:
        """Whether the database has worked out any of the values, so that they have expired."""
        return state in self._expressions

    def record(self, change: Change) -> None:
        """Note what was really written, while history still shows it."""
        state = change.state
        self._changes[state] = changes_of(change, self._old_values.get(state, {}))

    def extras(self) -> dict[bridge.State, Any]:
        """The on-demand arguments of the post signals of what was recorded.

        With what the database has worked out, which is loaded where it wasn't.
        """
        return {
            state: {"changes": self._complete(state, changes)}
            for state, changes in self._changes.items()
        }

    def _complete(self, state: bridge.State, changes: Changes) -> Changes:
        expressions = self._expressions.get(state)
        if not expressions:
            return changes
        known = self._old_values.get(state, {})
        instance = state.obj()
        with self._session.no_autoflush:
            worked_out = {
                key: (known.get(key, old), getattr(instance, key))
                for key, old in expressions.items()
            }
        return MappingProxyType({**changes, **worked_out})

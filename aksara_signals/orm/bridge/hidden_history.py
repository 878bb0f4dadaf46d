"""History that a flush is not to see: what ``save(update_fields=…)`` leaves out."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy.orm import RelationshipDirection, RelationshipProperty, Session
from sqlalchemy.orm.attributes import flag_dirty, instance_state

from aksara_signals.orm.bridge.history import (
    add_pending,
    hide_scalar,
    is_unknown,
    net_history,
    original_members,
    pending_members,
    remove_pending,
    reverse_keys,
)
from aksara_signals.orm.bridge.rows import read_rows
from aksara_signals.orm.bridge.states import State, key_values


class HiddenHistory:
    """Pending changes of one instance, kept out of a flush and put back afterwards.

    The values stay where they are: only the history, by which the flush finds them, is taken away.
    But a primary key is that of the row in the meantime, or the flush would write another one.

    Args:
        instance: A persistent instance.
        fields: What the save was given as ``update_fields``.
        visible: The names of the attributes whose changes are to be written.
    """

    def __init__(self, instance: object, fields: frozenset[str], visible: frozenset[str]) -> None:
        self.fields: frozenset[str] = fields
        self._instance = instance
        self._state: State = instance_state(instance)
        self._old: dict[str, Any] = {}
        self._undo: list[Callable[[], None]] = []
        mapper = self._state.mapper
        relationships = mapper.relationships
        for key in list(self._state.committed_state):
            if key in mapper.column_attrs:
                if key not in visible:
                    self._old[key] = self._state.committed_state.pop(key)
            elif (
                key in relationships
                and relationships[key].direction is RelationshipDirection.MANYTOONE
                and key not in visible
            ):
                self._hide_reverse(relationships[key])
                self._old[key] = self._state.committed_state.pop(key)
        values = self._state.dict
        of_the_row = key_values(mapper, self._state.key)
        self._read = {key: value for key, value in of_the_row.items() if key in self._old}
        self._keys = {key: values[key] for key in self._read if key in values}
        values.update({key: self._read[key] for key in self._keys})
        self._outer = _hidden.get(self._state)
        _hidden[self._state] = self

    def _hide_reverse(self, prop: RelationshipProperty[Any]) -> None:
        """Hide this instance from the collections of its old and its new parent.

        They would write the foreign key as well.
        """
        history = net_history(self._state, prop.key)
        for key in reverse_keys(prop):
            for parent in (*history.added, *history.deleted):
                if parent is not None:
                    self._hide_member(instance_state(parent), key)

    def _hide_member(self, parent: State, key: str) -> None:
        instance = self._instance
        pending = pending_members(parent, key)
        if pending is not None:
            added, removed = pending
            if _is_in(instance, added):
                added.remove(instance)
                self._undo.append(lambda: add_pending(parent, key, instance))
            if _is_in(instance, removed):
                removed.remove(instance)
                self._undo.append(lambda: remove_pending(parent, key, instance))
            return
        original = original_members(parent, key)
        if original is None:  # the other end of a one-to-one relationship
            self._undo.append(hide_scalar(parent, key))
            return
        before = original[:]
        is_added = _is_in(instance, net_history(parent, key).added)
        original[:] = [member for member in before if member is not instance]
        original.extend([instance] if is_added else [])
        self._undo.append(lambda: _refill(original, before))

    def reveal_edited(self) -> None:
        """Let through what receivers have set since: it is written, whatever was asked for."""
        for key in list(self._old):
            if key in self._state.committed_state:
                self._state.committed_state[key] = self._old.pop(key)
                self._keys.pop(key, None)

    def restore(self) -> None:
        """Put the pending changes back, unless a rollback has dropped the values."""
        state = self._state
        if self._outer is None:
            del _hidden[state]
        else:
            _hidden[state] = self._outer
        state.dict.update({key: new for key, new in self._keys.items() if key in state.dict})
        kept = [key for key in self._old if key in state.dict]
        for key in kept:
            state.committed_state[key] = self._old[key]
        if kept:
            for undo in reversed(self._undo):
                undo()
            flag_dirty(self._instance)

    def known_old_values(self) -> dict[str, Any]:
        """The values of columns before the hidden changes, as far as they are known."""
        known = {key: old for key, old in self._old_columns() if not is_unknown(old)}
        return {**self._read, **known}

    def read_unknown(self, session: Session) -> None:
        """Read the other ones: what the row has in the place of what isn't written."""
        state = self._state
        unknown = [
            key for key, old in self._old_columns() if is_unknown(old) and key not in self._read
        ]
        if unknown and state.identity is not None:
            found = read_rows(session, state.mapper, unknown, {state.identity: self._instance})
            for values in found.values():
                self._read.update(zip(unknown, values, strict=True))

    def as_written(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Column values of the instance, with those of its row where changes are hidden."""
        hidden = {key for key, _ in self._old_columns()}
        known = {key: value for key, value in values.items() if key not in hidden}
        return {**known, **self.known_old_values()}

    def _old_columns(self) -> Iterator[tuple[str, Any]]:
        columns = self._state.mapper.column_attrs
        return ((key, old) for key, old in self._old.items() if key in columns)


_hidden: weakref.WeakKeyDictionary[State, HiddenHistory] = weakref.WeakKeyDictionary()


def hidden_history_of(state: State) -> HiddenHistory | None:
    """What is hidden of an instance at the moment, by the innermost partial save of it."""
    return _hidden.get(state) if _hidden else None


def reveal_edited(session: Session) -> None:
    """What receivers have set is written too: to be called when the last of them is through."""
    if not _hidden:
        return
    for state, hidden in list(_hidden.items()):
        if state.session is session:
            hidden.reveal_edited()


def _is_in(instance: object, members: Iterable[object]) -> bool:
    return any(member is instance for member in members)


def _refill(members: list[Any], before: list[Any]) -> None:
    members[:] = before

"""Pending changes that ``save(update_fields=…)`` keeps out of a flush.

A flush writes every pending change of an instance. To write some of them only, the others must look
unchanged to it, and be pending again afterwards. Resetting the values and assigning them once more
would run validators and attribute events twice. So the values stay where they are, and only their
history is taken away: SQLAlchemy finds changes by history alone.

Two things make it harder. A many-to-one relationship is written from the parent's collection as
well, so the instance has to be hidden there. And a pending primary key can't stay where it is,
because the flush finds the row by it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlalchemy.orm import RelationshipDirection, RelationshipProperty, Session
from sqlalchemy.orm.attributes import flag_dirty, instance_state

from aksara_signals.orm.bridge.column_edits import is_unknown
from aksara_signals.orm.bridge.history import (
    add_pending,
    hide_scalar,
    net_history,
    original_members,
    pending_members,
    remove_pending,
    reverse_keys,
)
from aksara_signals.orm.bridge.rows import read_rows
from aksara_signals.orm.bridge.states import State, includes, key_values


class HiddenHistory:
    """Pending changes of one instance, kept out of a flush and put back afterwards.

    Args:
        instance: A persistent instance.
        fields: The ``update_fields`` that the save was given.
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
        # The flush finds the row by the primary key that the instance has. So a hidden pending key
        # is replaced by the key of the row until restore().
        values = self._state.dict
        of_the_row = key_values(mapper, self._state.key)
        self._read = {key: value for key, value in of_the_row.items() if key in self._old}
        self._keys = {key: values[key] for key in self._read if key in values}
        values.update({key: self._read[key] for key in self._keys})
        self._outer = _hidden.get(self._state)
        _hidden[self._state] = self

    def _hide_reverse(self, prop: RelationshipProperty[Any]) -> None:
        """Hide this instance from the collections of its old and its new parent.

        Their history has the instance as a removed or an added member, which makes the flush write
        its foreign key, whatever the instance's own history says.
        """
        history = net_history(self._state, prop.key)
        for key in reverse_keys(prop):
            for parent in (*history.added, *history.deleted):
                if parent is not None:
                    self._hide_member(instance_state(parent), key)

    def _hide_member(self, parent: State, key: str) -> None:
        instance = self._instance
        # A collection that isn't loaded has a list of pending additions and one of removals.
        pending = pending_members(parent, key)
        if pending is not None:
            added, removed = pending
            if includes(added, instance):
                added.remove(instance)
                self._undo.append(lambda: add_pending(parent, key, instance))
            if includes(removed, instance):
                removed.remove(instance)
                self._undo.append(lambda: remove_pending(parent, key, instance))
            return
        # A loaded one has a copy of its original members, with which it is compared. In that copy
        # the instance is made to look like an old member if it was added, and like none if it was
        # removed. Dropping the whole copy would hide the changes of other members, too, and putting
        # it back would make changes pending that this flush has written.
        original = original_members(parent, key)
        if original is None:  # the other end of a one-to-one relationship
            self._undo.append(hide_scalar(parent, key))
            return
        before = original[:]
        is_added = includes(net_history(parent, key).added, instance)
        original[:] = [member for member in before if member is not instance]
        original.extend([instance] if is_added else [])
        self._undo.append(lambda: _refill(original, before))

    def reveal_edited(self) -> None:
        """Stop hiding the attributes that receivers have set since: their values are written."""
        for key in list(self._old):
            if key in self._state.committed_state:
                self._state.committed_state[key] = self._old.pop(key)
                self._keys.pop(key, None)

    def restore(self) -> None:
        """Make the hidden changes pending again, unless a rollback has dropped the values."""
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
        """The column values before the hidden changes, as far as they are known."""
        known = {key: old for key, old in self._old_columns() if not is_unknown(old)}
        return {**self._read, **known}

    def read_unknown(self, session: Session) -> None:
        """Read the column values before the hidden changes that are not known yet."""
        state = self._state
        unknown = [
            key for key, old in self._old_columns() if is_unknown(old) and key not in self._read
        ]
        if unknown and state.identity is not None:
            found = read_rows(session, state.mapper, unknown, {state.identity: self._instance})
            for values in found.values():
                self._read.update(zip(unknown, values, strict=True))

    def as_written(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The given column values, with those of the row for hidden changes, where known."""
        hidden = {key for key, _ in self._old_columns()}
        known = {key: value for key, value in values.items() if key not in hidden}
        return {**known, **self.known_old_values()}

    def _old_columns(self) -> Iterator[tuple[str, Any]]:
        columns = self._state.mapper.column_attrs
        return ((key, old) for key, old in self._old.items() if key in columns)


_hidden: weakref.WeakKeyDictionary[State, HiddenHistory] = weakref.WeakKeyDictionary()


hiding: Mapping[Any, object] = getattr(_hidden, "data")  # noqa: B009 - not in the public type
"""Is empty as long as no save hides anything: then, nothing has to be asked for each row."""


def hidden_history_of(state: State) -> HiddenHistory | None:
    """The history that the innermost partial save of an instance hides at the moment, if any."""
    return _hidden.get(state) if hiding else None


def reveal_edited(session: Session) -> None:
    """Stop hiding what pre receivers have set. To be called when the last of them has returned."""
    if not hiding:
        return
    for state, hidden in list(_hidden.items()):
        if state.session is session:
            hidden.reveal_edited()


def _refill(members: list[Any], before: list[Any]) -> None:
    members[:] = before

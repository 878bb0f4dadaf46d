"""From the rows of a statement to changes with instances, one chunk after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy.orm.attributes import instance_state

from aksara_signals.orm.bridge.column_edits import is_same
from aksara_signals.orm.bridge.results import Row
from aksara_signals.orm.bridge.statements import identity_token_of
from aksara_signals.orm.bridge.states import State, detached_copy
from aksara_signals.orm.flush.changes import Change
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.statements.layout import ClassLayout
from aksara_signals.orm.statements.reading import ReadRows, Values
from aksara_signals.orm.statements.statement import OrmStatement
from aksara_signals.orm.statements.writing import WrittenRows

CHUNK = 1_000
"""The most rows of which there are instances at the same time."""

_NOTHING: Values = {}
_Pairs = dict[str, tuple[Any, Any]]
"""Old and new values by the names of attributes."""


class Chunk:
    """The changes of some rows."""

    __slots__ = ("changes", "extras", "previous_keys")

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.extras: dict[State, Any] = {}
        """The on-demand arguments, if a receiver asks for changes."""
        self.previous_keys: dict[State, Any] = {}
        """The identity keys before an UPDATE that has changed them."""


class RowChanges:
    """The changes that a statement has made.

    Args:
        statement: The statement.
        written: Its rows.
        reading: Reads what other tables have.
        held: Of a DELETE, the session's own instances before it, by identity key.
        with_changes: Whether a receiver asks for ``changes``.
    """

    def __init__(
        self,
        statement: OrmStatement,
        written: WrittenRows,
        reading: ReadRows,
        held: Mapping[Any, object] | None,
        *,
        with_changes: bool,
    ) -> None:
        self._session = statement.state.session
        self._token = identity_token_of(statement.state)
        self._layout = statement.layout
        self._written = written
        self._kind = statement.kind
        self._names = statement.names
        self._reading = reading
        self._held = held
        self._with_changes = with_changes and statement.kind is not Kind.DELETE

    def chunks(self, *, as_copies: bool = False) -> Iterator[Chunk]:
        """The changes, in the order of the rows; each chunk is made when it is asked for.

        Args:
            as_copies: Whether their instances are copies, also of rows that the session holds.
        """
        held: Any = {} if as_copies else self._held
        if held is None:
            held = self._session.identity_map
        for start in range(0, len(self._written.rows), CHUNK):
            yield self._chunk(start, held)

    def _chunk(self, start: int, held_by_key: Mapping[Any, object]) -> Chunk:
        written, layout = self._written, self._layout
        rows = written.rows[start : start + CHUNK]
        kinds, old_rows, with_changes = written.kinds, written.old, self._with_changes
        elsewhere, before_elsewhere = written.elsewhere, written.old_elsewhere
        if elsewhere is None and not layout.has_all_values:
            elsewhere = self._reading.elsewhere(rows)
        chunk = Chunk()
        changes, extras = chunk.changes, chunk.extras
        identity_of, identity_class = layout.identity_of, layout.identity_class
        token = self._token
        is_delete, kind = self._kind is Kind.DELETE, self._kind
        for place, row in enumerate(rows, start):
            identity = identity_of(row)
            if elsewhere is None:
                cls, others = layout.class_of(row), _NOTHING
            else:
                cls, others = elsewhere[identity]
            key = identity_class, identity, token
            instance = held_by_key.get(key)
            if instance is None or (is_delete and _lacks_values(instance, cls)):
                instance = _copy(cls, key, row, others)
            state = instance_state(instance)
            if kinds is not None:
                kind = kinds[place]
            changes.append(Change(kind, state, instance, cls.cls))
            if with_changes:
                old = None if old_rows is None else old_rows[place]
                found = (
                    _set_values(cls, row, self._names_of(place))
                    if old is None
                    else _differences(cls, old, row)
                )
                if before_elsewhere is not None and identity in before_elsewhere:
                    found |= _changes_elsewhere(cls, before_elsewhere[identity][1], others)
                extras[state] = {"changes": MappingProxyType(found)}
                if old is not None and (before := identity_of(old)) != identity:
                    chunk.previous_keys[state] = identity_class, before, token
        return chunk

    def _names_of(self, place: int) -> frozenset[str]:
        """The attributes that were set in a new row."""
        names = self._written.names
        return self._names if names is None else names[place]


def _set_values(cls: ClassLayout, row: Row, names: frozenset[str]) -> _Pairs:
    """The changes of a new row."""
    return {name: (None, row[place]) for name, place in cls.places.items() if name in names}


def _differences(cls: ClassLayout, old: Row, new: Row) -> _Pairs:
    """The changes of an updated row."""
    manager = cls.mapper.class_manager
    return {
        name: (old[place], new[place])
        for name, place in cls.places.items()
        if old[place] is not new[place] and not is_same(manager, name, old[place], new[place])
    }


def _changes_elsewhere(cls: ClassLayout, old: Values, new: Values) -> _Pairs:
    """What differs in other tables."""
    manager = cls.mapper.class_manager
    return {
        name: (old[name], new[name])
        for name in cls.missing
        if name in old and name in new and not is_same(manager, name, old[name], new[name])
    }


def _copy(cls: ClassLayout, key: Any, row: Row, others: Values) -> object:
    """A detached instance with the values of a row."""
    values = dict(zip(cls.names, cls.values_of(row), strict=True))
    if not cls.missing:
        return detached_copy(cls.mapper.class_manager, key, values, cls.unloaded)
    values.update(others)
    missing = [name for name in cls.missing if name not in others]
    return detached_copy(cls.mapper.class_manager, key, values, [*cls.unloaded, *missing])


def _lacks_values(instance: object, cls: ClassLayout) -> bool:
    """Whether an instance whose row is gone has columns that it would have to load."""
    values = instance_state(instance).dict
    return any(name not in values for name in (*cls.names, *cls.missing))

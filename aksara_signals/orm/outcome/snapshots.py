"""Snapshots of instances, from which deferred receivers get copies.

When a deferred receiver is called, the instance itself may be expired, changed again, or in use by
the code that has committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy.orm import Mapper

from aksara_signals.orm.bridge.column_edits import is_same
from aksara_signals.orm.bridge.states import State, key_values, state_of
from aksara_signals.orm.outcome.columns import (
    MUTABLE,
    Columns,
    columns_taken,
    kept,
    thawed,
)

_COLLECTION_TYPES = (list, tuple, set, frozenset)


class Snapshot:
    """The columns of one instance at one moment.

    Args:
        state: The state of the instance.
    """

    __slots__ = ("columns", "key", "values")

    def __init__(self, state: State) -> None:
        columns, values = columns_taken(state)
        self.columns: Columns = columns
        self.values: tuple[Any, ...] = values
        """Those of ``columns.names``."""
        self.key: Any = state.key
        """The identity key; None for an instance without a row."""

    def thaw(self) -> object:
        """A new detached instance of the class, with the identity key and the column values."""
        return thawed(self.columns, self.key, self.values)

    def take_values(self, values: Mapping[str, Any]) -> None:
        """Replace the values of some columns. To be called on a ``copy()`` of a snapshot."""
        self.columns, self.values = self.columns.merged(self.values, values)

    def take_key(self, key: Any) -> None:
        """Replace the identity key. To be called on a ``copy()`` of a snapshot."""
        self.take_values(key_values(self.mapper, key))
        self.key = key

    @property
    def mapper(self) -> Mapper[Any]:
        """The mapper of the instance's class."""
        found: Mapper[Any] = self.columns.manager.mapper
        return found

    def get(self, name: str, default: Any) -> Any:
        """The value of a column, or the default if the snapshot doesn't have it."""
        place = self.columns.places.get(name)
        return default if place is None else self.values[place]

    def is_same(self, name: str, old: Any, new: Any) -> bool:
        """Whether two values of a column are equal, as SQLAlchemy compares them."""
        return is_same(self.columns.manager, name, old, new)


class _Members:
    """A list, tuple or set that holds snapshots where it held instances."""

    __slots__ = ("_members", "_type")

    def __init__(self, members: Any) -> None:
        self._type = type(members)
        self._members = [_frozen_or_same(each) for each in members]

    def thaw(self) -> Any:
        """A new collection, with new copies in the place of instances."""
        return self._type(_thawed(each) for each in self._members)


class Passed:
    """The keyword arguments that were given with a change of a relationship."""

    __slots__ = ("_passed",)

    def __init__(self, passed: Mapping[str, Any]) -> None:
        self._passed = {name: _frozen_or_same(value) for name, value in passed.items()}

    def thaw(self) -> dict[str, Any]:
        """A new dict, with new copies in the place of instances."""
        return {name: _thawed(value) for name, value in self._passed.items()}


Frozen = Snapshot | _Members | Passed
"""A value that holds snapshots in the place of instances."""


def freeze(value: Any) -> Frozen | None:
    """The snapshot of an instance, or of a list, tuple or set of some; None for anything else."""
    state = state_of(value)
    if state is not None:
        return Snapshot(state)
    if type(value) in _COLLECTION_TYPES and any(state_of(each) is not None for each in value):
        return _Members(value)
    return None


def _frozen_or_same(value: Any) -> Any:
    found = freeze(value)
    return value if found is None else found


def _thawed(value: Any) -> Any:
    return value.thaw() if isinstance(value, (Snapshot, _Members, Passed)) else value


def kept_extras(extras: Mapping[str, Any]) -> Mapping[str, Any]:
    """A copy of on-demand arguments whose values may be changed in place later."""
    changes = extras.get("changes")
    if not changes or not any(
        isinstance(old, MUTABLE) or isinstance(new, MUTABLE) for old, new in changes.values()
    ):
        return extras
    own = {name: (kept(old), kept(new)) for name, (old, new) in changes.items()}
    return {**extras, "changes": MappingProxyType(own)}


def values_of(state: State, names: Iterable[str]) -> dict[str, Any]:
    """The values of columns at this moment, without those that stay pending."""
    values, pending = state.dict, state.committed_state
    return {key: kept(values[key]) for key in names if key in values and key not in pending}

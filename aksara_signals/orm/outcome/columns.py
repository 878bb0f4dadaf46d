"""The values of the columns of instances, taken at one moment and kept in little memory.

A transaction may write very many rows before its outcome is known, and each of them waits with its
values. So they are taken in one tuple; the names stand once, in what all of these tuples share.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from aksara_signals.orm.bridge.column_edits import LITERALS
from aksara_signals.orm.bridge.hidden_history import hidden_history_of
from aksara_signals.orm.bridge.loading import is_unloaded
from aksara_signals.orm.bridge.states import State, detached_copy
from aksara_signals.orm.mapping.info import info_of

MUTABLE = (dict, list, set, bytearray)
"""Types of column values that can change in place, including ``sqlalchemy.ext.mutable``'s."""

_COLUMNS = "aksara_signals.columns"
"""The key in the ``info`` of a class manager, so that both have the same lifetime."""
_MAX_KEPT = 100
"""For how many sets of missing columns of a class the columns are kept, to be shared: a program has
no more queries than these that leave columns out, unless it makes them up as it runs."""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What is the same for all instances of a class of which the same columns are known."""

    manager: Any
    """The class manager."""
    names: tuple[str, ...]
    """The names of the known columns, in the order of their values."""
    missing: tuple[str, ...]
    """The names of the others, which would have to be loaded."""
    places: Mapping[str, int]
    """The place of each name."""
    take: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    """Takes the values out of the dict of an instance; a KeyError if it lacks one of them."""

    @classmethod
    def of(cls, manager: Any, missing: tuple[str, ...] = ()) -> Columns:
        """All columns of a class but the missing ones."""
        kept: dict[tuple[str, ...], Columns] | None = manager.info.get(_COLUMNS)
        known = manager.info.setdefault(_COLUMNS, {}) if kept is None else kept
        found: Columns | None = known.get(missing)
        if found is None:
            keys = info_of(manager.mapper).column_keys
            found = cls.named(manager, tuple(each for each in keys if each not in missing), missing)
            if not missing or len(known) < _MAX_KEPT:
                known[missing] = found
        return found

    @classmethod
    def named(cls, manager: Any, names: tuple[str, ...], missing: tuple[str, ...]) -> Columns:
        """The columns with these names."""
        places = {name: place for place, name in enumerate(names)}
        return cls(manager, names, missing, places, _taking(names))

    def merged(
        self, values: tuple[Any, ...], others: Mapping[str, Any]
    ) -> tuple[Columns, tuple[Any, ...]]:
        """These columns and others, with the values of both; the others take precedence."""
        merged = {**dict(zip(self.names, values, strict=True)), **others}
        columns = self
        if len(merged) > len(values):
            missing = tuple(each for each in self.missing if each not in merged)
            columns = Columns.named(self.manager, tuple(merged), missing)
        return columns, tuple(merged.values())


def _taking(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: tuple(values[each] for each in names)  # of one name: no tuple


def columns_taken(state: State) -> tuple[Columns, tuple[Any, ...]]:
    """The columns of an instance at this moment, and their values."""
    if hidden_history_of(state) is None:
        columns = Columns.of(state.manager)
        try:
            return columns, kept_values(columns.take(state.dict))
        except KeyError:
            pass
    return _taken_singly(state)


def _taken_singly(state: State) -> tuple[Columns, tuple[Any, ...]]:
    """The same, of an instance that lacks columns, or hides what isn't that of the row."""
    values = state.dict
    hidden = hidden_history_of(state)
    if hidden is not None:  # a value that stays pending isn't that of the row
        values = hidden.as_written(values)
    missing = tuple(
        key
        for key in info_of(state.mapper).column_keys
        if key not in values and (key in state.dict or is_unloaded(state, key))
    )
    columns = Columns.of(state.manager, missing)
    # An INSERT has left out what is neither there nor to be loaded: it is None.
    return columns, kept_values(tuple(values.get(key) for key in columns.names))


def thawed(columns: Columns, key: Any, values: tuple[Any, ...]) -> object:
    """A new detached instance with an identity key and with the values of columns.

    Raises:
        Exception: Whatever a ``@reconstructor`` or a listener of the class raises.
    """
    own = zip(columns.names, kept_values(values))  # noqa: B905 - strict= takes half as long again
    return detached_copy(columns.manager, key, own, columns.missing)


def kept_values(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Values, with copies in the place of those that could be changed in place."""
    try:
        if LITERALS.issuperset(map(type, values)):
            return values
    except Exception:  # noqa: BLE001, S110 - the metaclass of a value has no hash, or a failing one
        pass
    return tuple(map(kept, values))


def kept(value: Any) -> Any:
    """A value, or a copy of it if it could be changed in place."""
    return copy.deepcopy(value) if isinstance(value, MUTABLE) else value

"""Attributes that receivers are narrowed to: which there are, and what has changed about them.

Values are compared as SQLAlchemy compares them to find out what to write: by ``compare_values()``
of the column's type. A composite is judged by its columns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Column, inspect
from sqlalchemy.orm import (
    ColumnProperty,
    CompositeProperty,
    Mapper,
    QueryableAttribute,
    RelationshipProperty,
    SynonymProperty,
)

from aksara_signals.dispatch.connections.matching import accepts
from aksara_signals.dispatch.receivers.identity import is_class, names_of
from aksara_signals.dispatch.receivers.naming import nearest
from aksara_signals.orm.bridge.classes import (
    composite_values,
    is_own_attribute,
    properties_of,
    property_of,
)
from aksara_signals.orm.bridge.column_edits import is_same, is_unknown, old_value
from aksara_signals.orm.bridge.states import State, state_of
from aksara_signals.orm.mapping.info import info_of

UNKNOWN: Any = object()
"""A value that isn't known without a query."""


class Inserted(NamedTuple):
    """What is known of a new row in addition to its changes."""

    given: Collection[str]
    """The attributes that were set, without those that only a default has filled."""
    value_of: Callable[[str], Any]
    """The value of a column in the row, :data:`UNKNOWN` if it isn't known."""


class MappedChanges:
    """The changes of one row of a mapped class, as filters judge them.

    Args:
        mapper: The mapper of its class.
        changes: Attribute name to ``(old, new)``.
        value_of: The value of a column that has not changed; :data:`UNKNOWN` if it isn't known.
        given: Of a new row, the attributes that were set.
    """

    __slots__ = ("_changes", "_given", "_mapper", "_value_of")

    def __init__(
        self,
        mapper: Mapper[Any],
        changes: Mapping[str, tuple[Any, Any]],
        value_of: Callable[[str], Any],
        given: Collection[str] | None = None,
    ) -> None:
        self._mapper = mapper
        self._changes = changes
        self._value_of = value_of
        self._given = given

    def has(self, name: str) -> bool:
        """Whether an attribute has changed; of a new row, whether it was set."""
        changed = self._changes if self._given is None else self._given
        return any(key in changed for key in self._columns_of(name))

    def fits(self, name: str, old: Any, new: Any) -> bool:
        """Whether an attribute has changed from one of the old values to one of the new ones."""
        keys = self._columns_of(name)
        pairs = [self._changed(key) for key in keys]
        if not any(pairs):
            return False
        if self._given is not None:  # there was no row: SQLAlchemy would have nothing to compare
            is_old = accepts(old, lambda each: each is None)
        else:
            is_old = accepts(old, partial(self._is, name, self._side(0, keys, pairs)))
        return is_old and accepts(new, partial(self._is, name, self._side(1, keys, pairs)))

    def _columns_of(self, name: str) -> tuple[str, ...]:
        composite = info_of(self._mapper).composites.get(name)
        return (name,) if composite is None else composite.columns

    def _changed(self, key: str) -> tuple[Any, Any] | None:
        """Old and new value of a column; None if it hasn't changed."""
        pair = self._changes.get(key)
        if self._given is not None and (pair is None or pair[1] is None):
            value = self._value_of(key)  # a default fills what wasn't set, or was set to None
            return pair if value is None else (None, value)
        return pair

    def _side(
        self, side: int, keys: tuple[str, ...], pairs: list[tuple[Any, Any] | None]
    ) -> list[tuple[str, Any]]:
        """Each column with its old value (side 0) or its new one (side 1)."""
        return [
            (key, self._value_of(key) if pair is None else pair[side])
            for key, pair in zip(keys, pairs, strict=True)
        ]

    def _is(self, name: str, found: list[tuple[str, Any]], expected: Any) -> bool:
        """Whether the columns of an attribute have the values of an expected one."""
        composite = info_of(self._mapper).composites.get(name)
        values = (expected,) if composite is None else composite_values(composite.prop, expected)
        manager = self._mapper.class_manager
        return values is not None and all(
            value is not UNKNOWN and is_same(manager, key, wanted, value)
            for (key, value), wanted in zip(found, values, strict=True)
        )


def committed_value(state: State | None, key: str) -> Any:
    """The value of a column without its pending change; :data:`UNKNOWN` if it isn't known."""
    if state is None:
        return UNKNOWN
    value = old_value(state, key)
    return UNKNOWN if is_unknown(value) else value


def unloaded_columns(state: State, names: Iterable[str], known: Collection[str]) -> tuple[str, ...]:
    """The columns of attributes that are neither loaded nor assigned.

    Args:
        state: The state of an instance that has a row.
        names: Columns and composites.
        known: Columns to leave out.
    """
    composites = info_of(state.mapper).composites
    columns = (
        key
        for name in sorted(names)
        for key in (composites[name].columns if name in composites else (name,))
    )
    return tuple(
        key
        for key in dict.fromkeys(columns)
        if key not in state.dict and key not in state.committed_state and key not in known
    )


def value_to_insert(state: State, key: str) -> Any:
    """The value that a new row is going to have; :data:`UNKNOWN` if only the INSERT decides."""
    value = state.dict.get(key)
    column = info_of(state.mapper).columns.get(key)
    if value is not None or column is None or (key in state.dict and keeps_none(column)):
        return value
    default: Any = column.default
    if default is not None and default.is_scalar:
        return default.arg
    is_set_by_flush = (
        column.primary_key
        or column.foreign_keys  # by a relationship
        or column is state.mapper.version_id_col
    )
    return UNKNOWN if is_set_by_flush or has_default(column) else None


def keeps_none(column: Column[Any]) -> bool:
    """Whether an INSERT writes None as a value; else it leaves it out, as if it weren't set."""
    return column.type.should_evaluate_none


def has_default(column: Column[Any]) -> bool:
    """Whether a column that an INSERT leaves out isn't NULL, or may not be."""
    return column.default is not None or column.server_default is not None  # or Computed, Identity


def sent_changes(
    sender: Any, changes: Mapping[str, tuple[Any, Any]], instance: Any
) -> MappedChanges | None:
    """Changes that were sent by hand; None if the sender is not a mapped class."""
    mapper = _mapper_of(sender)
    if mapper is None:
        return None
    return MappedChanges(mapper, changes, partial(committed_value, state_of(instance)))


# -- names ---------------------------------------------------------------------------------------


def attribute_of(given: Any) -> tuple[type, str] | None:
    """The class and the name of a mapped class's own attribute; None for anything else.

    Configures no mappers. A composite that a class inherits is an attribute of its base.
    """
    if not issubclass(type(given), QueryableAttribute):
        return None
    cls: Any = given.class_
    # A composite is another object each time, and says which class has declared it.
    is_composite = is_class(cls) and isinstance(property_of(given), CompositeProperty)
    return (cls, given.key) if is_composite or is_own_attribute(given) else None


def problem_of_field(cls: type, given: Any) -> str | None:
    """Why receivers of a class can't be narrowed to an attribute; None if they can.

    Configures no mappers, so that it can be asked while classes are being defined.

    Args:
        cls: Any class; nothing is known of one that isn't mapped.
        given: The name of the attribute, or the attribute.
    """
    mapper = _mapper_of(cls)
    if mapper is None:
        return None
    attribute = attribute_of(given)
    if attribute is None:
        name: str = given
    else:
        owner, name = attribute
        if not issubclass(cls, owner):
            return f"is an attribute of {names_of(owner)[0]}, and not of this class"
    properties = properties_of(mapper)
    found = properties.get(name)
    if isinstance(found, CompositeProperty) or _is_column(found):
        return None
    if isinstance(found, ColumnProperty):
        return "is SQL that is only read (a column_property), so it never changes"
    if isinstance(found, SynonymProperty):
        return f"is a synonym: name {found.name!r}"
    if isinstance(found, RelationshipProperty):
        return (
            "is a relationship: name its foreign key, or connect to m2m_changed or "
            "post_relation_add, which are sent for its links"
        )
    names = [
        key
        for key, each in properties.items()
        if isinstance(each, CompositeProperty) or _is_column(each)
    ]
    return f"is neither a column nor a composite of the class{nearest(name, names)}"


def _is_column(prop: Any) -> bool:
    return isinstance(prop, ColumnProperty) and isinstance(prop.columns[0], Column)


def _mapper_of(cls: Any) -> Mapper[Any] | None:
    found: Any = inspect(cls, raiseerr=False) if is_class(cls) else None
    return found if isinstance(found, Mapper) else None

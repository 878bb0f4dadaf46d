"""Which columns of an instance have been changed and not written yet, as SQLAlchemy judges it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from operator import eq
from types import NoneType
from typing import Any
from uuid import UUID

from sqlalchemy.orm.base import NO_VALUE, LoaderCallableStatus
from sqlalchemy.sql import ClauseElement
from sqlalchemy.types import TypeEngine

from aksara_signals.orm.bridge.loading import is_unloaded
from aksara_signals.orm.bridge.states import State


def changed_columns(state: State) -> Iterator[tuple[str, Any]]:
    """The column attributes that an UPDATE would write, each with its old value.

    The old value is ``NO_VALUE`` where it is not known. The rules are those by which SQLAlchemy
    collects the values of an UPDATE.
    """
    equals = _equals_of(state)
    values = state.dict
    for key, old in list(state.committed_state.items()):
        if key in equals and key in values:
            new = values[key]
            if is_expression(new) or is_unknown(old) or equals[key](new, old) is not True:
                yield key, NO_VALUE if is_unknown(old) else old


Equal = Callable[[Any, Any], Any]

_EQUALS = "aksara_signals.equals"
"""The key in the ``info`` of a class manager, so that both have the same lifetime."""


def _equals_of(state: State) -> dict[str, Equal]:
    """The column attributes of a class, each with what compares its values for SQLAlchemy."""
    manager = state.manager
    columns = manager.mapper.column_attrs  # another object whenever columns have been added
    known = manager.info.get(_EQUALS)
    if known is None or known[0] is not columns:
        # Not all can change: a discriminator that is SQL has no attribute, and one that a concrete
        # subclass has not taken over can't be set.
        impls = {key: getattr(manager.get(key), "impl", None) for key in columns.keys()}  # noqa: SIM118
        found = {key: _equal(each) for key, each in impls.items() if hasattr(each, "is_equal")}
        known = manager.info[_EQUALS] = columns, found
    equals: dict[str, Equal] = known[1]
    return equals


def _equal(impl: Any) -> Equal:
    equal: Equal = impl.is_equal
    is_default = getattr(equal, "__func__", None) is TypeEngine.compare_values
    return eq if is_default else equal


def expressions(state: State) -> dict[str, Any]:
    """The attributes of an updated row that hold SQL, each with its old value."""
    return {key: old for key, old in changed_columns(state) if is_expression(state.dict[key])}


def expressions_of_new(state: State) -> dict[str, Any]:
    """The attributes of a new row that hold SQL, each with None as its old value."""
    columns = state.mapper.column_attrs
    return {
        key: None for key, value in state.dict.items() if is_expression(value) and key in columns
    }


Edit = tuple[str, Any, Any]
"""A changed column attribute with its new and its old value."""


def first_edit(state: State, values: Mapping[str, Any]) -> Edit | None:
    """One column that an UPDATE would write, by the rules of :func:`changed_columns`.

    Args:
        state: The state of an instance.
        values: Its dict.
    """
    equals = _equals_of(state)
    for key, old in (*state.committed_state.items(),):
        if key in equals and key in values:
            new = values[key]
            if type(new) not in LITERALS and is_expression(new):
                return key, new, old
            if type(old) not in LITERALS and is_unknown(old):
                return key, new, old
            if equals[key](new, old) is not True:
                return key, new, old
    return None


def is_still_edited(state: State, values: Mapping[str, Any], edit: Edit) -> bool:
    """Whether nothing has happened since to an edit, as far as can be seen at a glance."""
    key, new, old = edit
    return (
        state.committed_state.get(key) is old
        and values.get(key) is new
        and type(new) in LITERALS  # another one may have been changed in place
    )


def is_expression(value: Any) -> bool:
    """Whether a value is SQL that the database will compute, such as ``Post.views + 1``."""
    return type(value) not in LITERALS and (
        isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")
    )


def is_same(manager: Any, key: str, old: Any, new: Any) -> bool:
    """Whether two values of a column attribute are equal, as SQLAlchemy compares them."""
    impl: Any = manager[key].impl
    return not is_expression(new) and impl.is_equal(new, old) is True


LITERALS = frozenset(
    (NoneType, str, int, float, bool, bytes, Decimal, UUID, date, time, datetime, timedelta)
)
"""Types of most values: one of these, not of a subclass, is never SQL and can't change in place."""


def old_value(state: State, key: str) -> Any:
    """The value of a column before its pending change; check it with :func:`is_unknown`."""
    if key in state.committed_state:
        return state.committed_state[key]
    if key in state.dict or not is_unloaded(state, key):
        return state.dict.get(key)
    primary = state.mapper.primary_key
    column = state.mapper.column_attrs[key].columns[0]
    return state.key[1][primary.index(column)] if state.key and column in primary else NO_VALUE


def old_value_is(state: State, key: str, value: Any) -> bool:
    """Whether a column had a value before its pending change, as far as is known."""
    old = state.committed_state.get(key, state.dict.get(key, value))
    return is_unknown(old) or old == value


def is_unknown(value: Any) -> bool:
    """Whether an old value is one of SQLAlchemy's symbols for "not known"."""
    return isinstance(value, LoaderCallableStatus)

"""Columns of instances that are not in memory, and loading them for many instances at once.

Async receivers can't load an expired or deferred column by reading it, and the copies for deferred
receivers have to hold it. Loading it instance by instance would cost a SELECT each. So it is loaded
in advance, by one SELECT for each class, in the way in which SQLAlchemy refreshes one instance: it
must overwrite no pending value, hide no row and run no eager loading.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Column, ColumnElement, select, tuple_
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import MANYTOONE, ColumnProperty, Mapper, Query, Session
from sqlalchemy.orm.exc import ObjectDeletedError

from aksara_signals.orm.bridge.states import State

MAX_KEYS = 500
"""The most keys in one statement. Every SQLite takes at least 999 parameters."""

_keys: weakref.WeakKeyDictionary[Mapper[Any], tuple[str, ...]] = weakref.WeakKeyDictionary()


def _default_keys(mapper: Mapper[Any]) -> tuple[str, ...]:
    """The column attributes that a query loads by default, without SQL expressions."""
    found = _keys.get(mapper)
    if found is None:
        found = _keys[mapper] = tuple(
            prop.key
            for prop in mapper.column_attrs
            if not prop.deferred and isinstance(prop.columns[0], Column)
        )
    return found


def _has_expressions(mapper: Mapper[Any]) -> bool:
    """Whether reading an expired attribute computes SQL expressions as well."""
    return any(
        not prop.deferred and not isinstance(prop.columns[0], Column)
        for prop in mapper.column_attrs
    )


def is_unloaded(state: State, key: str) -> bool:
    """Whether a column attribute that has no value would be loaded when it is read.

    A column that an INSERT has left out isn't loaded: its value is None.
    """
    return (
        key in state.expired_attributes
        or key in state.callables
        or state.mapper.column_attrs[key].deferred
    )


def _missing_keys(state: State) -> list[str]:
    """The default columns that reading would load, without those that ``raiseload`` forbids."""
    expired, callables = state.expired_attributes, state.callables
    if not expired and not callables:
        return []
    values, committed = state.dict, state.committed_state
    return [
        key
        for key in _default_keys(state.mapper)
        if key not in values
        and key not in committed
        and (key in expired or key in callables)
        and not _is_refused(state, key)
    ]


def _is_refused(state: State, key: str) -> bool:
    return bool(getattr(state.callables.get(key), "raiseload", False))


def load_columns(session: Session, states: Iterable[State]) -> None:
    """Load the columns that are not in memory, by one SELECT for each class.

    These are the columns that have expired, or that ``load_only()`` or ``defer()`` has left out.
    Columns stay unloaded that are deferred by the mapping, that ``raiseload`` forbids or that are
    SQL expressions. So do those of an instance without a row, which is no error. Pending values
    stay.

    Needs a greenlet under async. Nothing is flushed.

    Args:
        session: The session to read in; instances of other sessions are ignored.
        states: The instances, of any classes.
    """
    groups: dict[Any, dict[State, list[str]]] = {}
    for state in states:
        keys = _missing_keys(state)
        if keys and state.persistent and state.session is session:
            refused = frozenset(key for key in state.callables if _is_refused(state, key))
            group = state.mapper, state.identity_token, refused
            groups.setdefault(group, {})[state] = keys
    if not groups:
        return
    with session.no_autoflush:
        for (mapper, token, _), members in groups.items():
            found = list(members)
            union = {key for each in members.values() for key in each}
            for start in range(0, len(found), MAX_KEYS):
                _select(session, mapper, token, union, found[start : start + MAX_KEYS])
            for state in found:
                _load_singly(session, state)


def _select(
    session: Session, mapper: Mapper[Any], token: Any, keys: set[str], states: Sequence[State]
) -> None:
    identities = [state.key[1] for state in states if state.key is not None]
    # An ordinary SELECT would load eagerly, and the application's with_loader_criteria() may hide
    # rows that a flush writes nevertheless. So this one has the compile options of a refresh. They
    # load the named columns only; the key and the discriminator have to be named, too, because a
    # row finds its instance by them.
    statement: Any = select(mapper).where(key_is_in(key_attributes(mapper), identities))
    names = {mapper.get_property_by_column(column).key for column in mapper.primary_key}
    names |= {
        prop.key
        for prop in mapper.iterate_properties
        if isinstance(prop, ColumnProperty)
        and (prop.columns[0] is mapper.polymorphic_on or prop.key == "_sa_polymorphic_on")
    }
    statement._compile_options = Query._compile_options + {
        "_for_refresh_state": True,
        "_only_load_props": frozenset(keys | names),
    }
    options = {} if token is None else {"identity_token": token}
    session.scalars(statement, execution_options=options).all()


def key_attributes(mapper: Mapper[Any]) -> list[Any]:
    """The attributes of the primary key, for the WHERE clause of a SELECT of the class.

    The columns of the table won't do: with concrete inheritance, the SELECT reads from a union.
    """
    names = (mapper.get_property_by_column(column).key for column in mapper.primary_key)
    return [getattr(mapper.class_, name) for name in names]


def key_is_in(key: Iterable[Any], identities: Sequence[tuple[Any, ...]]) -> ColumnElement[bool]:
    """Whether a row has one of these primary keys.

    Args:
        key: The columns, or their attributes.
        identities: The keys.
    """
    first, *others = key
    if others:
        return tuple_(first, *others).in_(identities)
    found: ColumnElement[bool] = first.in_([identity[0] for identity in identities])
    return found


def _load_singly(session: Session, state: State) -> None:
    """Load what the SELECT for many hasn't loaded: the database may spell a key differently."""
    keys = _missing_keys(state)
    if keys:
        # The row may be gone. If that matters, the write will fail.
        with suppress(InvalidRequestError):
            session.refresh(state.obj(), keys)


def attribute_name(mapper: Mapper[Any], column: Any) -> str:
    """The attribute of instances for a column that a relationship joins by.

    A concrete subclass has a table of its own, so it has no attribute for a column of its base
    class. A relationship to the base class means the attribute of the same name then.
    """
    owners = (each for each in mapper.iterate_to_root() if column in each._columntoproperty)
    return next(owners, mapper)._columntoproperty[column].key


def is_known(state: State, column: Any) -> bool:
    """Whether the value of a column is in memory; that of a row's primary key always is."""
    key = attribute_name(state.mapper, column)
    return key in state.dict or (state.key is not None and column in state.mapper.primary_key)


def load_before_deletion(session: Session, states: Sequence[State]) -> None:
    """Load the columns of rows that are about to be deleted, as :func:`load_columns` does.

    A connected receiver must not add a statement to a flush. The flush itself loads an expired
    object with a many-to-one relationship, one object at a time, and possibly the target with it.
    A SELECT for all of them would come on top of these. So such an object is loaded here in the
    same way, by reading an attribute. A single object is, too, unless that computes SQL
    expressions.

    Args:
        session: The session to read in.
        states: The instances, all of one class.
    """
    others: list[State] = []
    is_alone = len(states) == 1
    for state in states:
        mapper = state.mapper
        keys = _missing_keys(state) if state.expired else []
        if keys and (
            any(each.direction is MANYTOONE for each in mapper.relationships)
            or (is_alone and not _has_expressions(mapper))
        ):
            with session.no_autoflush, suppress(ObjectDeletedError):
                getattr(state.obj(), keys[0])  # loads all expired columns
        else:
            others.append(state)
    load_columns(session, others)


def column_value(state: State, column: Any) -> Any:
    """The value of a column of an instance, loaded if it isn't in memory; None without a value.

    The primary key of a row is known without loading.
    """
    mapper = state.mapper
    key = attribute_name(mapper, column)
    if key in state.dict:
        return state.dict[key]
    if state.key is not None and column in mapper.primary_key:
        return state.key[1][mapper.primary_key.index(column)]
    session: Any = state.session  # None of a detached instance: load_columns() skips it
    load_columns(session, [state])
    return state.dict.get(key)


def column_values(state: State, columns: Iterable[Any]) -> tuple[Any, ...]:
    """The values of several columns, as :func:`column_value` gives them."""
    return tuple(column_value(state, column) for column in columns)


def expire_unset(state: State) -> None:
    """Expire the columns that a new instance was never given.

    SQLAlchemy has written the instance by an UPDATE of an existing row, which has values there.
    """
    values = state.dict
    unset = [key for key in _default_keys(state.mapper) if key not in values]
    state._expire_attributes(values, unset)

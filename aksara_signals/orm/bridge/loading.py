"""Columns of instances that are not in memory, and loading them for many at once."""

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
"""The most keys of one statement: SQLite takes 999 parameters at the least."""

_keys: weakref.WeakKeyDictionary[Mapper[Any], tuple[str, ...]] = weakref.WeakKeyDictionary()


def _default_keys(mapper: Mapper[Any]) -> tuple[str, ...]:
    """The attributes that a query loads unless it is told otherwise, without SQL expressions."""
    found = _keys.get(mapper)
    if found is None:
        found = _keys[mapper] = tuple(
            prop.key
            for prop in mapper.column_attrs
            if not prop.deferred and isinstance(prop.columns[0], Column)
        )
    return found


def _has_expressions(mapper: Mapper[Any]) -> bool:
    """Whether reading an expired attribute works out SQL expressions besides."""
    return any(
        not prop.deferred and not isinstance(prop.columns[0], Column)
        for prop in mapper.column_attrs
    )


def is_unloaded(state: State, key: str) -> bool:
    """Whether a column attribute that has no value would be loaded when it is read.

    What an INSERT has left out isn't: its value is None.
    """
    return (
        key in state.expired_attributes
        or key in state.callables
        or state.mapper.column_attrs[key].deferred
    )


def _missing(state: State) -> list[str]:
    """The default columns that reading would load, but for those that ``raiseload`` refuses."""
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

    Those are the columns that have expired, or that ``load_only()`` or ``defer()`` have left out.
    Columns that are deferred by the mapping, that ``raiseload`` refuses or that are SQL expressions
    stay unloaded, and so does what has no row: nothing fails for that. Pending values stay.

    Needs a greenlet under async. Nothing is flushed.

    Args:
        session: Whose transaction is read in; instances of other sessions are passed over.
        states: Of any classes.
    """
    groups: dict[Any, dict[State, list[str]]] = {}
    for state in states:
        keys = _missing(state)
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
    statement: Any = select(mapper).where(key_is_in(key_attributes(mapper), identities))
    # As a refresh does it: no eager loading, no criteria of the application, which may hide rows
    # that it writes all the same. A row finds its instance by key and discriminator.
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
    """The primary key as attributes, which stand for what a SELECT of the class reads from.

    That may be another selectable than the table: a union of tables, in concrete inheritance.
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
    """What the SELECT for many didn't bring: the database may spell a key in another way."""
    keys = _missing(state)
    if keys:
        # The row may be gone. Whether that matters is for the write to say.
        with suppress(InvalidRequestError):
            session.refresh(state.obj(), keys)


def attribute_name(mapper: Mapper[Any], column: Any) -> str:
    """The name under which instances have a column that a relationship is made of.

    A concrete subclass has a table of its own. Where a relationship leads to its base class, the
    attribute of the same name is what is meant.
    """
    owners = (each for each in mapper.iterate_to_root() if column in each._columntoproperty)
    return next(owners, mapper)._columntoproperty[column].key


def is_known(state: State, column: Any) -> bool:
    """Whether the value of a column is in memory, as that of a row's key always is."""
    key = attribute_name(state.mapper, column)
    return key in state.dict or (state.key is not None and column in state.mapper.primary_key)


def load_before_deletion(session: Session, states: Sequence[State]) -> None:
    """Load the columns of rows that are about to be deleted, as :func:`load_columns` does.

    An expired object with a reference is loaded by the flush itself, one by one, and so may be the
    one that it refers to. It is loaded in the same way here, so that listening adds no statement,
    and no SQL expression to one.

    Args:
        session: Whose transaction is read in.
        states: Of one class.
    """
    others: list[State] = []
    is_alone = len(states) == 1
    for state in states:
        mapper = state.mapper
        keys = _missing(state) if state.expired else []
        if keys and (
            any(each.direction is MANYTOONE for each in mapper.relationships)
            or (is_alone and not _has_expressions(mapper))
        ):
            with session.no_autoflush, suppress(ObjectDeletedError):
                getattr(state.obj(), keys[0])  # which loads all that has expired
        else:
            others.append(state)
    load_columns(session, others)


def column_value(state: State, column: Any) -> Any:
    """The value of a column as an instance has it, loaded if that can't be avoided.

    The key of a row is known without a look at the database. None if there is no value.
    """
    mapper = state.mapper
    key = attribute_name(mapper, column)
    if key in state.dict:
        return state.dict[key]
    if state.key is not None and column in mapper.primary_key:
        return state.key[1][mapper.primary_key.index(column)]
    session: Any = state.session  # where there is none, nothing can be loaded
    load_columns(session, [state])
    return state.dict.get(key)


def expire_unset(state: State) -> None:
    """Have the columns that an instance was never given loaded when they are read.

    For a new instance that SQLAlchemy has written by an UPDATE of a row which was there.
    """
    values = state.dict
    unset = [key for key in _default_keys(state.mapper) if key not in values]
    state._expire_attributes(values, unset)

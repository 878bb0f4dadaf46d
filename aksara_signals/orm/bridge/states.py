"""The states of instances: their keys, their parents, and detached copies."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any

from sqlalchemy.orm import (
    InstanceState,
    Mapper,
    RelationshipProperty,
    Session,
    strategies,
)
from sqlalchemy.orm.attributes import instance_dict, instance_state

from aksara_signals.dispatch.receivers.identity import type_name
from aksara_signals.dispatch.receivers.naming import safe_str

_strategies: Any = strategies
_LoadDeferred: Any = (
    _strategies._LoadDeferredColumns
    if hasattr(strategies, "_LoadDeferredColumns")
    else _strategies.LoadDeferredColumns  # SQLAlchemy 2.0
)

State = InstanceState[Any]
"""SQLAlchemy's record of one instance."""


def state_of(value: Any) -> State | None:
    """The state of an instance of a mapped class; None for anything else."""
    try:  # bypasses __getattr__ of the user's classes: any value may come here
        state = object.__getattribute__(value, "_sa_instance_state")
    except AttributeError:
        return None
    return state if isinstance(state, InstanceState) else None


def unmapped_among(values: list[Any]) -> list[Any]:
    """The values that are not instances of mapped classes, as :func:`state_of` judges them.

    Nearly always there are none, and thousands of values: then this takes a third of the time of as
    many calls.
    """
    read = object.__getattribute__
    try:
        kinds = {type(read(each, "_sa_instance_state")) for each in values}
    except AttributeError:
        pass
    else:
        if kinds <= {InstanceState}:
            return []
    return [each for each in values if state_of(each) is None]


def session_of(instance: Any) -> Session | None:
    """The session of an instance; None if it isn't mapped or is in no session."""
    state = state_of(instance)
    return None if state is None else state.session


def detached_copy(
    manager: Any,
    key: Any,
    values: Mapping[str, Any] | Iterable[tuple[str, Any]],
    missing: Iterable[str],
) -> object:
    """An instance that was never in a session, as if it had been loaded and then detached.

    As when an instance is loaded, the constructor is not called. The class's ``@reconstructor`` is,
    and so are the listeners to its ``load`` event, including those of ``sqlalchemy.ext.mutable``.
    They get no query context, as with ``Session.merge()``.

    Args:
        manager: The class manager.
        key: The identity key, or None.
        values: The values of the columns that the copy has, by name or as pairs.
        missing: The columns that it hasn't. Reading one raises ``DetachedInstanceError``, which
            names it.

    Raises:
        Exception: Whatever a ``@reconstructor`` or a listener raises.
    """
    instance: object = manager.new_instance()
    state = instance_state(instance)
    instance_dict(instance).update(values)
    if key is not None:
        state.key = key
        if key[2] is not None:
            state.identity_token = key[2]
        if missing:
            defer_columns(state, missing)
    if manager.dispatch.load:
        manager.dispatch.load(state, None)
    return instance


def includes(members: Iterable[object], instance: object) -> bool:
    """Whether an instance is among these members, by identity: it may define ``__eq__``."""
    return any(each is instance for each in members)


def defer_columns(state: State, keys: Iterable[str]) -> None:
    """Defer columns: reading one loads it, or raises an error that names it."""
    for key in keys:
        if "callables" not in state.__dict__:
            state.callables = {}
        state.callables[key] = _LoadDeferred(key)


def key_values(mapper: Mapper[Any], key: Any) -> dict[str, Any]:
    """The column attributes of an identity key, with their values."""
    return {
        mapper.get_property_by_column(column).key: value
        for column, value in zip(mapper.primary_key, key[1], strict=True)
    }


def has_pending_key(state: State) -> bool:
    """Whether an instance has another primary key than its row."""
    pending = state.committed_state
    if not pending:
        return False
    mapper = state.mapper
    return any(mapper.get_property_by_column(each).key in pending for each in mapper.primary_key)


_class_of = attrgetter("class_")


def in_order(states: Iterable[State]) -> list[State]:
    """The states in a fixed order: by class, then by primary key."""
    states = list(states)
    classes = {*map(_class_of, states)}
    if len(classes) == 1:
        return _in_order_of_keys(states)
    by_class: dict[type, list[State]] = {cls: [] for cls in classes}
    for state in states:
        by_class[state.class_].append(state)
    ordered: list[State] = []
    for cls in sorted(by_class, key=attrgetter("__module__", "__qualname__")):
        ordered += _in_order_of_keys(by_class[cls])
    return ordered


def _in_order_of_keys(states: list[State]) -> list[State]:
    numbers = [state.key[1][0] for state in states if state.key and len(state.key[1]) == 1]
    if len(numbers) < len(states) or {*map(type, numbers)} != {int}:
        return sorted(states, key=sort_key)
    places = sorted(range(len(states)), key=numbers.__getitem__)
    return [states[place] for place in places]


def sort_key(state: State) -> tuple[str, str, tuple[Any, ...]]:
    """A fixed order of instances: by class, then by primary key."""
    cls = state.class_
    # Keys may be of any type. Numbers are sorted as numbers, everything else as text.
    key = tuple(
        (0, value, "") if isinstance(value, (int, float)) else (1, 0, str(value))
        for value in state.identity or ()
    )
    return cls.__module__, cls.__qualname__, key


def is_orphan(state: State) -> bool:
    """Whether an instance is known to lack a parent along a delete-orphan relationship."""
    return bool(state.mapper._is_orphan(state))


def is_dropped(state: State) -> bool:
    """Whether a flush expunges a new instance as an orphan instead of inserting it."""
    return not state.has_identity and state._orphaned_outside_of_session and is_orphan(state)


def is_written_by(end: State, session: Session) -> bool:
    """Whether a flush writes links of this end; SQLAlchemy warns of those that it doesn't write."""
    return end.session_id == session.hash_key and not (
        # Nearly always neither is set, and this is asked for each link.
        (end._deleted or end._orphaned_outside_of_session) and (end.deleted or is_dropped(end))
    )


def has_parent(prop: RelationshipProperty[Any], child: State) -> bool:
    """Whether a child still has a parent along a relationship."""
    impl: Any = getattr(prop.class_attribute, "impl")  # noqa: B009 - not in the public type
    return bool(impl.hasparent(child))


def has_delete_orphans(mapper: Mapper[Any]) -> bool:
    """Whether instances of a mapper can be orphans."""
    return any(each._delete_orphans for each in mapper.iterate_to_root())


def identity_of(instance: object) -> str | None:
    """The primary key of an instance as text; None if it isn't mapped or has no row yet."""
    state = state_of(instance)
    if state is None or state.identity is None:
        return None
    return ", ".join(safe_str(value) for value in state.identity)


def describe(instance: object) -> str:
    """Class and primary key of an instance; never any other column."""
    return f"{type_name(instance)} {identity_of(instance) or '(new)'}"

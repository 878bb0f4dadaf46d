"""What has been changed about an instance and not written yet.

SQLAlchemy's public ``history`` is not enough: it is empty for the unloaded side of a backref, and
reading it may load. So private state is read here, mostly ``committed_state``: the attributes that
have pending changes, with their values before.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import (
    Mapper,
    RelationshipProperty,
    Session,
)
from sqlalchemy.orm.attributes import History, get_history, instance_state
from sqlalchemy.orm.base import (
    INCLUDE_PENDING_MUTATIONS,
    LOAD_AGAINST_COMMITTED,
    NO_VALUE,
    LoaderCallableStatus,
    PassiveFlag,
)
from sqlalchemy.sql import ClauseElement

from aksara_signals.orm.bridge.loading import is_unloaded
from aksara_signals.orm.bridge.states import State

_NET = PassiveFlag.PASSIVE_NO_INITIALIZE | INCLUDE_PENDING_MUTATIONS
# The way in which a flush loads. By the committed key: a collection that is loaded by a key which
# is about to change would be empty, and the flush would take it for that. And in spite of
# lazy="raise".
_LOADED = (
    PassiveFlag.PASSIVE_OFF
    | LOAD_AGAINST_COMMITTED
    | INCLUDE_PENDING_MUTATIONS
    | PassiveFlag.NO_RAISE
)


def net_history(state: State, key: str, *, load: bool = False) -> History:
    """The net change of a relationship, also of a collection that isn't loaded.

    Args:
        state: The state of the instance that has the relationship.
        key: The relationship's name.
        load: Whether to load the relationship first; needs a greenlet under async.

    Returns:
        The history without added objects of a wrong class. The flush refuses them with an error of
        its own, and they may not have the columns that a link is made of.
    """
    history = get_history(state.obj(), key, _LOADED if load else _NET)
    target = state.mapper.relationships[key].mapper
    added = history.added or ()
    if all(_is_a(each, target) for each in added):
        return history
    fitting = [each for each in added if _is_a(each, target)]
    return History(fitting, history.unchanged, history.deleted)


def _is_a(instance: object, mapper: Mapper[Any]) -> bool:
    return instance is None or instance_state(instance).mapper.isa(mapper)


def has_net_change(state: State, key: str) -> bool:
    """Whether a relationship has a net change, as far as is known without a query."""
    if not is_edited(state, key):
        return False
    history = net_history(state, key)
    return bool(history.added or history.deleted)


def pin_old_value(state: State, key: str) -> None:
    """Store the old target of a relationship to one object, if it wasn't loaded.

    SQLAlchemy loads it whenever history is requested. After the flush it would load the new target.
    """
    if state.committed_state.get(key) is LoaderCallableStatus.PASSIVE_NO_RESULT:
        history = net_history(state, key)
        old = history.deleted[0] if history.deleted else None
        state.committed_state[key] = history.unchanged[0] if history.unchanged else old


def is_edited(state: State, key: str) -> bool:
    """Whether an attribute has been changed since it was last written or loaded."""
    return key in state.committed_state or key in state._pending_mutations


def changed_columns(state: State) -> Iterator[tuple[str, Any]]:
    """The column attributes that an UPDATE would write, each with its old value.

    The old value is ``NO_VALUE`` where it is not known. The rules are those by which SQLAlchemy
    collects the values of an UPDATE.
    """
    columns = state.mapper.column_attrs
    values = state.dict
    for key, old in list(state.committed_state.items()):
        if key in columns and key in values:
            new = values[key]
            impl: Any = state.manager[key].impl
            if is_expression(new) or is_unknown(old) or impl.is_equal(new, old) is not True:
                yield key, NO_VALUE if is_unknown(old) else old


def expressions(state: State) -> dict[str, Any]:
    """The attributes of an updated row that hold SQL, each with its old value."""
    return {key: old for key, old in changed_columns(state) if is_expression(state.dict[key])}


def expressions_of_new(state: State) -> dict[str, Any]:
    """The attributes of a new row that hold SQL, each with None as its old value."""
    columns = state.mapper.column_attrs
    return {
        key: None for key, value in state.dict.items() if is_expression(value) and key in columns
    }


def has_column_changes(state: State) -> bool:
    """Whether an UPDATE would write anything."""
    return next(changed_columns(state), None) is not None


def is_expression(value: Any) -> bool:
    """Whether a value is SQL that the database will compute, such as ``Post.views + 1``."""
    return type(value) not in _LITERALS and (
        isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")
    )


def is_same(manager: Any, key: str, old: Any, new: Any) -> bool:
    """Whether two values of a column attribute are equal, as SQLAlchemy compares them."""
    impl: Any = manager[key].impl
    return not is_expression(new) and impl.is_equal(new, old) is True


_LITERALS = frozenset((str, int, float, bool, bytes))
"""Types whose values are never SQL."""


def reverse_keys(prop: RelationshipProperty[Any]) -> list[str]:
    """The names of the relationships on the other side: backrefs, or by ``back_populates``."""
    return [reverse.key for reverse in prop._reverse_property]


def configured_relationships(cls: type) -> Iterator[RelationshipProperty[Any]]:
    """The relationships of a mapped class; none until its mapper has been configured."""
    mapper: Mapper[Any] = inspect(cls)
    if mapper.configured:
        yield from mapper.relationships


def following_references(mapper: Mapper[Any]) -> list[RelationshipProperty[Any]]:
    """The references to a class whose foreign keys a flush updates when a key of the class changes.

    These have ``passive_updates=False``, and no collection on the other side that would update the
    foreign keys itself.
    """
    return [
        processor.prop
        for processor in mapper._dependency_processors
        if type(processor).__name__.endswith("DetectKeySwitch")
        and not processor.passive_updates
        and all(reverse.passive_updates for reverse in processor.prop._reverse_property)
    ]


def referring_states(
    session: Session, prop: RelationshipProperty[Any], target: State
) -> Iterator[State]:
    """The states of a session whose reference leads to a target; references are loaded."""
    for state in session.identity_map.all_states():
        if issubclass(state.class_, prop.parent.class_):
            impl: Any = state.manager[prop.key].impl
            if impl.get(state, state.dict, PassiveFlag.PASSIVE_OFF) is target.obj():
                yield state


def was_declared_before(prop: RelationshipProperty[Any], other: RelationshipProperty[Any]) -> bool:
    """Whether a relationship was declared before another; a backref counts as the later one."""
    return bool(prop._creation_order < other._creation_order)


def is_initiated_here(target: object, key: str, initiator: Any) -> bool:
    """Whether a change of a relationship was made on this side and not on the other one."""
    impl: Any = instance_state(target).manager[key].impl
    return initiator is not None and initiator.parent_token is impl.parent_token


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


def pending_members(state: State, key: str) -> tuple[Any, Any] | None:
    """The pending additions and removals of a collection that isn't loaded; None if it is."""
    pending = state._pending_mutations.get(key)
    return None if pending is None else (pending.added_items, pending.deleted_items)


def add_pending(state: State, key: str, member: object) -> None:
    """Note an addition to a collection that isn't loaded, as its own events would.

    Each flush of the owner drops these notes, whatever it has written.
    """
    state._get_pending_mutation(key).append(member)


def remove_pending(state: State, key: str, member: object) -> None:
    """Note a removal from a collection that isn't loaded."""
    state._get_pending_mutation(key).remove(member)


def original_members(state: State, key: str) -> list[Any] | None:
    """The original members of a changed and loaded collection; the list may be modified."""
    members: Any = state.committed_state.get(key)
    return members if isinstance(members, list) else None


def hide_scalar(state: State, key: str) -> Callable[[], None]:
    """Remove the history of a relationship to one object; call what is returned to restore it."""
    committed = state.committed_state
    old = {key: committed.pop(key)} if key in committed else {}
    return lambda: state.committed_state.update(old)


def has_members(state: State, key: str) -> bool:
    """Whether a relationship of a new instance has any member."""
    if not (key in state.dict or is_edited(state, key)):
        return False
    return any(each is not None for each in net_history(state, key).added or ())


def is_unknown(value: Any) -> bool:
    """Whether an old value is one of SQLAlchemy's symbols for "not known"."""
    return isinstance(value, LoaderCallableStatus)

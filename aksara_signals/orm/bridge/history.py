"""Which relationships of an instance have been changed and not written yet.

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
from sqlalchemy.orm.attributes import History, instance_state
from sqlalchemy.orm.base import (
    INCLUDE_PENDING_MUTATIONS,
    LOAD_AGAINST_COMMITTED,
    LoaderCallableStatus,
    PassiveFlag,
)
from sqlalchemy.orm.collections import collection_adapter

from aksara_signals.orm.bridge.states import State

_END = object()
"""Stands between two lists of members."""
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
    pending = state._pending_mutations.get(key)
    if (
        pending is not None
        and not load
        and key not in state.dict
        and key not in state.committed_state
    ):
        # The same as below, in a quarter of the time: each new member of a two-way relationship
        # has a collection of its own that isn't loaded.
        history = History([*pending.added_items], (), [*pending.deleted_items])
    else:
        history = state.get_history(key, _LOADED if load else _NET)
    added = history.added
    if not added:
        return history
    target = state.mapper.relationships[key].mapper
    if {*map(type, added)} == {target.class_}:
        return history
    classes = {type(each): each for each in added}
    unfit = {cls for cls, each in classes.items() if not _is_a(each, target)}
    if not unfit:
        return history
    fitting = [each for each in added if type(each) not in unfit]
    return History(fitting, history.unchanged, history.deleted)


def _is_a(instance: object, mapper: Mapper[Any]) -> bool:
    return instance is None or instance_state(instance).mapper.isa(mapper)


def collection_edits(state: State, key: str, found: list[Any]) -> None:
    """Append what the net change of a collection depends on to a list, object by object."""
    pending = state._pending_mutations.get(key)
    if pending is not None:
        found += (pending, *pending.added_items, _END, *pending.deleted_items)
    collection = state.dict.get(key)
    if collection is not None:
        original: Any = state.committed_state.get(key)
        found += (collection, *collection_adapter(collection), _END)
        if isinstance(original, list):
            found += original
        else:
            found.append(original)


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


def edited_of(state: State, props: list[RelationshipProperty[Any]]) -> list[Any]:
    """Those of several relationships that :func:`is_edited` is true for."""
    committed, pending = state.committed_state, state._pending_mutations
    return [prop for prop in props if prop.key in committed or prop.key in pending]


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

"""What about the relationships of a mapper matters at each flush; worked out once."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from sqlalchemy.orm import Mapper, RelationshipDirection, RelationshipProperty

from aksara_signals.orm.bridge.history import is_touched, net_history, reverse_keys
from aksara_signals.orm.bridge.states import has_delete_orphans, state_of

__all__ = ["flushed_with", "traits_of"]

Relationship = RelationshipProperty[Any]


class Traits:
    """The relationships of a mapper that are written, by what they do to rows and links."""

    __slots__ = ("has_orphans", "is_linked", "many_to_one", "owned", "parents", "to_children")

    def __init__(self, mapper: Mapper[Any]) -> None:
        writable = [each for each in mapper.relationships if not each.viewonly]
        self.has_orphans: bool = has_delete_orphans(mapper)
        self.many_to_one: list[Relationship] = [
            each for each in writable if each.direction is RelationshipDirection.MANYTOONE
        ]
        self.owned: list[Relationship] = [
            each for each in writable if each.direction is not RelationshipDirection.MANYTOONE
        ]
        """Those by which an instance has members."""
        self.parents: list[tuple[Relationship, Relationship]] = [
            (each, reverse)
            for each in self.many_to_one
            for key in reverse_keys(each)
            if not (reverse := each.mapper.relationships[key]).viewonly
        ]
        """References, each with the relationship that an instance is a member of by it."""
        self.to_children: list[Relationship] = [
            each
            for each in writable
            if each.direction is RelationshipDirection.ONETOMANY or each.cascade.delete_orphan
        ]
        self.is_linked: bool = self.has_orphans or bool(self.to_children)
        """Whether an instance may decide about the rows of others, or others about its own."""


_traits: weakref.WeakKeyDictionary[Mapper[Any], Traits] = weakref.WeakKeyDictionary()


def traits_of(mapper: Mapper[Any]) -> Traits:
    """The traits of a mapper."""
    traits = _traits.get(mapper)
    if traits is None:
        traits = _traits[mapper] = Traits(mapper)
    return traits


def flushed_with(objects: Iterable[object]) -> set[int]:
    """What ``flush(objects)`` writes.

    Args:
        objects: What it was given.

    Returns:
        The addresses of the objects, and of those that they take along: what was added to their
        collections or taken out, and what was added to those in turn.
    """
    found = {id(each): each for each in objects}  # alive: held by the caller or by collections
    queue = [*found.values()]
    while queue:
        state = state_of(queue.pop())
        if state is None:
            continue
        for prop in traits_of(state.mapper).to_children:
            if prop.direction is not RelationshipDirection.ONETOMANY or not is_touched(
                state, prop.key
            ):
                continue
            history = net_history(state, prop.key)
            for child in (*(history.added or ()), *(history.deleted or ())):
                if id(child) not in found:
                    found[id(child)] = child
                    queue.append(child)
    return set(found)

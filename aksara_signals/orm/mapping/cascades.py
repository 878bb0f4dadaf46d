"""Which objects a flush that is restricted to some takes along."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.orm import RelationshipDirection

from aksara_signals.orm.bridge.history import is_edited, net_history
from aksara_signals.orm.bridge.states import state_of
from aksara_signals.orm.mapping.info import info_of


def flushed_with(objects: Iterable[object]) -> set[int]:
    """The objects that ``flush(objects)`` writes.

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
        for prop in info_of(state.mapper).to_children:
            if prop.direction is not RelationshipDirection.ONETOMANY or not is_edited(
                state, prop.key
            ):
                continue
            history = net_history(state, prop.key)
            for child in (*(history.added or ()), *(history.deleted or ())):
                if id(child) not in found:
                    found[id(child)] = child
                    queue.append(child)
    return set(found)

"""Which objects ``session.flush(objects)`` writes in addition to the given ones."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.orm import RelationshipDirection

from aksara_signals.orm.bridge.history import is_edited, net_history
from aksara_signals.orm.bridge.states import state_of
from aksara_signals.orm.mapping.info import info_of


def flushed_with(objects: Iterable[object]) -> set[int]:
    """The objects that ``flush(objects)`` writes.

    Args:
        objects: The objects that it was given.

    Returns:
        The ``id()`` of these objects, and of those that their cascades add: members that were added
        to their one-to-many collections or removed from them, and the same for the members.
    """
    found = {id(each): each for each in objects}  # alive: the caller or a collection holds them
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

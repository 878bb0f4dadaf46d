"""From which side of a two-way relationship a link was changed, and what was said with it.

History shows what has changed, and shows it on both sides alike. Which side the user has touched
is known to attribute events alone, so there are listeners on two-way many-to-many relationships,
from the moment on when somebody first listens to their signals.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Mapping
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import RelationshipDirection, RelationshipProperty
from sqlalchemy.orm.attributes import instance_state

from aksara_signals.dispatch.signal import SignalGroup
from aksara_signals.orm.bridge.history import (
    configured_relationships,
    is_initiated_here,
    is_unknown,
    reverse_keys,
)
from aksara_signals.orm.bridge.states import State
from aksara_signals.orm.mapping.registered import Upkeep, wired_classes
from aksara_signals.signals import (
    m2m_changed,
    post_relation_add,
    post_relation_remove,
    pre_relation_add,
    pre_relation_remove,
)

RELATIONS = SignalGroup(
    m2m_changed,
    pre_relation_add,
    post_relation_add,
    pre_relation_remove,
    post_relation_remove,
)
"""The signals about relationships."""

NOTHING_PASSED: Mapping[str, Any] = {}

_serial = itertools.count(1)


class Edits:
    """What was done to the relationships of one instance, by hand and since its last flush."""

    __slots__ = ("cleared", "members", "passed")

    def __init__(self) -> None:
        self.members: dict[tuple[str, int], tuple[int, object]] = {}
        """Relationship and address of a member: when it was touched, and the member, held here."""
        self.passed: dict[tuple[str, int], tuple[Mapping[str, Any], object]] = {}
        """The same, with the keyword arguments given to ``related(…)``'s methods."""
        self.cleared: set[str] = set()
        """Relationships that ``related(…).clear()`` is emptying."""

    def edited_at(self, key: str, member: object) -> int:
        """When a member was added or removed by hand; 0 if it wasn't."""
        return self.members.get((key, id(member)), (0, None))[0]

    def last_edited_at(self, key: str) -> int:
        """When any member of a relationship was added or removed by hand; 0 if none was."""
        return max(
            (when for (each, _), (when, _) in self.members.items() if each == key), default=0
        )

    def passed_args(self, key: str, member: object) -> dict[str, Any]:
        """The keyword arguments given with a member."""
        return dict(self.passed.get((key, id(member)), (NOTHING_PASSED, None))[0])


_edits: weakref.WeakKeyDictionary[State, Edits] = weakref.WeakKeyDictionary()
_attached: weakref.WeakSet[RelationshipProperty[Any]] = weakref.WeakSet()
"""Relationships that are listened to."""


def edits_of(state: State) -> Edits:
    """What is done to an instance's relationships, to be added to."""
    found = _edits.get(state)
    if found is None:
        found = _edits[state] = Edits()
    return found


def edits_or_none(state: State) -> Edits | None:
    """What was done to an instance's relationships, if anything."""
    return _edits.get(state)


def forget_edits(state: State) -> None:
    """Start anew: what was done has been sent."""
    _edits.pop(state, None)


@Upkeep
def attach_listeners() -> None:
    """Listen to every two-way many-to-many relationship of wired classes, once somebody listens.

    That stays so when nobody does any more: other threads may be changing collections, and
    SQLAlchemy can't bear that listeners come or go meanwhile. So connect before threads write.
    """
    RELATIONS.refresh()
    if not RELATIONS.is_connected:
        return
    for cls in wired_classes():
        for prop in configured_relationships(cls):
            if (
                prop not in _attached
                and prop.direction is RelationshipDirection.MANYTOMANY
                and reverse_keys(prop)
            ):
                _attached.add(prop)
                _attach(prop)


def _attach(prop: RelationshipProperty[Any]) -> None:
    key = prop.key

    def member_edited(target: object, member: object, initiator: Any) -> None:
        # The change comes from this attribute itself, and not from the other side of it.
        if RELATIONS.is_connected and is_initiated_here(target, key, initiator):
            _note_edit(target, key, member)

    def scalar_edited(target: object, value: object, old: object, initiator: Any) -> None:
        if RELATIONS.is_connected and is_initiated_here(target, key, initiator):
            for member in (value, old):
                if member is not None and not is_unknown(member):
                    _note_edit(target, key, member)

    if prop.uselist:
        event.listen(prop.class_attribute, "append", member_edited, propagate=True)
        event.listen(prop.class_attribute, "remove", member_edited, propagate=True)
    else:
        event.listen(prop.class_attribute, "set", scalar_edited, propagate=True)


def _note_edit(target: object, key: str, member: object) -> None:
    edits_of(instance_state(target)).members[key, id(member)] = next(_serial), member

"""Which side of a two-way relationship was edited, and which arguments were passed with it.

History looks the same on both sides of a change. Which side the user's code has edited is known to
attribute events only. So two-way many-to-many relationships get listeners to these events, as soon
as the first receiver is connected to a signal about relationships.
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
from aksara_signals.orm.bridge.column_edits import is_unknown
from aksara_signals.orm.bridge.history import (
    configured_relationships,
    is_initiated_here,
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
    """The edits of one instance's relationships on its own side, since its last flush."""

    __slots__ = ("cleared", "last", "members", "passed")

    def __init__(self) -> None:
        self.members: dict[tuple[str, int], tuple[int, object]] = {}
        """By relationship and ``id()`` of a member: a serial number of the edit, and the member."""
        self.last: dict[str, int] = {}
        """By relationship: the serial number of the last edit of any member.

        Every link of a flush asks for it; a search among the members would be quadratic.
        """
        self.passed: dict[tuple[str, int], tuple[Mapping[str, Any], object]] = {}
        """By the same: the keyword arguments given to ``related(…)``'s methods, and the member."""
        self.cleared: set[str] = set()
        """Relationships that ``related(…).clear()`` is emptying."""

    def edited_at(self, key: str, member: object) -> int:
        """The serial number of the last edit of a member; 0 if there is none."""
        return self.members.get((key, id(member)), (0, None))[0]

    def last_edited_at(self, key: str) -> int:
        """The serial number of the last edit of any member of a relationship; 0 without one."""
        return self.last.get(key, 0)

    def note(self, key: str, member: object) -> None:
        """Note that a member was added to a relationship, or removed from it."""
        self.last[key] = when = next(_serial)
        self.members[key, id(member)] = when, member

    def passed_args(self, key: str, member: object) -> dict[str, Any]:
        """The keyword arguments given with a member."""
        return dict(self.passed.get((key, id(member)), (NOTHING_PASSED, None))[0])


_edits: weakref.WeakKeyDictionary[State, Edits] = weakref.WeakKeyDictionary()
_attached: weakref.WeakSet[RelationshipProperty[Any]] = weakref.WeakSet()
"""Relationships that have listeners."""


def edits_of(state: State) -> Edits:
    """The edits of an instance's relationships, for callers to add to."""
    found = _edits.get(state)
    if found is None:
        found = _edits[state] = Edits()
    return found


def edits_or_none(state: State) -> Edits | None:
    """The edits of an instance's relationships, if there are any."""
    return _edits.get(state)


def forget_edits(state: State) -> None:
    """Drop the edits of an instance: signals have been sent for them."""
    _edits.pop(state, None)


@Upkeep
def attach_listeners() -> None:
    """Add listeners to every two-way many-to-many relationship of wired classes.

    This happens once the first receiver is connected to a signal about relationships. The listeners
    stay when the last one is disconnected: other threads may be changing collections, and adding or
    removing a listener meanwhile isn't safe in SQLAlchemy. So connect before other threads write.
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
        # A backref event comes from the other side; only an edit of this side counts.
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
    edits_of(instance_state(target)).note(key, member)

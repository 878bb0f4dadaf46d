"""What a flush does to relationships, told: ``m2m_changed`` and the four relation signals."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy.orm import RelationshipProperty, Session
from sqlalchemy.orm.attributes import instance_state

from aksara_signals.dispatch.connections.routing import Plan
from aksara_signals.dispatch.receivers.identity import SenderGroup
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm.bridge.history import reverse_keys
from aksara_signals.orm.bridge.loading import load_columns
from aksara_signals.orm.bridge.states import State
from aksara_signals.orm.relations.finder import LinkFinder
from aksara_signals.orm.relations.links import Link, grouped, is_forward, key_of
from aksara_signals.orm.relations.origins import forget, known_touches
from aksara_signals.orm.sending import Steps, keep, needs_columns, steps_of
from aksara_signals.orm.session.current import AnySession, user_session
from aksara_signals.signals import (
    m2m_changed,
    post_relation_add,
    post_relation_remove,
    pre_relation_add,
    pre_relation_remove,
)

__all__ = ["RelationshipRun"]

_GROUPS = "aksara_signals.groups"
"""Where a relationship keeps whom its m2m_changed is heard as, so that both go together."""

_SIGNALS: dict[tuple[str, bool], Signal] = {
    ("pre", True): pre_relation_add,
    ("post", True): post_relation_add,
    ("pre", False): pre_relation_remove,
    ("post", False): post_relation_remove,
}


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """Links of one owner and relationship that are made, or cut, together."""

    owner: object
    prop: RelationshipProperty[Any]
    action: str
    """add, remove or clear."""
    children: list[object]
    passed_args: list[dict[str, Any]]
    """What was given to ``related(…)``'s methods, for each child."""


class RelationshipRun:
    """The relationships of one flush.

    Args:
        session: That flushes.
        objects: What ``flush(objects)`` was restricted to, else None.
    """

    def __init__(self, session: Session, objects: Iterable[object] | None) -> None:
        self._session = session
        self._owner: AnySession = user_session(session)
        self._finder = LinkFinder(session, objects)
        self._seen: dict[Any, Link] = {}
        self._happened: list[Told] = []

    def fresh(self, deleted: Collection[State]) -> list[Told]:
        """What would be written now and hasn't been told yet."""
        found = [link for link in self._finder.find(deleted) if link.key not in self._seen]
        self._seen.update((link.key, link) for link in found)
        return [*_told(found)]

    def record(self, deleted: Collection[State]) -> int:
        """Note what was really written, while history still shows it.

        Returns:
            How many links of it were not foreseen.
        """
        self._finder.is_flushed = True
        links = [link for link in self._finder.find(deleted) if link.is_written(deleted)]
        self._happened = [*_told(links)]
        for instance in (*self._session.new, *self._session.dirty):
            forget(instance_state(instance))
        return sum(link.key not in self._seen for link in links)

    @property
    def has_happened(self) -> bool:
        """Whether any link was made or cut."""
        return bool(self._happened)

    def needed_states(self) -> list[State]:
        """Whose columns the post signals of what was recorded need: see ``load_columns``."""
        return _needed_states("post", self._happened)

    def load_for(self, told: Iterable[Told]) -> None:
        """Load the columns that the pre signals of links need."""
        load_columns(self._session, _needed_states("pre", told))

    def pre_steps(self, told: Iterable[Told]) -> Steps:
        """The pre signals of links."""
        for each in told:
            for one in self._sends("pre", each):
                yield from steps_of(*one.sent, heard_as=one.heard_as)

    def post_steps(self) -> Steps:
        """The post signals of what was recorded."""
        for each in self._happened:
            for one in self._sends("post", each):
                yield from steps_of(*one.sent, heard_as=one.heard_as)

    def keep(self) -> None:
        """Keep the post signals of what was recorded for receivers that wait."""
        for each in self._happened:
            for one in self._sends("post", each) if _is_waited_for(each) else ():
                keep(self._session, *one.sent, heard_as=one.heard_as)

    def _sends(self, when: str, told: Told) -> Iterator[Send]:
        payload = {"instance": told.owner, "session": self._owner}
        secondary = told.prop.secondary
        if secondary is not None:
            keys = (key_of(child) for child in told.children)
            yield Send(
                (
                    m2m_changed,
                    secondary,
                    {
                        **payload,
                        "action": f"{when}_{told.action}",
                        "reverse": not is_forward(told.prop),
                        "model": told.prop.mapper.class_,
                        "pk_set": frozenset(key for key in keys if key is not None),
                        "objects": list(told.children),
                    },
                ),
                _heard_as(told.prop, type(told.owner)),
            )
        signal = _SIGNALS[when, told.action == "add"]
        if not signal.plan_for(type(told.owner)):
            return
        for child, passed_args in zip(told.children, told.passed_args, strict=True):
            yield Send(
                (
                    signal,
                    type(told.owner),
                    {
                        **payload,
                        "child": child,
                        "relation_name": told.prop.key,
                        "passed_args": passed_args,
                    },
                )
            )


class Send(NamedTuple):
    """One signal about links."""

    sent: tuple[Signal, Any, dict[str, Any]]
    """Signal, sender and payload."""
    heard_as: SenderGroup | None = None
    """Whom receivers may have been connected to instead of the sender."""


def _needed_states(when: str, told: Iterable[Told]) -> list[State]:
    """Owners and members of links that are sent to async receivers, or to such as wait."""
    return [
        instance_state(instance)
        for each in told
        if any(map(needs_columns, _plans(when, each)))
        for instance in (each.owner, *each.children)
    ]


def _plans(when: str, told: Told) -> Iterator[Plan]:
    owner = type(told.owner)
    yield _SIGNALS[when, told.action == "add"].plan_for(owner)
    if told.prop.secondary is not None:
        yield m2m_changed.plan_for(_heard_as(told.prop, owner))


def _is_waited_for(told: Told) -> bool:
    """Whether any receiver waits for the outcome: else there is nothing to keep."""
    return any(plan.waiting for plan in _plans("post", told))


def _told(links: Iterable[Link]) -> Iterator[Told]:
    for first, members in grouped(links):
        made = known_touches(instance_state(first.owner))
        key = first.prop.key
        if first.is_added:
            action = "add"
        else:
            action = "clear" if made is not None and key in made.cleared else "remove"
        children = [link.child for link in members]
        passed = [{} if made is None else made.passed_args(key, child) for child in children]
        yield Told(first.owner, first.prop, action, children, passed)


def _heard_as(prop: RelationshipProperty[Any], owner: type) -> SenderGroup:
    """Whom receivers of a many-to-many relationship's signals may have named.

    The secondary table, the relationship of either side, or the class of either side.
    """
    groups: dict[type, SenderGroup] = prop.info.setdefault(_GROUPS, {})
    group = groups.get(owner)
    if group is None:
        reverse = [prop.mapper.relationships[key].class_attribute for key in reverse_keys(prop)]
        classes = [owner, prop.mapper.class_] if reverse else [owner]
        group = groups[owner] = SenderGroup(
            prop.secondary,
            prop.class_attribute,
            getattr(owner, prop.key),
            *reverse,
            *classes,
        )
    return group

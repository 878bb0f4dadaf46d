"""The signals about relationships that a flush sends."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy.orm import RelationshipProperty, Session
from sqlalchemy.orm.attributes import instance_state

from aksara_signals.dispatch.connections.routing import Plan
from aksara_signals.dispatch.receivers.identity import SenderGroup
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm.bridge.loading import load_columns
from aksara_signals.orm.bridge.states import State
from aksara_signals.orm.outcome.durable import DurableSend
from aksara_signals.orm.relations.finder import LinkFinder
from aksara_signals.orm.relations.links import Link, grouped, is_forward, pk_of
from aksara_signals.orm.relations.origins import edits_or_none, forget_edits
from aksara_signals.orm.relations.recipients import group_of
from aksara_signals.orm.sending import (
    Run,
    defer_signal,
    durable_send,
    needs_columns,
    runs_of_signal,
)
from aksara_signals.orm.session.current import AnySession, user_session
from aksara_signals.signals import (
    m2m_changed,
    post_relation_add,
    post_relation_remove,
    pre_relation_add,
    pre_relation_remove,
)

_SIGNALS: dict[tuple[str, bool], Signal] = {
    ("pre", True): pre_relation_add,
    ("post", True): post_relation_add,
    ("pre", False): pre_relation_remove,
    ("post", False): post_relation_remove,
}


@dataclass(frozen=True, slots=True, eq=False)
class LinkBatch:
    """Links of one owner and relationship that one flush makes, or cuts."""

    owner: object
    prop: RelationshipProperty[Any]
    action: str
    """add, remove or clear."""
    children: list[object]
    passed_args: list[dict[str, Any]]
    """For each child: the keyword arguments given to ``related(…)``'s methods."""


class RelationshipRun:
    """The links of one flush, and the signals about them.

    Args:
        session: The flushing session.
        objects: The objects that ``flush(objects)`` was restricted to, else None.
    """

    def __init__(self, session: Session, objects: Iterable[object] | None) -> None:
        self._session = session
        self._owner: AnySession = user_session(session)
        self._finder = LinkFinder(session, objects)
        self._seen: dict[Any, Link] = {}
        self._happened: list[LinkBatch] = []

    def fresh(self, deleted: Collection[State]) -> list[LinkBatch]:
        """The links that would be written now and haven't been sent yet."""
        found = [link for link in self._finder.find(deleted) if link.key not in self._seen]
        self._seen.update((link.key, link) for link in found)
        return [*_batches_of(found)]

    def record(self, deleted: Collection[State]) -> int:
        """Record the links that were really written, while history still shows them.

        Returns:
            The number of links among them that no pre signals were sent for.
        """
        found = self._finder.find(deleted, is_flushed=True)
        links = [link for link in found if link.is_written(deleted, self._finder.spellings)]
        self._happened = [*_batches_of(links)]
        for instance in (*self._session.new, *self._session.dirty):
            forget_edits(instance_state(instance))
        return sum(link.key not in self._seen and self._finder.was_searched(link) for link in links)

    @property
    def has_happened(self) -> bool:
        """Whether any link was made or cut."""
        return bool(self._happened)

    def needed_states(self) -> list[State]:
        """The instances whose columns the post signals need; see ``load_columns``."""
        return _needed_states("post", self._happened)

    def load_for(self, batches: Iterable[LinkBatch]) -> None:
        """Load the columns that the pre signals of links need."""
        load_columns(self._session, _needed_states("pre", batches))

    def has_pre_receivers(self, batches: Iterable[LinkBatch]) -> bool:
        """Whether the pre signals of links have any receivers."""
        return any(plan for batch in batches for plan in _plans("pre", batch))

    def pre_runs(self, batches: Iterable[LinkBatch]) -> Iterator[Run]:
        """The pre signals of links."""
        return self._runs("pre", batches)

    def post_runs(self) -> Iterator[Run]:
        """The post signals of the recorded links."""
        return self._runs("post", self._happened)

    def enqueue(self) -> None:
        """Queue the post signals of the recorded links for deferred receivers."""
        for batch in self._happened:
            if any(plan.deferred for plan in _plans("post", batch)):
                for signal, sender, payload, group in self._sends("post", batch):
                    defer_signal(self._session, signal, sender, payload, group=group)

    def durable_sends(self) -> Iterator[DurableSend]:
        """What the recorded links send to durable receivers."""
        for batch in self._happened:
            if any(plan.durable for plan in _plans("post", batch)):
                for signal, sender, payload, group in self._sends("post", batch):
                    yield from durable_send(signal, sender, payload, group=group)

    def _runs(self, when: str, batches: Iterable[LinkBatch]) -> Iterator[Run]:
        for batch in batches:
            for signal, sender, payload, group in self._sends(when, batch):
                yield from runs_of_signal(signal, sender, payload, group=group)

    def _sends(self, when: str, batch: LinkBatch) -> Iterator[Send]:
        payload = {"instance": batch.owner, "session": self._owner}
        secondary, cls = batch.prop.secondary, type(batch.owner)
        if secondary is not None:
            keys = (pk_of(child) for child in batch.children)
            about = {
                "action": f"{when}_{batch.action}",
                "reverse": not is_forward(batch.prop),
                "model": batch.prop.mapper.class_,
                "pk_set": frozenset(key for key in keys if key is not None),
                "objects": list(batch.children),
            }
            yield Send(m2m_changed, secondary, {**payload, **about}, group_of(batch.prop, cls))
        signal = _SIGNALS[when, batch.action == "add"]
        if not signal.plan_for(cls):
            return
        payload |= {"child": None, "relation_name": batch.prop.key}
        for child, passed_args in zip(batch.children, batch.passed_args, strict=True):
            yield Send(signal, cls, {**payload, "child": child, "passed_args": passed_args})


class Send(NamedTuple):
    """One signal about links."""

    signal: Signal
    sender: Any
    payload: dict[str, Any]
    group: SenderGroup | None = None
    """The senders that receivers may have been connected to instead of the sender."""


def _needed_states(when: str, batches: Iterable[LinkBatch]) -> list[State]:
    """The owners and members of links that async or deferred receivers are called for."""
    return [
        instance_state(instance)
        for batch in batches
        if any(map(needs_columns, _plans(when, batch)))
        for instance in (batch.owner, *batch.children)
    ]


def _plans(when: str, batch: LinkBatch) -> Iterator[Plan]:
    owner = type(batch.owner)
    yield _SIGNALS[when, batch.action == "add"].plan_for(owner)
    if batch.prop.secondary is not None:
        yield m2m_changed.plan_for(group_of(batch.prop, owner))


def _batches_of(links: Iterable[Link]) -> Iterator[LinkBatch]:
    for first, members in grouped(links):
        made = edits_or_none(instance_state(first.owner))
        key = first.prop.key
        if first.is_added:
            action = "add"
        else:
            action = "clear" if made is not None and key in made.cleared else "remove"
        children = [link.child for link in members]
        passed = [{} if made is None else made.passed_args(key, child) for child in children]
        yield LinkBatch(first.owner, first.prop, action, children, passed)

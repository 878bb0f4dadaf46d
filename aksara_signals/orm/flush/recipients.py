"""Which signals are sent for a change, and which receivers are called."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.connections.routing import NO_RECEIVERS, Plan, Segment
from aksara_signals.dispatch.context import get_active_contexts
from aksara_signals.dispatch.signal import Signal, SignalGroup
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.mapping.registered import is_wired
from aksara_signals.orm.sending import needs_columns
from aksara_signals.signals import (
    post_delete,
    post_save,
    post_update,
    pre_delete,
    pre_save,
    pre_update,
)

Moment = dict[Kind, tuple[Signal, ...]]
"""The signals that are sent for each kind of change before a flush or after it, in order."""

PRE: Moment = {
    Kind.CREATE: (pre_save,),
    Kind.UPDATE: (pre_save, pre_update),
    Kind.DELETE: (pre_delete,),
}
POST: Moment = {
    Kind.CREATE: (post_save,),
    Kind.UPDATE: (post_update, post_save),
    Kind.DELETE: (post_delete,),
}
STATEMENT: Moment = {**POST, Kind.UPSERT: (post_save,)}
"""The signals that are sent for each row of an ORM statement."""
LIFE_CYCLE = SignalGroup(pre_save, post_save, pre_update, post_update, pre_delete, post_delete)
"""The signals that a flush sends for rows."""


@dataclass(frozen=True, slots=True, eq=False)
class Recipients:
    """The receivers of one kind of change of one class, before or after the flush."""

    plans: list[tuple[Signal, Plan]]
    """The signals that have receivers, each with its plan."""
    runs: list[tuple[bool, list[tuple[Signal, Segment]]]]
    """The receivers that are called at once, in runs that are all async or all synchronous."""
    deferred: list[tuple[Signal, tuple[Connection, ...]]]
    """The connections of deferred receivers."""
    durable: list[tuple[Signal, tuple[Connection, ...]]]
    """The connections of durable receivers."""
    asks_for_changes: bool
    """Whether any receiver requests ``changes``, is narrowed to some, or is sent the net of them;
    False for a DELETE."""
    watched: frozenset[str]
    """The attributes whose changes decide which receivers are called."""
    needs_columns: bool
    """Whether any receiver is given columns that it can't load by reading them."""
    coalesces: bool
    """Whether any receiver of the class is sent the net of a row, silenced ones included.

    A delete that a context silences counts, too: the net of a row that was created and deleted in
    one transaction is nothing."""

    @property
    def is_simple(self) -> bool:
        """Whether receivers are called whatever has changed, not given what it was, nor durable."""
        return not (self.durable or self.watched or self.asks_for_changes)

    def repeated(self, signal: Signal) -> Mapping[Connection, object]:
        """The connections to a signal whose receiver has several, with a key in common."""
        return next((plan.repeated for each, plan in self.plans if each is signal), {})


class ClassRecipients:
    """The receivers of the life cycle of one class."""

    __slots__ = (
        "_by_signal",
        "_statement",
        "coalesces",
        "generation",
        "has_receivers",
        "inserts_simply",
        "post",
        "pre",
    )

    def __init__(self, plans: Iterable[Plan], generation: object, *, coalesces: bool) -> None:
        by_signal = self._by_signal = dict(zip(LIFE_CYCLE.signals, plans, strict=True))
        self._statement: dict[Kind, Recipients] | None = None
        self.has_receivers: bool = any(by_signal.values())
        self.coalesces: bool = coalesces
        self.generation: object = generation
        self.pre: dict[Kind, Recipients] = self._recipients(PRE, by_signal)
        self.post: dict[Kind, Recipients] = self._recipients(POST, by_signal)
        self.inserts_simply: bool = not coalesces and all(
            each.is_simple for each in (self.pre[Kind.CREATE], self.post[Kind.CREATE])
        )
        """Whether receivers of new rows are all called, now or after the outcome, with nothing but
        the instance."""

    def is_same(self, other: ClassRecipients) -> bool:
        """Whether the same receivers are called. In contexts, each look-up makes another object."""
        return self is other or (
            self._by_signal == other._by_signal and self.coalesces is other.coalesces
        )

    @property
    def statement(self) -> dict[Kind, Recipients]:
        """The receivers of the rows of ORM statements."""
        found = self._statement
        if found is None:
            by_signal = {signal: plan.of_statements for signal, plan in self._by_signal.items()}
            found = self._statement = self._recipients(STATEMENT, by_signal)
        return found

    def _recipients(self, moment: Moment, by_signal: dict[Signal, Plan]) -> dict[Kind, Recipients]:
        return {
            kind: self._of_kind(
                kind,
                [
                    (signal, plan)
                    for signal in signals
                    if (plan := by_signal[signal].of_rows(kind.created))
                ],
            )
            for kind, signals in moment.items()
        }

    def _of_kind(self, kind: Kind, plans: list[tuple[Signal, Plan]]) -> Recipients:
        runs: list[tuple[bool, list[tuple[Signal, Segment]]]] = []
        for signal, plan in plans:
            for segment in plan.segments:
                if runs and runs[-1][0] is segment.is_async:
                    runs[-1][1].append((signal, segment))
                else:
                    runs.append((segment.is_async, [(signal, segment)]))
        return Recipients(
            plans=plans,
            runs=runs,
            deferred=[(signal, plan.deferred) for signal, plan in plans if plan.deferred],
            durable=[(signal, plan.durable) for signal, plan in plans if plan.durable],
            asks_for_changes=kind is not Kind.DELETE
            and any(
                plan.on_demand
                or plan.is_judged
                or (kind is not Kind.CREATE and plan.asks_what_changed)
                for _, plan in plans
            ),
            watched=frozenset().union(*(plan.watched for _, plan in plans)),
            needs_columns=any(needs_columns(plan) for _, plan in plans),
            coalesces=self.coalesces,
        )


_generation = object()
"""Replaced after each change of connections, or of the classes that send signals."""
_known: weakref.WeakKeyDictionary[type, ClassRecipients] = weakref.WeakKeyDictionary()


def recipients_of(cls: type) -> ClassRecipients:
    """The receivers of a class, without those that the active contexts silence.

    Computed once for as long as the same receivers are connected and nothing is silenced.
    """
    is_usual = not get_active_contexts()
    if is_usual:
        known = _known.get(cls)
        if known is not None and known.generation is _generation:
            return known
    # Read before the plans: a receiver that another thread connects meanwhile makes another
    # generation, and so the plans found here are not used again.
    generation = _generation
    sends = is_wired(cls)
    plans = [signal.plan_for(cls) if sends else NO_RECEIVERS for signal in LIFE_CYCLE.signals]
    coalesces = (
        any(plan.coalesces for plan in plans)
        if is_usual
        else sends
        and any(
            each.coalesce for signal in LIFE_CYCLE.signals for each in signal.connections_for(cls)
        )
    )
    recipients = ClassRecipients(plans, generation, coalesces=coalesces)
    if is_usual:
        _known[cls] = recipients
    return recipients


def generation() -> object:
    """An object that stays the same until connections, or the classes that send signals, change."""
    return _generation


def forget_recipients() -> None:
    """Discard what is known: connections, or the classes that send signals, have changed."""
    global _generation  # noqa: PLW0603 - one name for one value that is replaced in one step
    _generation = object()
    LIFE_CYCLE.refresh()
    if _known:  # clear() of an empty WeakKeyDictionary takes several times as long as this check
        _known.clear()


class FlushRecipients:
    """The receivers of the classes of one flush or statement, looked up once per class.

    Receivers that are connected or silenced after the first look-up of a class don't change it.

    Args:
        known: Those that have been looked up.
    """

    __slots__ = ("_classes",)

    def __init__(self, known: Mapping[type, ClassRecipients] | None = None) -> None:
        self._classes: dict[type, ClassRecipients] = dict(known or {})

    def of(self, cls: type) -> ClassRecipients:
        """The receivers of a class."""
        found = self._classes.get(cls)
        if found is None:
            found = self._classes[cls] = recipients_of(cls)
        return found

    def pre(self, cls: type, kind: Kind) -> Recipients:
        """The receivers of one kind of change of a class before the flush."""
        return self.of(cls).pre[kind]

    def post(self, cls: type, kind: Kind) -> Recipients:
        """The receivers of one kind of change of a class after the flush."""
        return self.of(cls).post[kind]

    def statement(self, cls: type, kind: Kind) -> Recipients:
        """The receivers of one kind of change of a class by a statement."""
        return self.of(cls).statement[kind]

"""Which signals a change is told by, and who hears them."""

from __future__ import annotations

import weakref

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.connections.routing import NOBODY, Plan, Segment
from aksara_signals.dispatch.context import get_active_contexts
from aksara_signals.dispatch.signal import Signal, snapshots_of
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.mapping.registered import is_wired, wiring
from aksara_signals.orm.sending import needs_columns
from aksara_signals.signals import (
    post_delete,
    post_save,
    post_update,
    pre_delete,
    pre_save,
    pre_update,
)

__all__ = ["LIFE_CYCLE", "POST", "PRE", "Audience", "Hearers", "Moment", "forget_recipients"]

Moment = dict[Kind, tuple[Signal, ...]]
"""What each kind of change is told by."""

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
LIFE_CYCLE: tuple[Signal, ...] = (
    pre_save,
    post_save,
    pre_update,
    post_update,
    pre_delete,
    post_delete,
)
"""The signals that a flush sends."""


class Hearers:
    """Who hears one kind of change of one class, before or after it."""

    __slots__ = ("asks_for_changes", "needs_columns", "plans", "runs", "waiting")

    def __init__(self, kind: Kind, plans: list[tuple[Signal, Plan]]) -> None:
        self.plans: list[tuple[Signal, Plan]] = plans
        """The signals that anybody hears, each with who does."""
        self.asks_for_changes: bool = kind is not Kind.DELETE and any(
            plan.on_demand or (kind is Kind.UPDATE and plan.asks_what_changed) for _, plan in plans
        )
        """Whether any of them names ``changes`` or is sent the net of them, and there are any."""
        self.runs: list[tuple[bool, list[tuple[Signal, Segment]]]] = []
        """Those who are called at once, as runs of async and of synchronous ones."""
        for signal, plan in plans:
            for segment in plan.segments:
                if self.runs and self.runs[-1][0] is segment.is_async:
                    self.runs[-1][1].append((signal, segment))
                else:
                    self.runs.append((segment.is_async, [(signal, segment)]))
        self.waiting: list[tuple[Signal, tuple[Connection, ...]]] = [
            (signal, plan.waiting) for signal, plan in plans if plan.waiting
        ]
        """Those who wait for the outcome of the transaction."""
        self.needs_columns: bool = any(needs_columns(plan) for _, plan in plans)
        """Whether any of them is given columns that it can't load by reading them."""


class ClassAudience:
    """Who hears the life cycle of one class."""

    __slots__ = ("_after", "_before", "coalesces", "is_heard", "state")

    def __init__(self, plans: list[Plan], state: list[object], *, coalesces: bool) -> None:
        self.is_heard: bool = any(plans)
        self.coalesces: bool = coalesces
        """Whether anybody is sent the net of what is done to its rows, contexts aside."""
        self.state: list[object] = state
        """What was connected, and which classes were wired, when this was worked out."""
        self._before = self._hearers(plans, PRE)
        self._after = self._hearers(plans, POST)

    @staticmethod
    def _hearers(plans: list[Plan], moment: Moment) -> dict[Kind, Hearers]:
        by_signal = dict(zip(LIFE_CYCLE, plans, strict=True))
        return {
            kind: Hearers(
                kind,
                [
                    (signal, plan)
                    for signal in signals
                    if (plan := by_signal[signal].of_rows(kind is Kind.CREATE))
                ],
            )
            for kind, signals in moment.items()
        }

    def hearers(self, kind: Kind, moment: Moment) -> Hearers:
        """Of one kind of change."""
        return (self._before if moment is PRE else self._after)[kind]


_known: weakref.WeakKeyDictionary[type, ClassAudience] = weakref.WeakKeyDictionary()


class Audience:
    """Who hears the classes of one flush, asked once per class.

    Who was connected and what was silenced when a class was asked for first counts to the end.
    """

    __slots__ = ("_classes",)

    def __init__(self) -> None:
        self._classes: dict[type, ClassAudience] = {}

    def is_heard(self, cls: type) -> bool:
        """Whether anybody hears any life-cycle signal of a class."""
        return self._of(cls).is_heard

    def coalesces(self, cls: type) -> bool:
        """Whether anybody is sent the net of what is done to the rows of a class, contexts aside.

        A row that was deleted in silence is gone all the same: that it was created isn't sent.
        """
        return self._of(cls).coalesces

    def hearers(self, cls: type, kind: Kind, moment: Moment) -> Hearers:
        """Who hears one kind of change of a class."""
        return self._of(cls).hearers(kind, moment)

    def _of(self, cls: type) -> ClassAudience:
        found = self._classes.get(cls)
        if found is None:
            found = self._classes[cls] = _audience_of(cls)
        return found


def _audience_of(cls: type) -> ClassAudience:
    """Worked out once, for as long as the same receivers are connected and nothing is silenced."""
    is_usual = not get_active_contexts()
    # Read before anything is worked out from it: what another thread changes meanwhile shows.
    state: list[object] = [*snapshots_of(LIFE_CYCLE), wiring()]
    if is_usual:
        known = _known.get(cls)
        if known is not None and known.state == state:
            return known
    is_ours = is_wired(cls)
    plans = [signal.plan_for(cls) if is_ours else NOBODY for signal in LIFE_CYCLE]
    coalesces = (
        any(plan.coalesces for plan in plans)
        if is_usual
        else is_ours
        and any(each.coalesce for signal in LIFE_CYCLE for each in signal.connections_for(cls))
    )
    audience = ClassAudience(plans, state, coalesces=coalesces)
    if is_usual:
        _known[cls] = audience
    return audience


def forget_recipients() -> None:
    """Start anew, for memory's sake: what is kept here keeps receivers alive."""
    if _known:  # clearing what is empty takes several times as long as to look
        _known.clear()

"""Which signals a change is told by, and who hears them."""

from __future__ import annotations

from collections.abc import Iterator

from aksara_signals.dispatch.connection import Connection
from aksara_signals.dispatch.plan import Plan, Segment
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm.changes import Kind
from aksara_signals.orm.models import is_wired
from aksara_signals.signals import (
    post_delete,
    post_save,
    post_update,
    pre_delete,
    pre_save,
    pre_update,
)

__all__ = ["LIFE_CYCLE", "POST", "PRE", "Audience", "is_anybody_listening"]

PRE: dict[Kind, tuple[Signal, ...]] = {
    Kind.CREATE: (pre_save,),
    Kind.UPDATE: (pre_save, pre_update),
    Kind.DELETE: (pre_delete,),
}
POST: dict[Kind, tuple[Signal, ...]] = {
    Kind.CREATE: (post_save,),
    Kind.UPDATE: (post_update, post_save),
    Kind.DELETE: (post_delete,),
}
LIFE_CYCLE = (pre_save, post_save, pre_update, post_update, pre_delete, post_delete)
"""The signals that a flush sends."""


def is_anybody_listening() -> bool:
    """Whether any life-cycle signal is connected to anything."""
    return any(signal.is_connected for signal in LIFE_CYCLE)


Runs = list[tuple[bool, list[tuple[Signal, Segment]]]]


class Audience:
    """Who hears the classes of one flush, looked up once per class."""

    def __init__(self) -> None:
        self._heard: dict[type, bool] = {}
        self._runs: dict[tuple[type, Kind, tuple[Signal, ...]], Runs] = {}
        self._waiting: dict[
            tuple[type, Kind, tuple[Signal, ...]], list[tuple[Signal, tuple[Connection, ...]]]
        ] = {}
        self._asking: dict[tuple[type, Kind, tuple[Signal, ...]], bool] = {}

    def is_heard(self, cls: type) -> bool:
        """Whether anybody hears any life-cycle signal of a class."""
        heard = self._heard.get(cls)
        if heard is None:
            heard = self._heard[cls] = is_wired(cls) and any(
                signal.plan_for(cls) for signal in LIFE_CYCLE
            )
        return heard

    def asks_for_changes(self, sender: type, kind: Kind, signals: tuple[Signal, ...]) -> bool:
        """Whether a receiver of these signals names ``changes``."""
        key = sender, kind, signals
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = any(plan.on_demand for _, plan in self.plans(*key))
        return asking

    def runs(self, sender: type, kind: Kind, signals: tuple[Signal, ...]) -> Runs:
        """The receivers of some signals, as runs of async and of synchronous ones."""
        key = sender, kind, signals
        runs = self._runs.get(key)
        if runs is None:
            runs = self._runs[key] = []
            for signal, plan in self.plans(*key):
                for segment in plan.segments:
                    if runs and runs[-1][0] is segment.is_async:
                        runs[-1][1].append((signal, segment))
                    else:
                        runs.append((segment.is_async, [(signal, segment)]))
        return runs

    def waiting(
        self, sender: type, kind: Kind, signals: tuple[Signal, ...]
    ) -> list[tuple[Signal, tuple[Connection, ...]]]:
        """The receivers of some signals that wait for the outcome of the transaction."""
        key = sender, kind, signals
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = [
                (signal, plan.waiting) for signal, plan in self.plans(*key) if plan.waiting
            ]
        return waiting

    @staticmethod
    def plans(
        sender: type, kind: Kind, signals: tuple[Signal, ...]
    ) -> Iterator[tuple[Signal, Plan]]:
        """The signals that anybody hears, each with who does."""
        for signal in signals:
            plan = signal.plan_for(sender).narrowed(kind is Kind.CREATE)
            if plan:
                yield signal, plan

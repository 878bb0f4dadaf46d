"""From synchronous code to receivers, in few hand-overs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aksara_signals.dispatch.delivery import Delivery
from aksara_signals.dispatch.identity import SenderGroup
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm import bridge
from aksara_signals.types import Sender

__all__ = ["Steps", "send", "steps_of"]

Steps = Iterator[tuple[bool, list[Delivery]]]
"""Runs of deliveries, each with whether its receivers are async."""


def send(steps: Iterable[tuple[bool, list[Delivery]]]) -> None:
    """Deliver; neighbouring runs of async receivers are one hand-over."""
    pending: list[Delivery] = []
    pending_is_async = False
    for is_async, deliveries in steps:
        if pending and is_async is not pending_is_async:
            bridge.hand_over(pending, pending_is_async)
            pending = []
        pending_is_async = is_async
        pending += deliveries
    if pending:
        bridge.hand_over(pending, pending_is_async)


def steps_of(
    signal: Signal, sender: Sender, payload: dict[str, Any], *, heard_as: SenderGroup | None = None
) -> Steps:
    """One signal from one sender, as steps.

    Args:
        signal: What is sent.
        sender: What receivers get as the sender.
        payload: All of it but ``signal`` and ``sender``.
        heard_as: Whom receivers may have been connected to instead of the sender.
    """
    plan = signal.plan_for(sender if heard_as is None else heard_as)
    if not plan:
        return
    arguments = {"signal": signal, "sender": sender, **payload}
    for segment in plan.segments:
        delivery = Delivery(
            signal, sender, segment.sequential, arguments, concurrent=segment.concurrent
        )
        yield segment.is_async, [delivery]

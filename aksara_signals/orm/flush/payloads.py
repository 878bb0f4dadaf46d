"""What receivers are given of the rows that a flush writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aksara_signals.dispatch.connections.routing import Segment
from aksara_signals.dispatch.delivery.delivery import NO_EXTRAS, Delivery, delivery_of
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm.bridge.hidden_history import hidden_history_of
from aksara_signals.orm.bridge.states import State
from aksara_signals.orm.flush.changes import Batch, Change
from aksara_signals.orm.flush.recipients import Audience, Moment
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.sending import Steps
from aksara_signals.orm.session.current import AnySession
from aksara_signals.orm.session.fixtures import is_loading_fixtures

__all__ = ["arguments_of", "common_of", "steps_of_changes"]


def steps_of_changes(
    audience: Audience,
    owner: AnySession,
    changes: Iterable[Batch],
    moment: Moment,
    extras: dict[State, Any],
) -> Steps:
    """Neighbours of one class and kind go through each run of receivers together.

    Args:
        audience: Who hears what.
        owner: The session that receivers are given.
        changes: In batches, in the order to be told.
        moment: Before or after the flush.
        extras: The on-demand arguments, where somebody asks for them.
    """
    for kind, sender, batch in changes:
        common = common_of(kind, sender, owner)
        for is_async, segments in audience.hearers(sender, kind, moment).runs:
            yield is_async, _one_by_one(sender, segments, common, batch, extras)


def common_of(kind: Kind, sender: type, owner: AnySession) -> dict[str, Any]:
    """What all changes of one kind and class are told with."""
    common: dict[str, Any] = {"sender": sender}
    if kind is not Kind.DELETE:
        common |= {"created": kind is Kind.CREATE, "update_fields": None}
    return {**common, "session": owner, "raw": is_loading_fixtures()}


def _one_by_one(
    sender: type,
    segments: list[tuple[Signal, Segment]],
    common: dict[str, Any],
    changes: list[Change],
    extras: dict[State, Any],
) -> Iterator[Delivery]:
    """One delivery for each signal and segment, which takes the changes one after another."""
    deliveries: list[tuple[Delivery, dict[str, Any]]] = []
    for signal, each in segments:
        delivery = delivery_of(signal, sender, each.sequential, {}, concurrent=each.concurrent)
        deliveries.append((delivery, {"signal": signal, **common}))
    for change in changes:
        extra = extras.get(change.state, NO_EXTRAS) if extras else NO_EXTRAS
        for delivery, same in deliveries:
            delivery.arguments = arguments_of(same, change)
            delivery.extras = extra
            yield delivery
    for delivery, _ in deliveries:
        delivery.let_go()


def arguments_of(common: dict[str, Any], change: Change) -> dict[str, Any]:
    """What one change is told with."""
    arguments = {"instance": change.instance, **common}
    if change.kind is Kind.UPDATE:
        hidden = hidden_history_of(change.state)
        if hidden is not None:
            arguments["update_fields"] = hidden.fields
    return arguments

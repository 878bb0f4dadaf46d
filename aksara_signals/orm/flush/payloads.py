"""What is sent for the rows that a flush writes: batches of changes, and their deliveries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from aksara_signals.dispatch.connections.routing import Segment
from aksara_signals.dispatch.delivery.delivery import NO_EXTRAS, Delivery, new_tuple
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm.bridge.hidden_history import hidden_history_of
from aksara_signals.orm.bridge.states import State
from aksara_signals.orm.flush.changes import Change
from aksara_signals.orm.flush.recipients import FlushRecipients, Recipients
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.sending import Run
from aksara_signals.orm.session.current import AnySession
from aksara_signals.orm.session.fixtures import is_loading_fixtures


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Successive changes of one kind and class, and what sending them needs.

    Made once before the flush and once after it, and carried through.
    """

    kind: Kind
    sender: type
    changes: list[Change]
    recipients: Recipients
    shared_arguments: dict[str, Any]
    """The payload but for ``signal``, ``instance`` and ``changes``."""


_kind_and_sender = attrgetter("kind", "sender")


def batches_of(
    changes: Iterable[Change], recipients: FlushRecipients, owner: AnySession, *, is_post: bool
) -> list[Batch]:
    """Successive changes of one kind and class as batches, in the same order.

    Args:
        changes: In the order to be sent.
        recipients: The receivers of this flush.
        owner: The session that receivers are given.
        is_post: Whether post signals are sent for them, or pre signals.
    """
    batches: list[Batch] = []
    for (kind, sender), group in groupby(changes, _kind_and_sender):
        of_class = recipients.of(sender)
        of_kind = (of_class.post if is_post else of_class.pre)[kind]
        shared: dict[str, Any] = {"sender": sender}
        if kind is not Kind.DELETE:
            shared |= {"created": kind is Kind.CREATE, "update_fields": None}
        shared |= {"session": owner, "raw": is_loading_fixtures()}
        batches.append(Batch(kind, sender, list(group), of_kind, shared))
    return batches


def runs_of(batches: Iterable[Batch], extras: dict[State, Any]) -> list[Run]:
    """The deliveries of batches: each batch goes through one run of receivers after another.

    Args:
        batches: In the order to be sent.
        extras: The on-demand arguments, where a receiver asks for them.
    """
    return [
        (is_async, _deliveries(batch, segments, extras))
        for batch in batches
        for is_async, segments in batch.recipients.runs
    ]


def _deliveries(
    batch: Batch, segments: list[tuple[Signal, Segment]], extras: dict[State, Any]
) -> Iterator[Delivery]:
    """One change after another, each for every signal and segment."""
    sender, is_update = batch.sender, batch.kind is Kind.UPDATE
    sends = [
        (signal, each.sequential, each.concurrent, {"signal": signal, **batch.shared_arguments})
        for signal, each in segments
    ]
    for change in batch.changes:
        extra = extras.get(change.state, NO_EXTRAS) if extras else NO_EXTRAS
        for signal, sequential, concurrent, shared in sends:
            given = with_fields(shared, change) if is_update else shared
            arguments = {"instance": change.instance, **given}
            yield new_tuple(Delivery, (signal, sender, sequential, arguments, concurrent, extra))


def with_fields(shared: dict[str, Any], change: Change) -> dict[str, Any]:
    """What a batch shares, with the ``update_fields`` of a row that is updated in part."""
    hidden = hidden_history_of(change.state)
    return shared if hidden is None else {**shared, "update_fields": hidden.fields}

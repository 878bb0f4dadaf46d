"""What is sent for the rows that a flush or a statement writes.

Changes come in batches. A batch becomes deliveries to the receivers that are called at once, and
queue entries for the deferred ones (:mod:`.queueing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.connections.matching import let_through
from aksara_signals.dispatch.connections.routing import Segment
from aksara_signals.dispatch.delivery.delivery import NO_EXTRAS, AnyDelivery
from aksara_signals.dispatch.delivery.tracing import hooks
from aksara_signals.dispatch.receivers.naming import describe_receiver
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm.bridge.hidden_history import hidden_history_of, hiding
from aksara_signals.orm.bridge.states import State, describe
from aksara_signals.orm.flush.changes import Change, row_changes
from aksara_signals.orm.flush.recipients import Recipients
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.outcome.durable import DurableSend
from aksara_signals.orm.sending import Run
from aksara_signals.orm.session.current import AnySession
from aksara_signals.orm.session.fixtures import is_loading_fixtures

RecipientsOf = Callable[[type, Kind], Recipients]
"""The receivers of one kind of change of a class."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Successive changes of one kind and class, with everything that is the same for all of them.

    Batches are made once before the flush and once after it, and once for a statement.
    """

    kind: Kind
    sender: type
    changes: list[Change]
    recipients: Recipients
    shared_arguments: dict[str, Any]
    """The payload without ``signal``, ``instance`` and ``changes``."""


_kind_and_sender = attrgetter("kind", "sender")


def batches_of(
    changes: Iterable[Change], recipients: RecipientsOf, owner: AnySession
) -> list[Batch]:
    """Batches of successive changes of one kind and class, in the same order.

    Args:
        changes: In the order of sending.
        recipients: The receivers of each class and kind of change.
        owner: The session that receivers are given.
    """
    raw = is_loading_fixtures()
    batches: list[Batch] = []
    for (kind, sender), group in groupby(changes, _kind_and_sender):
        shared: dict[str, Any]
        if kind is Kind.DELETE:
            shared = {"sender": sender, "session": owner, "raw": raw}
        else:
            shared = {
                "sender": sender,
                "created": kind.created,
                "update_fields": None,
                "session": owner,
                "raw": raw,
            }
        batches.append(Batch(kind, sender, list(group), recipients(sender, kind), shared))
    return batches


def runs_of(batches: Iterable[Batch], extras: dict[State, Any]) -> list[Run]:
    """The deliveries of batches: each batch is delivered to one run of receivers after another.

    Args:
        batches: In the order of sending.
        extras: The on-demand arguments of the changes for which a receiver requests them.
    """
    called: Called = {}
    return [
        Run(
            is_async,
            _judged_deliveries(batch, segments, extras, called)
            if batch.recipients.watched
            else _deliveries(batch, segments, extras),
            ("instance", "signal", *batch.shared_arguments),
            len(batch.changes) * len(segments),
        )
        for batch in batches
        for is_async, segments in batch.recipients.runs
    ]


def _deliveries(
    batch: Batch, segments: list[tuple[Signal, Segment]], extras: dict[State, Any]
) -> Iterator[AnyDelivery]:
    """One change after another, each for every signal and segment.

    The arguments of one delivery are those of the next one, but for what differs: receivers get
    copies, and nothing else keeps them, unless there are hooks.
    """
    sender, is_update = batch.sender, batch.kind is Kind.UPDATE
    shared = batch.shared_arguments
    sends = [
        (signal, each.sequential, each.concurrent, {"instance": None, "signal": signal, **shared})
        for signal, each in segments
    ]
    for change in batch.changes:
        extra = extras.get(change.state, NO_EXTRAS) if extras else NO_EXTRAS
        instance = change.instance
        hides = is_update and hiding
        for signal, sequential, concurrent, reused in sends:
            arguments = with_fields(reused, change) if hides else reused
            if hooks:
                arguments = arguments.copy()
            arguments["instance"] = instance
            yield signal, sender, sequential, arguments, concurrent, extra


Called = dict[tuple[Change, Signal], set[Any]]
"""The receivers with several connections that have been called for a change and a signal."""


def _judged_deliveries(
    batch: Batch,
    segments: list[tuple[Signal, Segment]],
    extras: dict[State, Any],
    called: Called,
) -> Iterator[AnyDelivery]:
    """As :func:`_deliveries`, for changes that decide which of the receivers are called.

    Each is decided when the receivers before it have been called, which may have changed more.
    """
    sender, is_update = batch.sender, batch.kind is Kind.UPDATE
    sends = [
        (signal, each, {"signal": signal, **batch.shared_arguments}) for signal, each in segments
    ]
    for change in batch.changes:
        extra = extras.get(change.state, NO_EXTRAS)
        hides = is_update and hiding
        for signal, segment, shared in sends:
            sequential, concurrent = segment.sequential, segment.concurrent
            if segment.repeated is not None:
                row, repeated = row_changes(change, extra), segment.repeated
                done = called.setdefault((change, signal), set()) if repeated else set[Any]()
                sequential = let_through(sequential, row, repeated, done)
                concurrent = let_through(concurrent, row, repeated, done)
                if not sequential and not concurrent:
                    continue
            given = with_fields(shared, change) if hides else shared
            arguments = {"instance": change.instance, **given}
            yield signal, sender, sequential, arguments, concurrent, extra


def with_fields(shared: dict[str, Any], change: Change) -> dict[str, Any]:
    """The shared arguments, with the ``update_fields`` of a row that is updated in part."""
    hidden = hidden_history_of(change.state)
    return shared if hidden is None else {**shared, "update_fields": hidden.fields}


def durable_sends(
    batches: Iterable[Batch],
    changed: Mapping[State, frozenset[str]],
    extras: Mapping[State, Any],
) -> list[DurableSend]:
    """What batches send to durable receivers.

    Args:
        batches: What has happened, in the order of sending.
        changed: The names of the changed columns, of rows that were not deleted.
        extras: The on-demand arguments of the changes that decide which receivers are called.
    """
    sends: list[DurableSend] = []
    for batch in batches:
        receivers, shared = batch.recipients.durable, batch.shared_arguments
        for change in batch.changes if receivers else ():
            if batch.kind is Kind.UPDATE:
                shared = with_fields(batch.shared_arguments, change)
            arguments = {"instance": change.instance, **shared}
            names = changed.get(change.state)
            chosen = _durable(batch, change, extras) if batch.recipients.watched else receivers
            sends += [
                DurableSend(signal, batch.sender, connections, arguments, names)
                for signal, connections in chosen
            ]
    return sends


def _durable(
    batch: Batch, change: Change, extras: Mapping[State, Any]
) -> Iterator[tuple[Signal, tuple[Connection, ...]]]:
    """The durable connections that a change lets through, by signal."""
    row = row_changes(change, extras.get(change.state, NO_EXTRAS))
    for signal, connections in batch.recipients.durable:
        repeated = batch.recipients.repeated(signal)
        kept = let_through(connections, row, repeated, set())
        if kept:
            yield signal, kept


def described(batches: Iterable[Batch]) -> list[str]:
    """Descriptions of what batches send, for an error message."""
    return [
        f"{signal.display_name} sent by {describe(change.instance)} to "
        f"{describe_receiver(connection.receiver)}"
        for batch in batches
        for change in batch.changes
        for signal, plan in batch.recipients.plans
        for connection in plan.connections
    ]

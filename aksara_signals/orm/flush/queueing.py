"""What of a batch is queued for deferred receivers, with the values of this moment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.connections.matching import let_through
from aksara_signals.dispatch.delivery.delivery import NO_EXTRAS
from aksara_signals.dispatch.provenance import current_provenance
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm.bridge.states import State, has_pending_key
from aksara_signals.orm.flush.changes import Change, row_changes
from aksara_signals.orm.flush.payloads import Batch, with_fields
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.outcome.columns import columns_taken
from aksara_signals.orm.outcome.entries import Entry, Queued, SentSignal, Written
from aksara_signals.orm.outcome.rows import QueuedRows, Sends
from aksara_signals.orm.outcome.snapshots import Snapshot, kept_extras

WrittenOf = Callable[[Batch, State], Written]
"""The note of a row for receivers that are sent the net of it."""


def queue_batch(
    batch: Batch,
    entries: list[Entry],
    extras: Mapping[State, Any],
    written_of: WrittenOf,
    unwritten: Collection[State] = (),
) -> None:
    """Add the rows of a batch to the entries of a queue.

    Args:
        batch: What has happened.
        entries: Those of the innermost open savepoint, or of the transaction.
        extras: The on-demand arguments of the changes for which a receiver requests them.
        written_of: Makes the notes for receivers that are sent the net of a row.
        unwritten: Requested saves that wrote nothing, of which the net is nothing.
    """
    recipients = batch.recipients
    if not any(each.coalesce for _, connections in recipients.deferred for each in connections):
        queue_rows(batch, entries, extras, written_of if recipients.coalesces else None)
        return
    for change in batch.changes:
        state = change.state
        written = written_of(batch, state)
        entries.append(written)
        queued = _queued_of(batch, change, extras.get(state), written)
        if state in unwritten:
            queued = [each for each in queued if not each.connection.coalesce]
        entries += queued


def queue_rows(
    batch: Batch,
    entries: list[Entry],
    extras: Mapping[State, Any],
    written_of: WrittenOf | None = None,
) -> None:
    """As :func:`queue_batch`, if none of the receivers is sent the net of a row.

    Args:
        batch: What has happened.
        entries: Where the rows are added.
        extras: The on-demand arguments.
        written_of: None if no other receiver of the class is sent the net of a row either.
    """
    is_update, is_delete = batch.kind is Kind.UPDATE, batch.kind is Kind.DELETE
    is_judged = bool(batch.recipients.watched)
    arguments: Mapping[str, Any] = batch.shared_arguments
    sends: Sends = batch.recipients.deferred
    rows: QueuedRows | None = None
    for change in batch.changes:
        state = change.state
        if written_of is not None:
            entries.append(written_of(batch, state))
        if not batch.recipients.deferred:
            continue
        extra = extras.get(state) if extras else None
        if is_judged:
            sends = _sends_of(batch, change, extra or NO_EXTRAS)
        if is_update:
            arguments = with_fields(batch.shared_arguments, change)
        key = state.key
        if is_delete and has_pending_key(state):
            snapshot = Snapshot(state)
            snapshot.take_key(key)
            columns, values = snapshot.columns, snapshot.values
        else:
            columns, values = columns_taken(state)
        if extra is not None:
            extra = kept_extras(extra)
        if not sends:
            continue
        if (
            rows is None
            or columns is not rows.columns
            or arguments is not rows.arguments
            or sends is not rows.sends
            or (extra is not None) is not rows.has_extras
        ):
            further = QueuedRows(batch.sender, sends, arguments, columns, current_provenance())
            further.has_extras = extra is not None
            rows = _rows_for(entries, further)
        rows.keys.append(key)
        rows.values.append(values)
        if extra is not None:
            rows.extras.append(extra)


def _rows_for(entries: list[Entry], further: QueuedRows) -> QueuedRows:
    """The entry that further rows are added to: the last one, or else theirs."""
    last = entries[-1] if entries else None
    if isinstance(last, QueuedRows) and last.takes(further):
        return last
    entries.append(further)
    return further


def _sends_of(batch: Batch, change: Change, extra: Mapping[str, Any]) -> Sends:
    """The deferred connections that a change lets through, by signal."""
    return [
        (signal, kept)
        for signal, connections in batch.recipients.deferred
        if (kept := _let_through(batch, signal, connections, change, extra))
    ]


def _queued_of(batch: Batch, change: Change, extra: Any, written: Written) -> list[Queued]:
    """The queue entries of one change, one for each receiver.

    Args:
        batch: The batch of the change.
        change: A change that has happened.
        extra: Its on-demand arguments, or None.
        written: Its note for receivers that are sent the net of a row.
    """
    state = change.state
    snapshot = Snapshot(state)
    if batch.kind is Kind.DELETE and has_pending_key(state):
        snapshot.take_key(state.key)
    arguments = batch.shared_arguments
    if batch.kind is Kind.UPDATE:
        arguments = with_fields(arguments, change)
    queued: list[Queued] = []
    for signal, receivers in batch.recipients.deferred:
        connections: Iterable[Connection] = receivers
        if batch.recipients.watched:
            connections = _let_through(batch, signal, receivers, change, extra or NO_EXTRAS)
        sent = SentSignal(
            signal,
            batch.sender,
            {**arguments, "signal": signal},
            {"instance": snapshot},
            NO_EXTRAS if extra is None else kept_extras(extra),
            written,
        )
        queued += [Queued(sent, connection) for connection in connections]
    return queued


def _let_through(
    batch: Batch,
    signal: Signal,
    connections: tuple[Connection, ...],
    change: Change,
    extra: Mapping[str, Any],
) -> tuple[Connection, ...]:
    """The deferred connections that a change lets through.

    Coalescing ones stay: the net of the transaction decides, which isn't known yet.
    """
    row = row_changes(change, extra)
    repeated = batch.recipients.repeated(signal)
    kept = let_through((each for each in connections if not each.coalesce), row, repeated, set())
    return tuple(each for each in connections if each.coalesce or each in kept)

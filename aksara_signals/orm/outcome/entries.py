"""The entries of a queue: signals for deferred receivers, notes of written rows, unwritten rows.

Rows that no receiver is sent the net of are entries together, which :mod:`.rows` defines.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session, SessionTransaction

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.delivery.delivery import NO_EXTRAS, Delivery, FailedDelivery, Source
from aksara_signals.dispatch.provenance import ProvenanceValues, current_provenance
from aksara_signals.dispatch.receivers.payload import PROVENANCE
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.outcome.rows import QueuedRows
from aksara_signals.orm.outcome.snapshots import Frozen, Passed, Snapshot, freeze, kept_extras
from aksara_signals.types import AFTER_COMMIT, AFTER_ROLLBACK, Sender

logger: logging.Logger = logging.getLogger("aksara_signals")


def _no_arguments() -> Mapping[str, Any]:
    return NO_EXTRAS


@dataclass(slots=True, eq=False)
class SentSignal:
    """A signal that was sent, as it will be delivered to deferred receivers."""

    source: Source
    sender: Sender
    arguments: Mapping[str, Any]
    """The arguments that are delivered unchanged."""
    frozen: Mapping[str, Frozen] = field(default_factory=_no_arguments)
    """The arguments that hold instances; each receiver gets copies of its own."""
    extras: Mapping[str, Any] = field(default_factory=_no_arguments)
    written: Written | None = None
    """The write that this is sent for, if a flush has sent it and a receiver coalesces."""
    provenance: ProvenanceValues = field(default_factory=current_provenance)
    """The provenance at the send."""

    @classmethod
    def now(cls, signal: Signal, sender: Sender, payload: Mapping[str, Any]) -> SentSignal:
        """A signal that is sent at this moment, with snapshots of its instances."""
        arguments: dict[str, Any] = {}
        frozen: dict[str, Frozen] = {}
        for name, value in payload.items():
            found = freeze(value)
            if found is None and name == "passed_args" and type(value) is dict:
                found = Passed(value)
            if found is None:
                arguments[name] = value
            else:
                frozen[name] = found
        return cls(signal, sender, {**arguments, "signal": signal, "sender": sender}, frozen)

    @property
    def snapshot(self) -> Snapshot | None:
        """The snapshot of the ``instance`` argument, if that is a mapped instance."""
        instance = self.frozen.get("instance")
        return instance if isinstance(instance, Snapshot) else None

    def deliveries(self, connections: Iterable[Connection]) -> Iterator[Delivery | FailedDelivery]:
        """The deliveries to these receivers, each made when the one before it is through."""
        return map(self._delivery, connections)

    def _delivery(self, connection: Connection) -> Delivery | FailedDelivery:
        """The delivery to one receiver, with copies of its own.

        Making copies runs the user's code (``@reconstructor``). If that raises, the delivery to
        this receiver fails, and the others are not affected.
        """
        extras = kept_extras(self.extras) if self.extras else self.extras
        if self.provenance:
            extras = {**extras, PROVENANCE: self.provenance}
        arguments = dict(self.arguments)
        try:
            for name, value in self.frozen.items():
                arguments[name] = value.thaw()
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises
            failed = Delivery(
                self.source, self.sender, (connection,), dict(self.arguments), extras=extras
            )
            return FailedDelivery(failed, error)
        return Delivery(self.source, self.sender, (connection,), arguments, extras=extras)


@dataclass(slots=True, eq=False)
class Queued:
    """One deferred receiver of a sent signal."""

    sent: SentSignal
    connection: Connection
    undone_by: SessionTransaction | None = None
    """The savepoint that was rolled back with it, or the transaction, if any."""

    def is_due(self, is_committed: bool) -> bool:
        """Whether the receiver is called after this outcome."""
        is_kept = is_committed and self.undone_by is None
        return self.connection.phase == (AFTER_COMMIT if is_kept else AFTER_ROLLBACK)


@dataclass(slots=True, eq=False)
class Written:
    """One write of one row, of a class that has a coalescing receiver.

    It is noted even if that receiver isn't connected to the signal of the write, because the net of
    a row depends on every write of it: whether it was deleted in the end, for example. Writes of
    bulk operations are noted as well.
    """

    kind: Kind
    key_before: Any
    """The identity key before the flush; None for a new row."""
    key: Any
    """The identity key after the flush."""
    flush: object
    """An object that stands for the flush: the same for all of its writes, and for no others."""
    is_silent: bool = False
    """Whether no signal was sent for this row: a ``SignalContext`` has silenced it, or it was
    written by a bulk operation."""
    values: Mapping[str, Any] = field(default_factory=_no_arguments)
    """The column values that a bulk update has written."""
    undone_by: SessionTransaction | None = None
    """The savepoint that was rolled back with it, or the transaction, if any."""


@dataclass(slots=True, eq=False)
class Unwritten:
    """Rows for durable receivers that couldn't be written at once."""

    rows: list[Any]
    signal_name: str
    write: Callable[[Session, list[Any]], object]
    """Writes rows in the transaction of a session."""
    undone_by: SessionTransaction | None = None
    """The savepoint that was rolled back with it, or the transaction, if any."""


Entry = Queued | QueuedRows | Written | Unwritten
"""An element of a queue."""


def connections_for_commit(entry: Entry) -> list[Connection]:
    """The connections of the receivers that a commit calls, one for each delivery."""
    if isinstance(entry, QueuedRows):
        return [connection for _, connection in entry.due(is_committed=True)] * len(entry.keys)
    if isinstance(entry, Queued) and entry.is_due(is_committed=True):
        return [entry.connection]
    return []


def drop_unwritten(entries: list[Entry]) -> bool:
    """Remove the unwritten rows from a list of entries; return whether anything is left in it."""
    entries[:] = [each for each in entries if not isinstance(each, Unwritten)]
    return bool(entries)


def abandon(entries: list[Entry]) -> None:
    """Empty a list of entries whose transaction will never begin."""
    report_unwritten(entries)
    entries.clear()


def report_unwritten(entries: list[Entry]) -> None:
    """Log what a session is closed with, without having written or rolled it back."""
    names = [each.signal_name for each in entries if isinstance(each, Unwritten)]
    if names:
        logger.error(
            "a session was closed with unwritten rows for durable receivers of %s: send_sync() "
            "with an AsyncSession writes at the next flush or commit() of the session, and there "
            "was none (a commit() of its connection isn't one); use 'await …send()'",
            ", ".join(sorted(set(names))),
        )

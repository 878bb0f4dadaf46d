"""What a transaction keeps until it has ended: sent signals for deferred receivers, and writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import SessionTransaction

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.delivery.delivery import NO_EXTRAS, Delivery, FailedDelivery, Source
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.outcome.snapshots import Frozen, Passed, Snapshot, freeze, kept_extras
from aksara_signals.types import AFTER_COMMIT, AFTER_ROLLBACK, Sender


def _nothing() -> Mapping[str, Any]:
    return NO_EXTRAS


@dataclass(slots=True, eq=False)
class SentSignal:
    """Something that was sent, as it will be delivered to deferred receivers."""

    source: Source
    sender: Sender
    arguments: Mapping[str, Any]
    """What is delivered as it is."""
    frozen: Mapping[str, Frozen] = field(default_factory=_nothing)
    """The arguments that hold instances: each receiver gets copies of its own."""
    extras: Mapping[str, Any] = field(default_factory=_nothing)
    written: Written | None = None
    """What was done to the row, if a flush has sent this and a receiver coalesces."""

    @classmethod
    def now(cls, signal: Signal, sender: Sender, payload: Mapping[str, Any]) -> SentSignal:
        """What is sent at this moment, with its instances as they are."""
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
        """The instance, if it was sent with a mapped one."""
        instance = self.frozen.get("instance")
        return instance if isinstance(instance, Snapshot) else None

    def delivery(self, connection: Connection) -> Delivery | FailedDelivery:
        """For one receiver, with copies of its own.

        Copies run the user's code (``@reconstructor``). What it raises is this receiver's failure,
        and no other's.
        """
        extras = kept_extras(self.extras) if self.extras else self.extras
        arguments = dict(self.arguments)
        try:
            for name, value in self.frozen.items():
                arguments[name] = value.thaw()
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises
            known = dict(self.arguments)
            return FailedDelivery(Delivery(self.source, self.sender, (connection,), known), error)
        return Delivery(self.source, self.sender, (connection,), arguments, extras=extras)


@dataclass(slots=True, eq=False)
class Queued:
    """One deferred receiver of a sent signal."""

    sent: SentSignal
    connection: Connection
    undone_by: SessionTransaction | None = None
    """The savepoint that was rolled back around it."""

    def is_due(self, is_committed: bool) -> bool:
        """Whether this outcome is the one that the receiver is called after."""
        is_kept = is_committed and self.undone_by is None
        return self.connection.phase == (AFTER_COMMIT if is_kept else AFTER_ROLLBACK)


@dataclass(slots=True, eq=False)
class Written:
    """What one flush has done to one row of a class that a coalescing receiver is connected to.

    Noted also where that receiver isn't connected to the signal: the net of a row depends on
    whether it was deleted in the end. What a bulk operation has written is noted as well.
    """

    kind: Kind
    key_before: Any
    """The identity key before the flush; None of a new row."""
    key: Any
    """The identity key after it."""
    flush: object
    """The same for all that one flush has written, and for nothing else."""
    is_silent: bool = False
    """Whether no signal of a single row was sent: a ``SignalContext`` has silenced it, or it was a
    bulk operation."""
    values: Mapping[str, Any] = field(default_factory=_nothing)
    """The column values that a bulk update has written, for which no signal of one row was sent."""
    undone_by: SessionTransaction | None = None
    """As of :class:`Queued`."""


Entry = Queued | Written
"""What a transaction keeps until it has ended."""

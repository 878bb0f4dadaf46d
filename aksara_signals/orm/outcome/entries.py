"""What waits: something that was sent, for one receiver, to be told as it was.

And, where receivers coalesce, what was done to the rows they get the net of.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy.orm import SessionTransaction

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.delivery.delivery import (
    NO_EXTRAS,
    Delivery,
    FailedDelivery,
    Origin,
    delivery_of,
)
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.outcome.snapshots import (
    Passed,
    Snapshot,
    freeze,
    is_frozen,
    kept_extras,
    thaw,
)
from aksara_signals.types import AFTER_COMMIT, AFTER_ROLLBACK, Sender

__all__ = ["Entry", "Told", "Waiting", "Written"]


class Told:
    """Something that was sent, as it will be delivered."""

    __slots__ = ("arguments", "extras", "origin", "sender", "written")

    def __init__(
        self,
        origin: Origin,
        sender: Sender,
        arguments: Mapping[str, Any],
        extras: Mapping[str, Any] = NO_EXTRAS,
        written: Written | None = None,
    ) -> None:
        self.origin: Origin = origin
        self.sender: Sender = sender
        self.arguments: Mapping[str, Any] = arguments
        """With snapshots for instances."""
        self.extras: Mapping[str, Any] = extras
        self.written: Written | None = written
        """What was done to the row, if a flush has sent this and a receiver coalesces."""

    @classmethod
    def now(cls, signal: Signal, sender: Sender, payload: Mapping[str, Any]) -> Told:
        """What is sent at this moment, with its instances as they are."""
        arguments = {name: freeze(value) for name, value in payload.items()}
        passed = arguments.get("passed_args")
        if type(passed) is dict:
            arguments["passed_args"] = Passed(passed)
        return cls(signal, sender, {**arguments, "signal": signal, "sender": sender})

    @property
    def row(self) -> Any:
        """The identity key of the row that was told of, or None."""
        instance = self.arguments.get("instance")
        return instance.key if isinstance(instance, Snapshot) else None

    def delivery(self, connection: Connection) -> Delivery:
        """For one receiver, with copies of its own.

        Copies run the user's code (``@reconstructor``). What it raises is this receiver's failure,
        and no other's.
        """
        try:
            arguments = {name: thaw(value) for name, value in self.arguments.items()}
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises
            failed = FailedDelivery()
            failed.signal, failed.sender, failed.sequential = (
                self.origin,
                self.sender,
                (connection,),
            )
            failed.error = error
            failed.arguments = {
                name: value for name, value in self.arguments.items() if not is_frozen(value)
            }
            return failed
        return delivery_of(
            self.origin,
            self.sender,
            (connection,),
            arguments,
            extras=kept_extras(self.extras) if self.extras else self.extras,
        )


class Waiting:
    """One receiver of something that was told."""

    __slots__ = ("connection", "told", "undone_by")

    def __init__(self, told: Told, connection: Connection) -> None:
        self.told: Told = told
        self.connection: Connection = connection
        self.undone_by: SessionTransaction | None = None
        """The savepoint that was rolled back around it."""

    def is_due(self, is_committed: bool) -> bool:
        """Whether this is what the receiver has waited for."""
        is_kept = is_committed and self.undone_by is None
        return self.connection.phase == (AFTER_COMMIT if is_kept else AFTER_ROLLBACK)


NO_VALUES: Mapping[str, Any] = MappingProxyType({})


class Written:
    """What one flush has done to one row of a class that a coalescing receiver is connected to.

    Noted also where that receiver isn't connected to the signal: whoever is sent the net of a row
    must know that it was deleted in the end. What a bulk operation has written is noted as well.
    """

    __slots__ = ("flush", "is_silent", "key", "key_before", "kind", "undone_by", "values")

    def __init__(
        self,
        kind: Kind,
        key_before: Any,
        key: Any,
        flush: object,
        *,
        is_silent: bool = False,
        values: Mapping[str, Any] = NO_VALUES,
    ) -> None:
        self.kind: Kind = kind
        self.key_before: Any = key_before
        """The identity key before the flush; None of a new row."""
        self.key: Any = key
        """The identity key after it."""
        self.flush: object = flush
        """The same for all that one flush has written, and for nothing else."""
        self.is_silent: bool = is_silent
        """Whether no signal of a single row was sent: a ``SignalContext`` has silenced it, or it
        was a bulk operation."""
        self.values: Mapping[str, Any] = values
        """The column values that a bulk update has written, which no signal of one row has told."""
        self.undone_by: SessionTransaction | None = None
        """As of :class:`Waiting`."""


Entry = Waiting | Written
"""What a transaction keeps until it has ended."""

"""Rows that wait for the outcome of their transaction, with what a flush or a statement sends them.

A transaction may write very many rows, and each takes memory until it ends. So what is the same for
successive rows stands once, and a row itself is two elements of lists: its key and its values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from sqlalchemy.orm import SessionTransaction

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.delivery.delivery import (
    NO_EXTRAS,
    AnyDelivery,
    Delivery,
    FailedDelivery,
)
from aksara_signals.dispatch.provenance import ProvenanceValues
from aksara_signals.dispatch.receivers.payload import PROVENANCE
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm.outcome.columns import Columns, thawed
from aksara_signals.orm.outcome.snapshots import kept_extras
from aksara_signals.types import AFTER_COMMIT, AFTER_ROLLBACK, Sender

Sends = Sequence[tuple[Signal, tuple[Connection, ...]]]
"""The signals that are sent for each row, with the connections of their deferred receivers."""
_Send = tuple[Signal, tuple[Connection], dict[str, Any]]
"""A signal with one receiver, and the arguments that all rows share."""


@dataclass(slots=True, eq=False)
class QueuedRows:
    """Successive rows for the same deferred receivers, none of which is sent the net of a row."""

    sender: Sender
    sends: Sends
    arguments: Mapping[str, Any]
    """The arguments that all rows share, without ``signal`` and ``instance``."""
    columns: Columns
    provenance: ProvenanceValues
    """The provenance at the send."""
    has_extras: bool = False
    """Whether the rows have on-demand arguments."""
    keys: list[Any] = field(default_factory=list[Any])
    """The identity keys."""
    values: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    """The values of the columns of each row."""
    extras: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    """The on-demand arguments of each row; empty if the rows have none."""
    is_closed: bool = False
    """Whether further rows need an entry of their own."""
    undone_by: SessionTransaction | None = None
    """The savepoint that was rolled back with them, or the transaction, if any."""

    def takes(self, other: QueuedRows) -> bool:
        """Whether rows of another one, which come right after these, can be added to these."""
        return (
            self.columns is other.columns
            and self.has_extras is other.has_extras
            and not self.is_closed
            and self.undone_by is None
            and self.sender is other.sender
            and self.provenance is other.provenance
            and (self.sends is other.sends or self.sends == other.sends)
            and self.arguments == other.arguments
        )

    def due(self, is_committed: bool) -> list[tuple[Signal, Connection]]:
        """The receivers that are called for each row after this outcome, in order."""
        phase = AFTER_COMMIT if is_committed and self.undone_by is None else AFTER_ROLLBACK
        return [
            (signal, connection)
            for signal, connections in self.sends
            for connection in connections
            if connection.phase == phase
        ]

    def deliveries(
        self, due: Sequence[tuple[Signal, Connection]]
    ) -> Iterator[AnyDelivery | FailedDelivery]:
        """One row after another, each to all receivers that are due, with copies of their own."""
        sends: list[_Send] = [
            (signal, (connection,), {**self.arguments, "signal": signal})
            for signal, connection in due
        ]
        extras = self.extras if self.has_extras else repeat(NO_EXTRAS)
        for key, values, extra in zip(self.keys, self.values, extras, strict=False):
            for send in sends:
                yield self._delivery(send, key, values, extra)

    def _delivery(
        self, send: _Send, key: Any, values: tuple[Any, ...], extra: Mapping[str, Any]
    ) -> AnyDelivery | FailedDelivery:
        signal, connections, shared = send
        if extra:
            extra = kept_extras(extra)
        if self.provenance:
            extra = {**extra, PROVENANCE: self.provenance}
        try:
            instance = thawed(self.columns, key, values)
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises
            failed = Delivery(signal, self.sender, connections, {**shared}, extras=extra)
            return FailedDelivery(failed, error)
        return signal, self.sender, connections, {**shared, "instance": instance}, (), extra

"""The durable receivers of this process, by the names under which their rows are stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from aksara_signals.contrib.outbox.options import Durable, options_of
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.connections.durable import durable_connections
from aksara_signals.dispatch.receivers.identity import same_receiver
from aksara_signals.dispatch.receivers.naming import describe_receiver
from aksara_signals.dispatch.signal import Signal
from aksara_signals.exceptions import OutboxError


@dataclass(frozen=True, slots=True, eq=False)
class ReceiverEntry:
    """One durable receiver, with everything it is connected to."""

    name: str
    options: Durable
    """Those of its first connection that was made with ``Durable``; ``include`` is that of each
    connection."""
    connections: tuple[tuple[Signal, Connection], ...]
    """In order of connection, those of the receiver's last definition first."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which its rows may be stored: former ones, oldest first, then its own."""
        return (*self.options.formerly, self.name)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name is one of the patterns, in which ``*`` is any text."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def durable_receivers() -> dict[str, ReceiverEntry]:
    """The durable receivers that are connected now, by name.

    Raises:
        OutboxError: A former name of one receiver is the name, or a former name, of another one.
    """
    found: dict[str, list[tuple[Signal, Connection]]] = {}
    for signal, connection in durable_connections():
        name = connection.durable_name
        if name is not None:
            found.setdefault(name, []).append((signal, connection))
    entries = {name: _entry(name, members) for name, members in found.items()}
    owners = dict.fromkeys(entries, "")
    for entry in entries.values():
        for name in entry.options.formerly:
            if name in owners:
                first, other = entry.connections[0][1].receiver, owners[name] or name
                raise OutboxError(
                    f"durable receiver {describe_receiver(first)} takes over the former name "
                    f"{name!r}, which belongs to the durable receiver {other!r}: remove it from "
                    f"formerly=, or rename that receiver"
                )
            owners[name] = entry.name
    return entries


def _entry(name: str, members: list[tuple[Signal, Connection]]) -> ReceiverEntry:
    # After a reload, connections of the old function may be left on signals to which the new one
    # isn't connected yet. The last definition counts.
    last = max(members, key=lambda each: each[1].number)[1].receiver
    members = sorted(
        members, key=lambda each: (not same_receiver(each[1].receiver, last), each[1].number)
    )
    given = [each.durable for _, each in members if not isinstance(each.durable, str)]
    options = options_of(given[0] if given and given[0] is not None else name)
    return ReceiverEntry(name, options, tuple(members))


def find_connection(entry: ReceiverEntry, type_name: str, sender: Any) -> tuple[Signal, Connection]:
    """The connection through which a row reached its receiver, or the most similar one there is.

    Args:
        entry: The receiver.
        type_name: The name of the signal in the row.
        sender: The sender, as far as it is known.
    """
    of_signal = [each for each in entry.connections if each[0].display_name == type_name]
    for signal, connection in of_signal:
        if connection.sender_key.matches(sender, connection.exact):
            return signal, connection
    return (of_signal or entry.connections)[0]

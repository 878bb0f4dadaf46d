"""Read the live connections into frozen plain values."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aksara_signals import all_signals, lookup
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.connections.options import FILTERS
from aksara_signals.dispatch.connections.routing import Plan
from aksara_signals.dispatch.receivers.identity import names_of
from aksara_signals.dispatch.receivers.naming import nearest
from aksara_signals.dispatch.senders import classes_named
from aksara_signals.dispatch.signal import Signal
from aksara_signals.exceptions import InvalidSenderError
from aksara_signals.introspection.names import (
    Place,
    SenderName,
    place_of_connection,
    plain,
    plain_filter,
    sender_name,
)
from aksara_signals.types import DURABLE, IMMEDIATE, Sender

__all__ = ["ReceiverEntry", "collect"]

_DEFAULTS: dict[str, Any] = {
    "priority": 0,
    "phase": IMMEDIATE,
    "concurrent": False,
    "created": None,
    "fields": None,
    "transition": None,
    "weak": False,
    "exact": False,
    "dispatch_uid": None,
    "coalesce": False,
    "timeout_seconds": None,
    "durable_name": None,
    "statements": False,
}
"""By the name of the attribute."""
_NAMES = {"durable_name": "durable"}
"""What an option is called, where that differs from the attribute."""


@dataclass(frozen=True, slots=True)
class ReceiverEntry:
    """One connection."""

    signal: str
    sender: SenderName
    receiver: Place
    is_async: bool
    options: Mapping[str, Any] = field(hash=False)
    """Only those that differ from the default, with values that JSON can hold."""

    @property
    def options_text(self) -> str:
        """The options as text."""
        return ", ".join(f"{name}={value}" for name, value in self.options.items())

    def as_json(self) -> dict[str, Any]:
        """The entry as plain values with stable keys."""
        return {
            "signal": self.signal,
            "sender": self.sender.name,
            "sender_kind": self.sender.kind.value,
            "receiver": self.receiver.name,
            "file": self.receiver.file,
            "line": self.receiver.line,
            "async": self.is_async,
            "options": dict(self.options),
        }


def collect(signal: str | None = None, sender: str | None = None) -> list[ReceiverEntry]:
    """List the connected receivers.

    Args:
        signal: Only signals of this name.
        sender: Only receivers that this sender reaches: a class or string by its name or path, a
            table by its name, a relationship as ``Post.tags``.

    Returns:
        The receivers of each signal in call order; the signals in the order they were made.

    Raises:
        UnknownSignalError: No signal has that name.
        InvalidSenderError: No sender has that name.
        AmbiguousSenderError: Several classes have the name that a receiver was connected to.
    """
    if signal is not None:
        lookup(signal)
    chosen = [each for each in all_signals() if signal in (None, each.name)]
    if sender is None:
        return [_entry(each, one) for each in chosen for one in _in_call_order(each.connections)]
    senders = _senders_named(sender)
    entries: list[ReceiverEntry] = []
    for each in chosen:
        found = {id(one): one for who in senders for one in each.connections_for(who)}
        entries += [_entry(each, one) for one in _in_call_order(tuple(found.values()))]
    return entries


def _in_call_order(connections: tuple[Connection, ...]) -> tuple[Connection, ...]:
    return Plan(tuple(sorted(connections, key=lambda each: -each.priority))).all_connections


def _entry(signal: Signal, connection: Connection) -> ReceiverEntry:
    options = {
        _NAMES.get(name, name): (plain_filter if name in FILTERS else plain)(value)
        for name, default in _DEFAULTS.items()
        if (value := getattr(connection, name)) != default
        and not (name == "phase" and value == DURABLE)  # durable= says so
    }
    return ReceiverEntry(
        signal=signal.display_name,
        sender=sender_name(connection.sender),
        receiver=place_of_connection(connection),
        is_async=connection.is_async,
        options=options,
    )


def _senders_named(name: str) -> list[Sender]:
    known = {id(each): each for each in _known_senders()}.values()
    found: list[Sender] = [each for each in known if name in _titles(each)]
    for cls in (*classes_named(name), *_imported(name)):
        if cls not in found:
            found.append(cls)
    if found:
        return found
    titles = [title for each in known for title in _titles(each)]
    raise InvalidSenderError(
        f"no sender is named {name!r}{nearest(name, titles)}; give the name or the "
        f"dotted path of a class, a string sender, a table, or a relationship such as Post.tags"
    )


def _known_senders() -> Iterator[Sender]:
    for signal in all_signals():
        for connection in signal.connections:
            if (sender := connection.sender) is not None:
                yield sender


def _titles(sender: Sender) -> tuple[str, ...]:
    """The strings by which a sender can be named on the command line."""
    if isinstance(sender, type):
        return names_of(sender)
    name = sender_name(sender).name or ""
    return name, ".".join(name.split(".")[-2:])


def _imported(path: str) -> Iterator[type]:
    """The class at a dotted path, if its module has been imported."""
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:length]))
        if module is not None:
            found: Any = module
            for part in parts[length:]:
                found = getattr(found, part, None)
            if isinstance(found, type):
                yield found
            return

"""One call of a durable receiver: what it is made of, and what the receiver is called with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import MetaData
from sqlalchemy.orm import Session

from aksara_signals.contrib.outbox.events import DurableEvent, arguments_of, child_of, event_of
from aksara_signals.contrib.outbox.message import Message
from aksara_signals.contrib.outbox.models import find_model
from aksara_signals.contrib.outbox.registry import ReceiverEntry, find_connection
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.delivery.delivery import Delivery
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.dispatch.signal import Signal
from aksara_signals.exceptions import OutboxError
from aksara_signals.types import Sender


class MissingRowError(OutboxError):
    """The row that a receiver names as ``instance`` is gone, and ``missing="dead"``."""


@dataclass(slots=True, eq=False)
class Call:
    """One call of a receiver."""

    entry: ReceiverEntry
    signal: Signal
    connection: Connection
    sender: Sender
    event: DurableEvent
    is_started: bool = False
    """Whether the receiver was called. If not, what has failed is not the receiver."""

    @property
    def names_session(self) -> bool:
        """Whether the receiver runs inside the transaction that marks the call as done."""
        return "session" in self.connection.shape.named

    @property
    def needs_loading(self) -> bool:
        """Whether the receiver is given instances."""
        named = self.connection.shape.named
        return "instance" in named or "child" in named

    def delivery(self, arguments: dict[str, Any]) -> Delivery:
        """The delivery of arguments to the receiver, which is called next."""
        self.is_started = True
        arguments["signal"] = self.signal
        arguments["sender"] = self.sender
        return Delivery(self.signal, self.sender, (self.connection,), arguments)


def prepare_call(entry: ReceiverEntry, message: Message, metadata: MetaData) -> Call:
    """Read a row or a message, after the upgrades that bring it to the version of the receiver.

    Raises:
        Exception: What an upgrade raises.
        OutboxError: An upgrade returns no payload.
    """
    options = entry.options
    payload = None
    if message.version < options.version and options.upgrade:
        payload = _upgraded(entry, message)
    event = event_of(message, payload)
    if payload is not None:
        event = replace(event, version=options.version)
    sender: Any = find_model(message.aggregatetype) or message.aggregatetype
    table = event.data.get("table")
    if table is not None:  # the links of a relationship
        sender = metadata.tables.get(table)
    signal, connection = find_connection(entry, message.type, sender)
    if isinstance(sender, str) or sender is None:
        known = connection.sender  # may be any object, of which the row has only a description
        if known is not None and describe_sender(known)[:500] in (sender, None):
            sender = known
    return Call(entry, signal, connection, sender, event)


def _upgraded(entry: ReceiverEntry, message: Message) -> Mapping[str, Any]:
    payload: Any = message.payload
    for version in range(message.version, entry.options.version):
        upgrade = entry.options.upgrade.get(version)
        if upgrade is None:
            continue  # the change of version didn't change what is stored
        payload = upgrade(payload)
        if not isinstance(payload, dict):
            raise OutboxError(
                f"the upgrade of version {version} of the durable receiver {entry.name!r} has "
                f"returned {describe_sender(payload)}; return the dict that it was given, changed, "
                f"or a new one"
            )
    return payload  # type: ignore[no-any-return]


def load_arguments(session: Session | None, call: Call) -> dict[str, Any] | None:
    """The arguments of a receiver; ``session``, if the signal has it, is None.

    Args:
        session: Loads the instances that the receiver names; may be None if it names none.

    Returns:
        None if the call is skipped, because the row of ``instance`` is gone.

    Raises:
        MissingRowError: It is gone, and the receiver wants a dead letter then.
        OutboxError: Its class isn't mapped in this process.
    """
    event, named = call.event, call.connection.shape.named
    arguments = arguments_of(event, named)
    defaults = call.signal.payload.defaults
    for name in named & defaults.keys():
        arguments.setdefault(name, defaults[name])
    if "session" in call.signal.payload.names:
        arguments["session"] = None
    if "instance" in named and "instance" not in arguments:
        arguments["instance"] = instance = _load(session, event)
        if instance is None and event.key:
            missing = call.entry.options.missing
            if missing == "skip":
                return None
            if missing == "dead":
                raise MissingRowError(
                    f"the row of {event.model} that event {event.id} is about is gone, and "
                    f"durable receiver {call.entry.name!r} was connected with missing='dead'; "
                    f"discard the dead letter, or write the row again and requeue it"
                )
    if "child" in named and "child" not in arguments and session is not None:
        model, key = child_of(event)
        arguments["child"] = session.get(model, key) if model is not None and key else None
    return arguments


def _load(session: Session | None, event: DurableEvent) -> Any:
    return event.load_sync(session) if event.key and session is not None else None

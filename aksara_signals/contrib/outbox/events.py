"""What a durable receiver is given as ``event``, and what is made of it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from aksara_signals import signals
from aksara_signals.contrib.outbox.cloudevents import cloudevent_of, message_of
from aksara_signals.contrib.outbox.encoding import Encoding, restored_key
from aksara_signals.contrib.outbox.message import Message
from aksara_signals.contrib.outbox.models import find_model
from aksara_signals.dispatch.frozen import FrozenDict
from aksara_signals.dispatch.provenance import ProvenanceValues, provenance_of
from aksara_signals.dispatch.receivers.payload import ANYTHING
from aksara_signals.dispatch.signal import Signal
from aksara_signals.exceptions import OutboxError

FORMAT = 1
"""The version of the format of payloads, stored in each."""


@dataclass(frozen=True, slots=True)
class DurableEvent:
    """What is stored of a signal for one durable receiver."""

    id: UUID
    """The same for all receivers of one send, and for every attempt: an idempotency key."""
    type: str
    """The name of the signal."""
    receiver: str
    """The name under which it is stored."""
    model: str
    """Module and qualified name of the row's class; of a custom signal, the sender in words."""
    key: tuple[Any, ...]
    """The primary key of the row; empty if the signal isn't about a single row."""
    created: bool | None = None
    """Whether the row was inserted; None if the signal doesn't say."""
    changed: frozenset[str] = frozenset()
    """The names of the columns that were set or changed."""
    values: Mapping[str, Any] = field(default_factory=FrozenDict, hash=False)
    """The values, at the send, of the columns named in ``Durable(include=…)``, as JSON."""
    data: Mapping[str, Any] = field(default_factory=FrozenDict, hash=False)
    """Whatever else was sent, as JSON."""
    provenance: Mapping[str, Any] = field(default_factory=ProvenanceValues, hash=False)
    """The values of :class:`~aksara_signals.provenance` at the send, as a mapping; empty without
    any."""
    attempt: int = 1
    """1 for the first call, and one more after each failure."""
    sent_at: datetime | None = None
    """The time of the send, by the clock of the database; with a time zone."""
    headers: Mapping[str, str] = field(default_factory=FrozenDict, hash=False)
    """The trace context and other headers."""
    version: int = 1
    """The ``version`` of the receiver that it was stored for, or to which it was upgraded."""
    generation: int = 0
    """How many times it was replayed."""
    lane: int | None = None
    """The same for all events that are delivered in order, to be used as a partition key; None for
    ``ordered=False``."""

    async def load(self, session: AsyncSession | Session) -> Any:
        """The row as it is now; None if it is gone.

        Args:
            session: The session to load it in.

        Raises:
            OutboxError: The event isn't about a row, or its class isn't mapped in this process.
        """
        if isinstance(session, AsyncSession):
            return await session.get(self._model(), self.key)
        return session.get(self._model(), self.key)

    def as_cloudevent(self) -> dict[str, Any]:
        """The event as a CloudEvent 1.0 in the JSON format, which :func:`receive` takes.

        Its ``id`` is ``<id>:<receiver>:<generation>``, ``source`` the class, ``subject`` the key as
        JSON, ``partitionkey`` the lane, and ``data`` what is stored, ``provenance`` included.

        Source: CloudEvents 1.0, with its Distributed Tracing and Partitioning extensions.
        """
        return cloudevent_of(message_from(self))

    @classmethod
    def from_cloudevent(cls, event: Mapping[str, Any] | str | bytes) -> DurableEvent:
        """The event that :meth:`as_cloudevent` was made of.

        Args:
            event: A CloudEvent as a dict or as JSON.

        Raises:
            OutboxError: It is not a CloudEvent, or not one of an outbox.
        """
        return event_of(message_of(event))

    def load_sync(self, session: Session) -> Any:
        """As :meth:`load`, from code that can't await."""
        return session.get(self._model(), self.key)

    def _model(self) -> Any:
        model = find_model(self.model)
        if model is None or not self.key:
            raise OutboxError(
                f"event {self.id} of {self.type} can't be loaded: "
                + (
                    f"no class {self.model} is mapped in this process; import its module"
                    if self.key
                    else "it isn't about a single row; read its data"
                )
            )
        return model


def event_of(message: Message, payload: Mapping[str, Any] | None = None) -> DurableEvent:
    """The event in a row, or in a message of a broker.

    Args:
        message: The row or the message.
        payload: Its payload after an upgrade, if it was upgraded.
    """
    stored = message.payload if payload is None else payload
    model = find_model(message.aggregatetype)
    key = stored.get("key") or ()
    if key:
        key = restored_key(None if model is None else inspect(model), key)
    return DurableEvent(
        id=message.id,
        type=message.type,
        receiver=message.receiver,
        model=message.aggregatetype,
        key=tuple(key),
        created=stored.get("created"),
        changed=frozenset(stored.get("changed") or ()),
        values=FrozenDict(stored.get("values") or {}),
        data=FrozenDict(stored.get("data") or {}),
        provenance=provenance_of(stored.get("provenance")),
        attempt=message.attempts + 1,
        sent_at=message.created_at,
        headers=FrozenDict(message.headers or {}),
        version=message.version,
        generation=message.generation,
        lane=message.lane,
    )


_PLAIN = Encoding()


def message_from(event: DurableEvent) -> Message:
    """The message that an event was made of."""
    payload: dict[str, Any] = {"v": FORMAT, "key": _PLAIN.plain(event.key, "the primary key")}
    if event.created is not None:
        payload["created"] = event.created
    if event.changed:
        payload["changed"] = sorted(event.changed)
    for name in ("values", "data", "provenance"):
        value = getattr(event, name)
        if value:
            payload[name] = dict(value)
    return Message(
        id=event.id,
        receiver=event.receiver,
        type=event.type,
        aggregatetype=event.model,
        lane=event.lane,
        payload=payload,
        headers=dict(event.headers) or None,
        version=event.version,
        generation=event.generation,
        created_at=event.sent_at or datetime.now(UTC),
        attempts=event.attempt - 1,
    )


_SETS = ("update_fields", "fields")
_BUILT_IN = frozenset(signals.__all__)


def is_built_in(signal: Signal) -> bool:
    """Whether a signal is one of the library's, whose arguments have meanings of their own."""
    return signal.payload.sent_by != ANYTHING


def arguments_of(event: DurableEvent, names: frozenset[str]) -> dict[str, Any]:
    """The arguments of a receiver that an event holds; not ``signal``, ``sender``, ``session``.

    Args:
        event: The event.
        names: The arguments that the receiver names.
    """
    arguments: dict[str, Any] = {"event": event}
    if event.created is not None or "created" in names:
        arguments["created"] = event.created
    if event.type not in _BUILT_IN:
        return {**event.data, **arguments}
    for name, value in event.data.items():
        if name in _SETS:
            arguments[name] = None if value is None else frozenset(value)
        elif name == "pk_set":
            arguments[name] = _keys(event.data.get("model"), value)
        elif name == "model":
            arguments[name] = find_model(value)
        elif name not in ("keys", "child", "child_model"):
            arguments[name] = value
    return arguments


def child_of(event: DurableEvent) -> tuple[type | None, tuple[Any, ...]]:
    """The class and the key of the ``child`` of a relation signal; None and () if there is none."""
    model = find_model(event.data.get("child_model", ""))
    key = event.data.get("child")
    if model is None or not key:
        return model, ()
    return model, restored_key(inspect(model), key)


def _keys(model_name: Any, keys: Any) -> frozenset[Any]:
    model = find_model(model_name) if isinstance(model_name, str) else None
    mapper = None if model is None else inspect(model)
    several = (restored_key(mapper, each if isinstance(each, list) else [each]) for each in keys)
    return frozenset(each[0] if len(each) == 1 else each for each in several)

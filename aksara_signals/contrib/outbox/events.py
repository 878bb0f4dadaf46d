"""What a durable receiver is given as ``event``, and what is made of it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from aksara_signals import signals
from aksara_signals.contrib.outbox.encoding import restored_key
from aksara_signals.contrib.outbox.frozen import FrozenDict
from aksara_signals.contrib.outbox.models import find_model
from aksara_signals.contrib.outbox.rows.reading import Row
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
    provenance: Mapping[str, Any] = field(default_factory=FrozenDict, hash=False)
    """Reserved: what the sender says about where the change comes from."""
    attempt: int = 1
    """1 for the first call, and one more after each failure."""
    sent_at: datetime | None = None
    """The time of the send, by the clock of the database; with a time zone."""
    headers: Mapping[str, str] = field(default_factory=FrozenDict, hash=False)
    """The trace context and other headers."""
    version: int = 1
    """The ``version`` of the receiver that it was stored for, or to which it was upgraded."""

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


def event_of(row: Row, payload: Mapping[str, Any] | None = None) -> DurableEvent:
    """The event in a row.

    Args:
        row: The row.
        payload: Its payload after an upgrade, if it was upgraded.
    """
    stored = row.payload if payload is None else payload
    model = find_model(row.aggregatetype)
    key = stored.get("key") or ()
    if key:
        key = restored_key(None if model is None else inspect(model), key)
    created_at = row.created_at
    return DurableEvent(
        id=row.id,
        type=row.type,
        receiver=row.receiver,
        model=row.aggregatetype,
        key=tuple(key),
        created=stored.get("created"),
        changed=frozenset(stored.get("changed") or ()),
        values=FrozenDict(stored.get("values") or {}),
        data=FrozenDict(stored.get("data") or {}),
        provenance=FrozenDict(stored.get("provenance") or {}),
        attempt=row.attempts + 1,
        sent_at=created_at,
        headers=FrozenDict(row.headers or {}),
        version=row.version,
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

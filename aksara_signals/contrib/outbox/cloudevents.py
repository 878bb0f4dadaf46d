"""Messages as CloudEvents 1.0, and back.

A CloudEvent is a dict of JSON values. Its attributes ``partitionkey`` and ``traceparent`` are those
of CloudEvents' documented extensions; ``receiver``, ``generation`` and ``version`` are ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID

from aksara_signals.contrib.outbox.message import Message
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import OutboxError

CloudEvent = dict[str, Any]

_VERSION = "1.0"
_CONTEXT = frozenset(
    ("specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema")
)
"""The attributes that CloudEvents defines itself."""
_OWN = frozenset(("receiver", "generation", "version", "partitionkey", "data", "data_base64"))
_ATTRIBUTE = re.compile(r"[a-z0-9]{1,20}")
_NO_CHARACTERS = "".join(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF))
_TEXT = re.compile(
    f"[^\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\ufdd0-\\ufdef{_NO_CHARACTERS}]+",
)
"""What the value of an attribute may be: neither control characters nor what is no character."""
_UUID_LENGTH = 36


def cloudevent_of(message: Message) -> CloudEvent:
    """A message as a CloudEvent in the JSON format."""
    event: CloudEvent = {
        "specversion": _VERSION,
        # One send has one id for all of its receivers; here, each of them has its own event.
        "id": f"{message.id}:{message.receiver}:{message.generation}",
        "source": f"/{quote(message.aggregatetype, safe='.')}",
        "type": message.type,
        "time": message.created_at.isoformat(),
        "datacontenttype": "application/json",
        "receiver": message.receiver,
        "generation": message.generation,
        "version": message.version,
    }
    key = message.payload.get("key")
    if key:
        event["subject"] = json.dumps(key)
    if message.lane is not None:
        event["partitionkey"] = str(message.lane)
    data, others = dict(message.payload), {}
    for name, value in (message.headers or {}).items():
        if _is_attribute(name, value):
            event[name] = value
        else:
            others[name] = value
    if others:
        data["headers"] = others
    event["data"] = data
    return event


def message_of(event: Mapping[str, Any] | str | bytes, attempt: int = 1) -> Message:
    """The message in a CloudEvent.

    Args:
        event: The CloudEvent, or its JSON.
        attempt: 1 for the first delivery, and one more for each repetition.

    Raises:
        OutboxError: It is not a CloudEvent, or not one of an outbox.
    """
    found = _parsed(event)
    try:
        data = _payload(found["data"])
        headers = {
            name: value
            for name, value in found.items()
            if name not in _CONTEXT | _OWN and isinstance(value, str)
        }
        headers.update(data.pop("headers", None) or {})
        lane = found.get("partitionkey")
        return Message(
            id=UUID(found["id"][:_UUID_LENGTH]),
            receiver=_text(found["receiver"]),
            type=_text(found["type"]),
            aggregatetype=unquote(found["source"].removeprefix("/")),
            lane=None if lane is None else int(lane),
            payload=data,
            headers=headers or None,
            version=int(found.get("version", 1)),
            generation=int(found.get("generation", 0)),
            created_at=datetime.fromisoformat(found["time"]),
            attempts=attempt - 1,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise OutboxError(
            f"a CloudEvent was received that is not one of an outbox ({type(error).__name__}: "
            f"{error}); give receive() what a relay has published, as it was"
        ) from error


def _parsed(event: Any) -> Mapping[str, Any]:
    if isinstance(event, (str, bytes, bytearray)):
        try:
            event = json.loads(event)
        except (ValueError, RecursionError) as error:
            raise OutboxError(f"a message was received that is not JSON: {error}") from error
    if not isinstance(event, Mapping) or event.get("specversion") != _VERSION:
        raise OutboxError(
            f"a message was received that is not a CloudEvent {_VERSION}, but "
            f"{describe_sender(event)[:200]}; give receive() what a relay has published, as it was"
        )
    return event


def _is_attribute(name: str, value: Any) -> bool:
    """Whether a header can be an attribute of its own."""
    if not isinstance(value, str) or name in _CONTEXT | _OWN:
        return False
    return bool(_ATTRIBUTE.fullmatch(name) and _TEXT.fullmatch(value))


_SHAPES: dict[str, type | tuple[type, ...]] = {
    "key": (list, tuple),
    "changed": (list, tuple),
    "values": Mapping,
    "data": Mapping,
    "provenance": Mapping,
    "headers": Mapping,
}
"""What a payload may have, if it isn't left out."""


def _payload(data: Any) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise TypeError("its data is not an object")
    for name, shape in _SHAPES.items():
        value = data.get(name)
        if value is not None and not isinstance(value, shape):
            raise TypeError(f"its data has another {name!r}")
    return dict(data)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("an attribute is not a text")
    return value

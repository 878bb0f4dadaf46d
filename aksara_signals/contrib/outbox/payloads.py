"""What the row of a durable receiver holds: what was sent, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Table

from aksara_signals.contrib.outbox.encoding import Encoding
from aksara_signals.contrib.outbox.events import FORMAT, is_built_in
from aksara_signals.contrib.outbox.models import model_name
from aksara_signals.contrib.outbox.options import Durable
from aksara_signals.dispatch.json_values import UnfitValueError
from aksara_signals.dispatch.provenance import current_provenance
from aksara_signals.dispatch.receivers.identity import type_name
from aksara_signals.dispatch.receivers.naming import describe_sender, nearest
from aksara_signals.exceptions import SignalPayloadError
from aksara_signals.orm.bridge.states import State, state_of
from aksara_signals.orm.outcome.durable import DurableSend
from aksara_signals.orm.outcome.snapshots import Snapshot

_STORED_OTHERWISE = frozenset(("signal", "sender", "instance", "session", "created"))
"""Arguments that aren't part of ``data``."""
_BY_KEY = frozenset(("instances", "objects", "child", "model"))
"""Arguments of built-in signals that hold instances and classes; keys and names are stored."""
_MAX_TYPE = 200
"""How long the name of a signal may be: SQLite, unlike PostgreSQL, doesn't check the column."""


def model_of(send: DurableSend, state: State | None, encoding: Encoding) -> str:
    """The name of the class that a send is about, or else what its sender is called.

    Raises:
        SignalPayloadError: The sender can't be stored.
    """
    if state is not None:
        return model_name(state.class_)
    sender = send.sender
    if isinstance(sender, type):
        return model_name(sender)
    if not isinstance(sender, str):
        return describe_sender(sender)[:500]
    try:
        text: str = encoding.plain(sender, "the sender")
    except UnfitValueError as error:
        raise _refusal(send, error) from error
    return text[:500]


def payload_of(send: DurableSend, state: State | None, encoding: Encoding) -> dict[str, Any]:
    """What is stored for all receivers of a send; values of columns are added for each.

    Raises:
        SignalPayloadError: An argument can't be stored.
    """
    payload = send.payload
    try:
        _require_short_name(send)
        instance = payload.get("instance")
        if instance is not None:
            _require_row(instance, state)
        key = None if state is None else _plain_key(state, encoding)
        stored: dict[str, Any] = {"v": FORMAT, "key": key}
        created = payload.get("created")
        if created is not None:
            stored["created"] = encoding.plain(created, "created")
        if send.changed:
            stored["changed"] = sorted(send.changed)
        provenance = current_provenance()
        if provenance:
            stored["provenance"] = dict(provenance)
        data = _data_of(send, encoding)
        if data:
            stored["data"] = data
    except UnfitValueError as error:
        raise _refusal(send, error) from error
    return stored


def _plain_key(state: State, encoding: Encoding) -> list[Any]:
    identity = state.key
    if identity is None:
        return []
    key = identity[1]
    if len(key) == 1 and type(key[0]) is int:  # most keys, for each row of a flush
        return [key[0]]
    plain: list[Any] = encoding.plain(key, "the primary key")
    return plain


def _require_short_name(send: DurableSend) -> None:
    if len(send.signal.display_name) > _MAX_TYPE:
        raise UnfitValueError(f"the name of the signal has more than {_MAX_TYPE} characters")


def _require_row(instance: object, state: State | None) -> None:
    """Reject an instance that no worker could load: what is sent about it would be lost."""
    if state is None:
        raise UnfitValueError(f"instance is {type_name(instance)}, which is no mapped instance")
    if state.key is None:
        raise UnfitValueError("instance has no primary key yet; flush the session before the send")


def _data_of(send: DurableSend, encoding: Encoding) -> dict[str, Any]:
    payload = send.payload
    if not is_built_in(send.signal):
        return {
            name: encoding.plain(value, name)
            for name, value in payload.items()
            if name not in _STORED_OTHERWISE
        }
    defaults = send.signal.payload.defaults
    data: dict[str, Any] = {
        name: encoding.plain(value, name)
        for name, value in payload.items()
        if name not in _STORED_OTHERWISE
        and name not in _BY_KEY
        and not (name in defaults and value is None)
        and not (name == "raw" and value is False)
    }
    if "instances" in payload:
        states = [(each, state_of(each)) for each in payload["instances"]]
        for each, state in states:
            _require_row(each, state)
        data["keys"] = [_plain_key(state, encoding) for _, state in states if state is not None]
    child = state_of(payload.get("child"))
    if child is not None:
        data["child_model"] = model_name(child.class_)
        data["child"] = _plain_key(child, encoding) or None
    model = payload.get("model")
    if isinstance(model, type):
        data["model"] = model_name(model)
    sender = send.sender
    if isinstance(sender, Table):
        data["table"] = sender.key
    return data


def values_of(
    send: DurableSend, options: Durable, state: State | None, encoding: Encoding
) -> Mapping[str, Any]:
    """The values of the columns to include.

    Raises:
        SignalPayloadError: There is no such column, or its value isn't loaded or can't be stored.
    """
    if state is None:
        return {}
    snapshot, missing = Snapshot(state), object()
    values: dict[str, Any] = {}
    for name in options.include:
        value = snapshot.get(name, missing)
        if value is missing:
            columns = state.mapper.column_attrs.keys()
            reason = (
                "isn't loaded, because it is deferred: leave it out, or load it before"
                if name in columns
                else f"is no column of the class{nearest(name, columns)}"
            )
            raise SignalPayloadError(
                f"{send.signal.display_name} can't be stored for the durable receiver "
                f"{options.name!r}: {name!r} of include= {reason}"
            )
        try:
            values[name] = encoding.plain(value, f"the column {name}")
        except UnfitValueError as error:
            raise _refusal(send, error) from error
    return values


def _refusal(send: DurableSend, error: UnfitValueError) -> SignalPayloadError:
    names = ", ".join(repr(each.durable_name) for each in send.connections)
    return SignalPayloadError(
        f"{send.signal.display_name} can't be stored for the durable receivers {names}: {error}"
    )

"""From what is sent to durable receivers to rows in the outbox."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from sqlalchemy import Connection as DatabaseConnection
from sqlalchemy import Engine, MetaData, Table, delete, insert, inspect
from sqlalchemy.exc import DBAPIError, UnboundExecutionError
from sqlalchemy.orm import Mapper, Session

from aksara_signals.contrib.outbox.encoding import Encoding, UnfitValueError
from aksara_signals.contrib.outbox.events import FORMAT, is_built_in
from aksara_signals.contrib.outbox.hooks import header_hooks
from aksara_signals.contrib.outbox.models import model_name
from aksara_signals.contrib.outbox.options import Durable, options_of
from aksara_signals.contrib.outbox.rows.tables import Tables
from aksara_signals.dispatch.receivers.identity import type_name
from aksara_signals.dispatch.receivers.naming import describe_receiver, describe_sender, nearest
from aksara_signals.exceptions import OutboxError, SignalPayloadError
from aksara_signals.orm.bridge.states import State, state_of
from aksara_signals.orm.outcome.durable import DurableSend
from aksara_signals.orm.outcome.snapshots import Snapshot
from aksara_signals.types import DurableOptions

_STORED_OTHERWISE = frozenset(("signal", "sender", "instance", "session", "created"))
"""Arguments that aren't part of ``data``."""
_BY_KEY = frozenset(("instances", "objects", "child", "model"))
"""Arguments of built-in signals that hold instances and classes; keys and names are stored."""
_DELETED_AT_ONCE = 10_000
"""How many rows one DELETE names: a statement has at most 32,767 parameters."""
_MAX_TYPE = 200
"""How long the name of a signal may be: SQLite, unlike PostgreSQL, doesn't check the column."""
_UNKNOWN_TABLE = ("42P01", "42703")
"""PostgreSQL's codes for a table and a column that don't exist."""


class Target(Protocol):
    """An outbox, as far as writing needs to know it."""

    @property
    def metadata(self) -> MetaData:
        """The metadata that its tables are in."""
        ...

    @property
    def tables(self) -> Tables:
        """Its tables."""
        ...

    @property
    def encoding(self) -> Encoding:
        """Its encoders."""
        ...

    @property
    def deletes(self) -> bool:
        """Whether rows are deleted as soon as they are inserted, for change data capture."""
        ...

    def written(self, session: Session, engine: Engine) -> None:
        """Note that rows were written, which workers may run once the session has committed."""
        ...


class PreparedRow(NamedTuple):
    """A row to be inserted, and where."""

    target: Target
    mapper: Mapper[Any] | None
    """Determines the database; None for that of the outbox's table."""
    instance: object | None
    """What horizontal sharding chooses the database by."""
    values: dict[str, Any]


class OutboxWriter:
    """Writes the rows of all installed outboxes."""

    def __init__(self) -> None:
        self.targets: list[Target] = []
        """The installed outboxes, in the order of their installation."""

    def prepare(self, sends: Iterable[DurableSend]) -> list[PreparedRow]:
        """The rows, in order, with values of this moment.

        Raises:
            SignalPayloadError: Something that is sent can't be stored.
            OutboxError: No outbox is installed.
        """
        headers: dict[str, str] = {}
        for hook in header_hooks:
            hook(headers)
        return [row for send in sends for row in self._rows(send, headers)]

    def _rows(self, send: DurableSend, headers: dict[str, str]) -> Iterable[PreparedRow]:
        payload = send.payload
        state = state_of(payload.get("instance"))
        mapper = _mapper_of(send.sender) if state is None else state.mapper
        target = self._target(mapper, send)
        model = _model_of(send, state, target.encoding)
        stored = _payload_of(send, state, target.encoding)
        key = stored["key"]
        about = None if key is None else json.dumps(key)
        identifier = UUID(bytes=os.urandom(16), version=4)
        instance = None if state is None else state.obj()
        for connection in send.connections:
            durable: Any = connection.durable
            options = _options(durable)
            if options.include:
                values = _values_of(send, options, state, target.encoding)
                own = {**stored, "values": values}
            else:
                own = stored
            name = options.name
            lane = None
            if options.ordered:
                lane = lane_of(options.formerly[0] if options.formerly else name, model, about)
            yield PreparedRow(
                target,
                mapper,
                instance,
                {
                    "id": identifier,
                    "receiver": name,
                    "type": send.signal.display_name,
                    "aggregatetype": model,
                    "aggregateid": about,
                    "lane": lane,
                    "payload": own,
                    "headers": headers or None,
                    "version": options.version,
                },
            )

    def _target(self, mapper: Mapper[Any] | None, send: DurableSend) -> Target:
        if not self.targets:
            first = send.connections[0]
            raise OutboxError(
                f"receiver {describe_receiver(first.receiver)} (durable={first.durable_name!r}) "
                f"can't be sent anything, because no outbox is installed: call "
                f"Outbox(Base.metadata, modules=[…]).install() when the application starts"
            )
        if mapper is not None and len(self.targets) > 1:
            metadata = getattr(mapper.local_table, "metadata", None)
            for each in self.targets:
                if each.metadata is metadata:
                    return each
        return self.targets[0]

    def write(self, session: Session, rows: list[PreparedRow]) -> None:
        """Insert rows, in one statement for each database."""
        places: dict[tuple[int, DatabaseConnection], list[dict[str, Any]]] = {}
        targets: dict[int, Target] = {}
        connections: dict[Mapper[Any] | None, DatabaseConnection] = {}
        for target, mapper, instance, values in rows:
            connection = connections.get(mapper)
            if connection is None:
                connection = _connection(session, target, mapper, instance)
                if session.connection_callable is None:
                    connections[mapper] = connection
            targets[id(target)] = target  # alive, so that no address is used twice
            places.setdefault((id(target), connection), []).append(values)
        for (address, connection), found in places.items():
            target = targets[address]
            _insert(connection, target, found)
            target.written(session, connection.engine)


def _connection(
    session: Session, target: Target, mapper: Mapper[Any] | None, instance: object | None
) -> DatabaseConnection:
    """The connection on which the session writes the rows of a class.

    Raises:
        OutboxError: Nothing says which database that is.
    """
    if mapper is not None and session.connection_callable is not None:  # horizontal sharding
        return session.connection_callable(mapper, instance)
    written: Any = target.tables.outbox
    arguments: dict[str, Any] = {}
    if mapper is not None:  # as a flush asks
        mapper = mapper.base_mapper
        arguments["mapper"], written = mapper, mapper.local_table
    if isinstance(written, Table):  # a session may send everything but such statements to a replica
        arguments["clause"] = _insert_into(written)
    try:
        return session.connection(bind_arguments=arguments)
    except UnboundExecutionError as error:
        raise OutboxError(
            f"nothing can be stored for durable receivers: no database is bound for "
            f"{written}; send the signal with an instance=, or give the session "
            f"binds={{outbox.tables.outbox: …}}"
        ) from error


def _insert(connection: DatabaseConnection, target: Target, found: list[dict[str, Any]]) -> None:
    table = target.tables.outbox
    try:
        connection.execute(_insert_into(table), found)
        if target.deletes:
            identifiers = list({values["id"] for values in found})
            for start in range(0, len(identifiers), _DELETED_AT_ONCE):
                few = identifiers[start : start + _DELETED_AT_ONCE]
                connection.execute(delete(table).where(table.c.id.in_(few)))
    except DBAPIError as error:
        if is_missing(error):
            raise OutboxError(
                f"nothing can be stored for durable receivers: table {table.fullname} is missing, "
                f"or lacks a column ({type(error.orig).__name__}); create it by a migration "
                f"('alembic revision --autogenerate', 'alembic upgrade head') or by "
                f"metadata.create_all()"
            ) from error
        raise


@lru_cache(maxsize=32)
def _insert_into(table: Table) -> Any:
    return insert(table).inline()  # the generated key isn't needed


def is_missing(error: DBAPIError) -> bool:
    """Whether a statement has failed because a table or a column doesn't exist."""
    original: Any = error.orig
    code = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    text = str(original)
    return code in _UNKNOWN_TABLE or "no such table" in text or "has no column named" in text


@lru_cache(maxsize=1024)
def _options_of_name(name: str) -> Durable:
    return options_of(name)


def _options(durable: str | DurableOptions) -> Durable:
    return _options_of_name(durable) if isinstance(durable, str) else options_of(durable)


def lane_of(receiver: str, model: str, about: str | None) -> int:
    """The lane of a row: rows of one lane are delivered in order.

    Args:
        receiver: The oldest name of the receiver, so that a rename doesn't change the lane.
        model: The name of the class.
        about: The primary key as JSON, or None.
    """
    text = f"{receiver}\0{model}\0{about}".encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big", signed=True)


def _mapper_of(sender: Any) -> Mapper[Any] | None:
    found: Any = inspect(sender, raiseerr=False) if isinstance(sender, type) else None
    return found if isinstance(found, Mapper) else None


def _model_of(send: DurableSend, state: State | None, encoding: Encoding) -> str:
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


def _payload_of(send: DurableSend, state: State | None, encoding: Encoding) -> dict[str, Any]:
    """What is stored for all receivers of a send; values of columns are added for each."""
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


def _values_of(
    send: DurableSend, options: Durable, state: State | None, encoding: Encoding
) -> Mapping[str, Any]:
    """The values of the columns to include."""
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

"""Making the rows of durable receivers, and inserting them where their transaction is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from sqlalchemy import Connection as DatabaseConnection
from sqlalchemy import Engine, MetaData, Table, inspect
from sqlalchemy.exc import DBAPIError, UnboundExecutionError
from sqlalchemy.orm import Mapper, Session

from aksara_signals.contrib.outbox.encoding import Encoding
from aksara_signals.contrib.outbox.hooks import header_hooks, write_observers
from aksara_signals.contrib.outbox.options import Durable, options_of
from aksara_signals.contrib.outbox.payloads import model_of, payload_of, values_of
from aksara_signals.contrib.outbox.rows.errors import is_missing, missing_table
from aksara_signals.contrib.outbox.rows.inserting import delete_rows, insert_into, insert_rows
from aksara_signals.contrib.outbox.rows.tables import Tables
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.exceptions import OutboxError, SignalPayloadError
from aksara_signals.orm.bridge.dialects import mysql_number_of
from aksara_signals.orm.bridge.states import state_of
from aksara_signals.orm.outcome.durable import DurableSend
from aksara_signals.types import DurableOptions

_CHECK_FAILED = 4025
"""MariaDB's error of a CHECK."""


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
    send: DurableSend
    connection: Connection
    """That of the receiver."""


class OutboxWriter:
    """Writes the rows of all installed outboxes.

    Args:
        targets: The installed outboxes, in the order of their installation.
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = targets

    def prepare(self, sends: Iterable[DurableSend]) -> list[PreparedRow]:
        """The rows, in order, with values of this moment.

        Raises:
            SignalPayloadError: Something that is sent can't be stored.
        """
        headers: dict[str, str] = {}
        for hook in header_hooks:
            hook(headers)
        return [row for send in sends for row in self._rows(send, headers)]

    def _rows(self, send: DurableSend, headers: dict[str, str]) -> Iterable[PreparedRow]:
        payload = send.payload
        state = state_of(payload.get("instance"))
        mapper = _mapper_of(send.sender) if state is None else state.mapper
        target = self._target(mapper)
        model = model_of(send, state, target.encoding)
        stored = payload_of(send, state, target.encoding)
        key = stored["key"]
        about = None if key is None else json.dumps(key)
        identifier = UUID(bytes=os.urandom(16), version=4)
        instance = None if state is None else state.obj()
        for connection in send.connections:
            durable: Any = connection.durable
            options = _options(durable)
            if options.include:
                values = values_of(send, options, state, target.encoding)
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
                send,
                connection,
            )

    def _target(self, mapper: Mapper[Any] | None) -> Target:
        if mapper is not None and len(self._targets) > 1:
            metadata = getattr(mapper.local_table, "metadata", None)
            for each in self._targets:
                if each.metadata is metadata:
                    return each
        return self._targets[0]

    def write(self, session: Session, rows: list[PreparedRow]) -> None:
        """Insert rows, in one statement for each database."""
        places: dict[tuple[int, DatabaseConnection], list[dict[str, Any]]] = {}
        targets: dict[int, Target] = {}
        connections: dict[Mapper[Any] | None, DatabaseConnection] = {}
        for target, mapper, instance, values, _, _ in rows:
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
        for observe in write_observers:
            observe(session, rows)


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
        arguments["clause"] = insert_into(written)
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
        insert_rows(connection, table, found)
        if target.deletes:
            delete_rows(connection, table, found)
    except DBAPIError as error:
        if _is_unfit_json(error, table):
            raise SignalPayloadError(
                f"a payload for a durable receiver can't be stored in {table.fullname}: it is "
                f"nested too deeply for MariaDB, which takes 32 levels; send the keys, and let the "
                f"receiver load the rest"
            ) from error
        if is_missing(error):
            what = "nothing can be stored for durable receivers"
            raise missing_table(what, table, error) from error
        raise


def _is_unfit_json(error: DBAPIError, table: Table) -> bool:
    """Whether MariaDB has refused a value of a JSON column, which has a CHECK of its own name."""
    checks = (f"`{table.name}.{column}`" for column in ("payload", "headers"))
    text = str(error.orig)
    return mysql_number_of(error) == _CHECK_FAILED and any(check in text for check in checks)


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

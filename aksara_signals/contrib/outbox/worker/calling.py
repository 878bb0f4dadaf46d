"""Calling a durable receiver for one row.

What needs a session is synchronous code over a plain one: an AsyncSession runs it in a greenlet, so
that it serves both. A receiver that names ``session`` is called inside the transaction that also
marks its row as done. So either both are committed, or neither: exactly once. The mark has a
condition, which is that this worker still has the row; if the lease ran out and another worker has
it, the transaction is rolled back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import MetaData
from sqlalchemy.orm import Session

from aksara_signals.contrib.outbox.events import DurableEvent, arguments_of, child_of, event_of
from aksara_signals.contrib.outbox.models import find_model
from aksara_signals.contrib.outbox.registry import ReceiverEntry, find_connection
from aksara_signals.contrib.outbox.rows.locking import ensure_begun
from aksara_signals.contrib.outbox.rows.marking import mark_one_done
from aksara_signals.contrib.outbox.rows.reading import Row
from aksara_signals.contrib.outbox.rows.tables import Tables
from aksara_signals.contrib.outbox.worker.gateway import Gateway, connection_to
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.delivery.delivery import Delivery
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.dispatch.signal import Signal
from aksara_signals.exceptions import OutboxError
from aksara_signals.orm.sending import ForbiddenMethods, send_within
from aksara_signals.orm.session.current import user_session
from aksara_signals.types import Drive, Sender

IN_A_WORKER = ForbiddenMethods(
    ("commit", "rollback", "close", "reset", "invalidate", "prepare"),
    "in the session of a worker, which commits it together with the mark that the receiver is "
    "done; return to commit, raise an exception to roll back, or use a savepoint",
)


class LostLeaseError(Exception):
    """Another worker has the row, or it is done, so what the receiver did is rolled back."""


class MissingRowError(OutboxError):
    """The row that a receiver names as ``instance`` is gone, and ``missing="dead"``."""


@dataclass(slots=True, eq=False)
class Call:
    """A row, and the receiver that it is for."""

    row: Row
    entry: ReceiverEntry
    signal: Signal
    connection: Connection
    sender: Sender
    event: DurableEvent
    is_started: bool = False
    """Whether the receiver was called. If not, what has failed is not the receiver."""

    @property
    def names_session(self) -> bool:
        """Whether the receiver runs inside the transaction that marks its row as done."""
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


def prepare_call(entry: ReceiverEntry, row: Row, metadata: MetaData) -> Call:
    """Read a row, after the upgrades that bring it to the version of the receiver.

    Raises:
        Exception: What an upgrade raises.
        OutboxError: An upgrade returns no payload.
    """
    options = entry.options
    payload = None
    if row.version < options.version and options.upgrade:
        payload = _upgraded(entry, row)
    event = event_of(row, payload)
    if payload is not None:
        event = replace(event, version=options.version)
    sender: Any = find_model(row.aggregatetype) or row.aggregatetype
    table = event.data.get("table")
    if table is not None:  # the links of a relationship
        sender = metadata.tables.get(table)
    signal, connection = find_connection(entry, row.type, sender)
    if isinstance(sender, str) or sender is None:
        known = connection.sender  # may be any object, of which the row has only a description
        if known is not None and describe_sender(known)[:500] in (sender, None):
            sender = known
    return Call(row, entry, signal, connection, sender, event)


def _upgraded(entry: ReceiverEntry, row: Row) -> Mapping[str, Any]:
    payload: Any = row.payload
    for version in range(row.version, entry.options.version):
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


def call_in_session(
    session: Session, call: Call, tables: Tables, worker: str, drive: Drive | None = None
) -> bool:
    """Call a receiver that names ``session``, flush, and mark its row as done.

    Neither begins nor commits a transaction; the caller has begun one.

    Args:
        session: The session that the receiver is given; of an AsyncSession, that one is given.
        call: The row and its receiver.
        tables: The tables of the outbox, in the database of the session.
        worker: The name of the worker that has leased the row.
        drive: Runs what an async receiver returns, if this is not a greenlet.

    Returns:
        Whether the receiver was called; if not, it was skipped, and is done nevertheless.

    Raises:
        LostLeaseError: The worker no longer has the row. The caller rolls back.
        SessionInUseError: The receiver has tried to end the transaction.
        BaseException: Whatever the receiver raises.
    """
    # Before the call: if there is no connection to be had, it isn't the receiver that fails.
    ensure_begun(connection_to(session, tables))
    arguments = load_arguments(session, call)
    if arguments is not None:
        owner = user_session(session)
        arguments["session"] = owner
        runs = ((call.connection.is_async, (call.delivery(arguments),)),)
        send_within(session, owner, IN_A_WORKER, runs, drive)
        session.flush()
    # Asked for again: it raises if an error of the database has ended the transaction.
    if not mark_one_done(connection_to(session, tables), tables, worker, call.row.seq):
        raise LostLeaseError
    return arguments is not None


async def call_with_session(
    gateway: Gateway, call: Call, worker: str, before_commit: Callable[[], object]
) -> bool:
    """Call a receiver that names ``session`` in a transaction of its own, and commit that.

    Args:
        gateway: Opens the session.
        call: The row and its receiver.
        worker: The name of the worker that has leased the row.
        before_commit: Called, perhaps in another thread, when only the COMMIT is left to do.

    Returns:
        As :func:`call_in_session`, which says what is raised, too.
    """
    driver = gateway.driver()

    def run(session: Session) -> bool:
        if driver is not None:
            driver.session = session
        session.begin()  # as a context manager, it wouldn't commit an inactive one, and not say so
        was_called = call_in_session(session, call, gateway.tables, worker, driver)
        before_commit()
        session.commit()
        return was_called

    try:
        return await gateway.run(run)
    except BaseException:
        if driver is not None:
            driver.cancel()
        raise


async def call_without_session(
    gateway: Gateway, call: Call, turn: AbstractAsyncContextManager[Any]
) -> bool:
    """Call a receiver that doesn't name ``session``: at least once, as its row is marked later.

    Args:
        gateway: Opens a session, if an instance is to be loaded.
        call: The row and its receiver.
        turn: Held while there is such a session.

    Returns:
        As :func:`call_in_session`.

    Raises:
        BaseException: Whatever the receiver raises.
    """
    if call.needs_loading:
        # In a session of its own, so that no connection is in use while the receiver runs.
        async with turn:
            arguments = await gateway.run(load_arguments, call)
        if arguments is None:
            return False
    else:
        arguments = load_arguments(None, call)
        assert arguments is not None, "it names no instance"  # noqa: S101 - for the type checker
    await gateway.deliver(call.delivery(arguments), call.connection.is_async)
    return True

"""When the rows of durable receivers are written: into the transaction of what they are sent for.

What a row looks like, and where it goes, is the business of a writer, which an outbox installs.
This module decides when it writes:

- A flush writes all its rows in one statement, after its own.
- A signal that is sent by hand writes its row at once. Only ``send_sync()`` with an AsyncSession
  can't execute a statement, so its row is buffered until the next flush, or until just before the
  COMMIT. A row that is buffered inside a savepoint is written before its release, and dropped with
  its rollback.

A buffered row would be lost if the transaction were committed without the session: by the user's
own connection, which the session has joined. No event of the session announces that. It shows when
the session is closed with rows in its buffer, and an error is logged then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from aksara_signals.dispatch.adapter import cannot_store
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.receivers.naming import describe_receiver
from aksara_signals.dispatch.signal import Signal
from aksara_signals.exceptions import OutboxError
from aksara_signals.orm.bridge.handover import in_greenlet
from aksara_signals.orm.bridge.states import session_of
from aksara_signals.orm.outcome.entries import Unwritten
from aksara_signals.orm.outcome.queue import enqueue_unwritten, take_unwritten
from aksara_signals.orm.session.current import sync_session_of, user_session
from aksara_signals.types import Sender


@dataclass(slots=True, eq=False)
class DurableSend:
    """A signal that was sent to durable receivers."""

    signal: Signal
    sender: Sender
    connections: tuple[Connection, ...]
    payload: Mapping[str, Any]
    """All arguments; ``signal`` and ``sender`` may be left out."""
    changed: frozenset[str] | None = None
    """The columns that were changed, if a flush has sent the signal."""


class Writer(Protocol):
    """Turns what is sent to durable receivers into rows."""

    def prepare(self, sends: Iterable[DurableSend]) -> list[Any]:
        """The rows, in order, with values of this moment.

        Raises:
            SignalPayloadError: Something that is sent can't be stored.
        """
        ...

    def write(self, session: Session, rows: list[Any]) -> None:
        """Insert prepared rows in the transaction of a session."""
        ...


_writer: Writer | None = None


def install_writer(writer: Writer | None) -> None:
    """Replace the writer; None removes it."""
    global _writer  # noqa: PLW0603 - one value, which is replaced by a single assignment
    _writer = writer


def _writer_for(what: Connection | str) -> Writer:
    """The installed writer.

    Args:
        what: A connection whose receiver is sent something, or a description for the error message.
    """
    if _writer is None:
        if isinstance(what, Connection):
            what = f"receiver {describe_receiver(what.receiver)} (durable={what.durable_name!r})"
        raise OutboxError(
            f"{what} can't be sent anything, because no outbox is installed: call "
            f"Outbox(Base.metadata, modules=[…]).install() when the application starts"
        )
    return _writer


def write_sends(session: Session, sends: list[DurableSend]) -> None:
    """Write what a flush has sent to durable receivers, after what is buffered.

    Args:
        session: The flushing session.
        sends: At least one, in the order of sending.

    Raises:
        OutboxError: No outbox is installed, or its table is missing.
        SignalPayloadError: Something that was sent can't be stored.
    """
    _write(session, _writer_for(sends[0].connections[0]).prepare(sends))


def store_sent(
    signal: Signal,
    arguments: Mapping[str, Any],
    connections: tuple[Connection, ...],
    can_await: bool,
) -> Awaitable[object] | None:
    """Write the rows of a signal that was sent by hand.

    Args:
        signal: The signal.
        arguments: All arguments, ``signal`` and ``sender`` included.
        connections: Those of the durable receivers.
        can_await: Whether the caller awaits what is returned.

    Returns:
        An awaitable that writes them; or None if they are written, or buffered.

    Raises:
        NoSessionError: Nothing says which transaction the signal belongs to.
        OutboxError: No outbox is installed, or its table is missing.
        SignalPayloadError: Something that is sent can't be stored.
    """
    session = arguments.get("session")
    if session is None:
        session = session_of(arguments.get("instance"))
    if session is None:
        cannot_store(signal)
    plain = sync_session_of(session)
    send = DurableSend(signal, arguments["sender"], connections, arguments)
    rows = _writer_for(connections[0]).prepare((send,))
    owner = user_session(plain)
    if isinstance(owner, AsyncSession) and not in_greenlet():
        if can_await:
            return owner.run_sync(_write, rows)
        enqueue_unwritten(plain, Unwritten(rows, signal.display_name, _write))
    else:
        _write(plain, rows)
    return None


def _write(session: Session, rows: list[Any]) -> None:
    _writer_for("a durable receiver").write(session, [*take_unwritten(session), *rows])

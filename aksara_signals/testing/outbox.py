"""Durable receivers in tests: what is stored for them, and calling them here and now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import greenlet_spawn

from aksara_signals.contrib.outbox.events import DurableEvent, event_of
from aksara_signals.contrib.outbox.outbox import Outbox, installed_outboxes, the_outbox
from aksara_signals.contrib.outbox.registry import ReceiverEntry, durable_receivers
from aksara_signals.contrib.outbox.rows.claiming import claim, mark_done, release
from aksara_signals.contrib.outbox.rows.reading import Row, read_rows
from aksara_signals.contrib.outbox.rows.tables import WAITING
from aksara_signals.contrib.outbox.worker.calling import LeasedReceipt, call_in_session
from aksara_signals.contrib.outbox.worker.calls import load_arguments, prepare_call
from aksara_signals.contrib.outbox.worker.gateway import connection_to
from aksara_signals.dispatch.provenance import provenance_of, restored_provenance
from aksara_signals.exceptions import OutboxError
from aksara_signals.orm.bridge.handover import hand_over
from aksara_signals.orm.session.current import AnySession, sync_session_of

__all__ = ["drain_outbox", "drain_outbox_sync", "pending", "pending_sync"]

_WORKER = "drain_outbox"
_LEASE_SECONDS = 3600.0
_AT_ONCE = 10_000


async def drain_outbox(session: AnySession, *, outbox: Outbox | None = None) -> int:
    """Call the durable receivers that are due, in a session, as a worker would.

    Each call runs in a savepoint of the session, also the call of a receiver that a worker would
    call outside of a transaction. So it works before a commit, and in the session of
    :func:`rolled_back`. What receivers cause is called as well, until nothing is due.

    Args:
        session: The session in which the rows were written. It is flushed, and not committed.
        outbox: The outbox; by default, the one that is installed.

    Returns:
        How many receivers were called, or skipped because their row is gone.

    Raises:
        OutboxError: No outbox is installed, or several are; or a row is stored for a receiver that
            isn't connected in this process.
        BaseException: What a receiver raises. What it did is undone, and its row and the later
            ones are as before.
    """
    plain = sync_session_of(session)
    if isinstance(session, AsyncSession):
        return await session.run_sync(drain_outbox_sync, outbox=outbox)
    # In a greenlet, so that async receivers can be awaited in a synchronous session as well.
    return await greenlet_spawn(drain_outbox_sync, plain, outbox=outbox)


def drain_outbox_sync(session: Session, *, outbox: Outbox | None = None) -> int:
    """As :func:`drain_outbox`, from code that can't await.

    Raises:
        AsyncReceiverError: An async receiver has to wait for something.
    """
    plain = sync_session_of(session)
    found = the_outbox(outbox)
    count = 0
    plain.flush()
    while rows := _due(plain, found):
        entries = durable_receivers()
        by_name = {name: entry for entry in entries.values() for name in entry.names}
        for place, row in enumerate(rows):
            try:
                with plain.begin_nested():
                    _call(plain, by_name[row.receiver], row, found)
            except BaseException as error:
                error.add_note(f"while {row.type} was delivered to {row.receiver!r} by an outbox")
                _give_back(plain, found, rows[place:])
                raise
            count += 1
    return count


async def pending(session: AnySession, *, outbox: Outbox | None = None) -> list[DurableEvent]:
    """What is stored for durable receivers and not done yet, in the order of the sends.

    Args:
        session: A session; it is flushed.
        outbox: The outbox; by default, the one that is installed.

    Raises:
        OutboxError: No outbox is installed, or several are.
    """
    if isinstance(session, AsyncSession):
        return await session.run_sync(pending_sync, outbox=outbox)
    return pending_sync(sync_session_of(session), outbox=outbox)


def pending_sync(session: Session, *, outbox: Outbox | None = None) -> list[DurableEvent]:
    """As :func:`pending`, from code that can't await."""
    plain = sync_session_of(session)
    tables = the_outbox(outbox).tables
    plain.flush()
    rows = read_rows(connection_to(plain, tables), tables, tables.outbox.c.status == WAITING)
    return [event_of(row) for row in rows]


@contextmanager
def restored_outboxes() -> Iterator[None]:
    """Undo which outboxes are installed and uninstalled in a block."""
    before = installed_outboxes()
    try:
        yield
    finally:
        for each in installed_outboxes():
            if each not in before:
                each.uninstall()
        for each in before:
            each.install()


def _due(session: Session, outbox: Outbox) -> list[Row]:
    entries = durable_receivers().values()
    names = {name for entry in entries for name in entry.names}
    unknown = {each.receiver for each in pending_sync(session, outbox=outbox)} - names
    if unknown:
        raise OutboxError(
            f"rows are stored for {', '.join(map(repr, sorted(unknown)))}, and no such durable "
            f"receiver is connected in this process: import its module"
        )
    with session.begin_nested():
        return claim(
            connection_to(session, outbox.tables),
            outbox.tables,
            worker=_WORKER,
            limits=dict.fromkeys(names, _AT_ONCE),
            lease_seconds=_LEASE_SECONDS,
            is_busy=False,
            former_of={entry.name: entry.options.formerly for entry in entries},
        ).rows


def _call(session: Session, entry: ReceiverEntry, row: Row, outbox: Outbox) -> None:
    call = prepare_call(entry, row, outbox.metadata)
    with restored_provenance(provenance_of(call.event.provenance)):
        if call.names_session:
            receipt = LeasedReceipt(outbox.tables, _WORKER, row.seq)
            call_in_session(session, call, outbox.tables, receipt)
            return
        arguments = load_arguments(session, call)
        if arguments is not None:
            hand_over((call.delivery(arguments),), call.connection.is_async)
    mark_done(connection_to(session, outbox.tables), outbox.tables, _WORKER, (row.seq,))


def _give_back(session: Session, outbox: Outbox, rows: list[Row]) -> None:
    """Undo the leases of rows, if the session can still be used."""
    if session.is_active:
        seqs = [row.seq for row in rows]
        with session.begin_nested():
            release(connection_to(session, outbox.tables), outbox.tables, _WORKER, seqs)

"""Calling a durable receiver once: for a row that a worker has leased, or a message of a broker.

What needs a session is synchronous code over a plain one: an AsyncSession runs it in a greenlet, so
that it serves both. A receiver that names ``session`` is called inside the transaction that also
marks the call as done. So either both are committed, or neither: exactly once. For a row, the mark
has a condition, which is that this worker still has it; if the lease ran out and another worker has
it, the transaction is rolled back. For a message, the mark is a row of the inbox, of which there is
one at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from aksara_signals.contrib.outbox.hooks import call_hooks
from aksara_signals.contrib.outbox.rows.locking import ensure_begun
from aksara_signals.contrib.outbox.rows.marking import mark_one_done
from aksara_signals.contrib.outbox.rows.tables import Tables
from aksara_signals.contrib.outbox.worker.calls import Call, load_arguments
from aksara_signals.contrib.outbox.worker.gateway import Gateway, begin, connection_to
from aksara_signals.dispatch.provenance import provenance_of, restored_provenance
from aksara_signals.dispatch.receivers.naming import counted
from aksara_signals.orm.sending import ForbiddenMethods, Run, send_within
from aksara_signals.orm.session.current import user_session
from aksara_signals.types import Drive

IN_A_WORKER = ForbiddenMethods(
    ("commit", "rollback", "close", "reset", "invalidate", "prepare"),
    "in the session of a worker, which commits it together with the mark that the receiver is "
    "done; return to commit, raise an exception to roll back, or use a savepoint",
)


class LostLeaseError(Exception):
    """Another worker has the row, or it is done, so what the receiver did is rolled back."""


class Receipt(Protocol):
    """What is written of a call, in the transaction of its receiver, to say that it is done."""

    def before(self, connection: Connection) -> None:
        """Called before the receiver; raises if there is nothing to be done."""
        ...

    def after(self, connection: Connection) -> None:
        """Called when the receiver has succeeded; raises if that must not be committed."""
        ...


@dataclass(slots=True, eq=False)
class LeasedReceipt:
    """The receipt of a row that a worker has leased: it is marked as done."""

    tables: Tables
    worker: str
    seq: int

    def before(self, connection: Connection) -> None:
        """Nothing: the row is leased."""

    def after(self, connection: Connection) -> None:
        """Mark the row as done.

        Raises:
            LostLeaseError: The worker no longer has it.
        """
        if not mark_one_done(connection, self.tables, self.worker, self.seq):
            raise LostLeaseError


def call_in_session(
    session: Session, call: Call, tables: Tables, receipt: Receipt, drive: Drive | None = None
) -> bool:
    """Call a receiver that names ``session``, flush, and mark the call as done.

    Neither begins nor commits a transaction; the caller has begun one.

    Args:
        session: The session that the receiver is given; of an AsyncSession, that one is given.
        call: The receiver, and what it is called with.
        tables: The tables of the outbox, in the database of the session.
        receipt: Receipts the call as done.
        drive: Runs what an async receiver returns, if this is not a greenlet.

    Returns:
        Whether the receiver was called; if not, it was skipped, and is done nevertheless.

    Raises:
        SessionInUseError: The receiver has tried to end the transaction.
        BaseException: Whatever the receiver or the receipt raises. The caller rolls back.
    """
    # Before the call: if there is no connection to be had, it isn't the receiver that fails.
    connection = connection_to(session, tables)
    ensure_begun(connection)
    receipt.before(connection)
    arguments = load_arguments(session, call)
    if arguments is not None:
        owner = user_session(session)
        arguments["session"] = owner
        runs = (Run(call.connection.is_async, (call.delivery(arguments),)),)
        send_within(session, owner, IN_A_WORKER, runs, drive)
        session.flush()
    # Asked for again: it raises if an error of the database has ended the transaction.
    receipt.after(connection_to(session, tables))
    return arguments is not None


class Caller:
    """Calls receivers, each with its hooks and within its time.

    Args:
        gateway: Opens the sessions.
        turn: Held while a receiver has a connection, so that there are no more than the pool has.
    """

    def __init__(self, gateway: Gateway, turn: AbstractAsyncContextManager[Any]) -> None:
        self._gateway = gateway
        self._turn = turn

    async def call(self, call: Call, receipt: Receipt) -> bool:
        """Call a receiver; if it names ``session``, in a transaction that also has the receipt.

        Any other receiver is called outside of a transaction, and then isn't marked.

        Returns:
            Whether it was called, or else skipped, because the row of ``instance`` is gone.

        Raises:
            TimeoutError: It took longer than its ``timeout_seconds``.
            BaseException: Whatever the receiver or the receipt raises.
        """
        # What the receiver writes comes from where the event does.
        with ExitStack() as entered:
            entered.enter_context(restored_provenance(provenance_of(call.event.provenance)))
            for hook in tuple(call_hooks):
                entered.enter_context(hook(call.event.headers))
            return await self._call_in_turn(call, receipt)

    async def _call_in_turn(self, call: Call, receipt: Receipt) -> bool:
        if not call.names_session:
            return await self._call_in_time(call, receipt)
        async with self._turn:  # the time to wait for it doesn't count
            return await self._call_in_time(call, receipt)

    async def _call_in_time(self, call: Call, receipt: Receipt) -> bool:
        seconds = call.entry.options.timeout_seconds
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                if not call.names_session:
                    return await self._call_without_session(call)
                end = partial(_end_limit, limit) if self._gateway.is_async else _nothing
                return await self._call_with_session(call, receipt, end)
        except TimeoutError as error:
            if seconds is None or not limit.expired():
                raise
            raise TimeoutError(
                f"the receiver was cancelled after {counted(seconds, 'second')}, which is its "
                f"timeout_seconds"
            ) from error

    async def _call_with_session(
        self, call: Call, receipt: Receipt, before_commit: Callable[[], object]
    ) -> bool:
        """Call a receiver in a transaction of its own, and commit that.

        Args:
            before_commit: Called, perhaps in another thread, when only the COMMIT is left to do.
        """
        gateway = self._gateway
        driver = gateway.driver()

        def run(session: Session) -> bool:
            if driver is not None:
                driver.session = session
            begin(session, gateway.tables)
            was_called = call_in_session(session, call, gateway.tables, receipt, driver)
            before_commit()
            session.commit()
            return was_called

        try:
            return await gateway.run(run)
        except BaseException:
            if driver is not None:
                driver.cancel()
            raise

    async def _call_without_session(self, call: Call) -> bool:
        if call.needs_loading:
            # In a session of its own, so that no connection is in use while the receiver runs.
            async with self._turn:
                arguments = await self._gateway.run(load_arguments, call)
            if arguments is None:
                return False
        else:
            arguments = load_arguments(None, call)
            assert arguments is not None, "it names no instance"  # noqa: S101 - for type checkers
        await self._gateway.deliver(call.delivery(arguments), call.connection.is_async)
        return True


def _end_limit(limit: asyncio.Timeout) -> None:
    """Don't interrupt a COMMIT, whose outcome would be unknown."""
    try:
        limit.reschedule(None)
    except RuntimeError:  # the receiver has ignored that it was cancelled
        raise TimeoutError from None


def _nothing() -> None:
    """Threads can't be cancelled anyway."""

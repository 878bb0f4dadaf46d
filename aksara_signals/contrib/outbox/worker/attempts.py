"""Calling the receivers of leased rows, and judging what has become of each."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from contextlib import AbstractAsyncContextManager
from typing import Any

from sqlalchemy.exc import DBAPIError

from aksara_signals.contrib.outbox.hooks import observers
from aksara_signals.contrib.outbox.registry import ReceiverEntry
from aksara_signals.contrib.outbox.rows.errors import is_outage
from aksara_signals.contrib.outbox.rows.reading import Row
from aksara_signals.contrib.outbox.worker.calling import Caller, LeasedReceipt, LostLeaseError
from aksara_signals.contrib.outbox.worker.calls import Call, MissingRowError, prepare_call
from aksara_signals.contrib.outbox.worker.desk import Desk
from aksara_signals.contrib.outbox.worker.error_texts import error_text
from aksara_signals.contrib.outbox.worker.health import observe
from aksara_signals.contrib.outbox.worker.lanes import Lane, Leased
from aksara_signals.contrib.outbox.worker.records import Failed
from aksara_signals.contrib.outbox.worker.running import is_being_cancelled
from aksara_signals.contrib.outbox.worker.station import Station

NEWER_SECONDS = 60.0
"""How long a row waits that is newer than the code of this worker."""

EXCUSED_DISCONNECTS = 3
"""How often the connection of a call may be lost before that counts as its receiver's failure."""

OUTAGE_SECONDS = 1.0
"""How long a row waits whose receiver couldn't be called, because the database was busy or down."""


class Attempts:
    """Calls the receivers of rows, and informs the desk of what has become of them.

    Args:
        station: What the worker consists of.
        desk: Is given what becomes of the rows.
        turn: Held while a receiver has a connection, so that there are no more than the pool has.
    """

    def __init__(
        self, station: Station, desk: Desk, turn: AbstractAsyncContextManager[Any]
    ) -> None:
        self._name = station.name
        self._metadata = station.outbox.metadata
        self._gateway = station.gateway
        self._known = station.known
        self._lanes = station.lanes
        self._health = station.health
        self._caller = Caller(station.gateway, turn)
        self._desk = desk
        self._loop = asyncio.get_running_loop()
        self._disconnects: Counter[int] = Counter()

    async def handle(self, leased: Leased, lane: Lane) -> bool:
        """Call the receiver of a row, and return whether the lane goes on.

        Raises:
            LostLeaseError: Another worker has the row.
        """
        row = leased.row
        entry = self._known.find(row.receiver)
        if entry is None or row.version > entry.options.version:
            self._put_off(row, entry, lane)
            return False
        start, call, was_called = self._loop.time(), None, False
        failure: BaseException | None = None
        try:
            call = prepare_call(entry, row, self._metadata)
            receipt = LeasedReceipt(self._gateway.tables, self._name, row.seq)
            was_called = await self._caller.call(call, receipt)
        except (LostLeaseError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            failure = error
        if failure is not None:
            if self._gateway.is_sqlite and isinstance(failure, _INTERRUPTED):
                failure = _without_frames(failure)
            self._fail(row, entry, failure, call, lane)
            return False
        if call is not None and call.names_session:
            self._desk.finish(leased)
        else:
            self._desk.acknowledge(leased)
        self._desk.note_success(entry.name)
        if self._disconnects:
            del self._disconnects[row.seq]
        self._health.count("done" if was_called else "skipped", entry.name)
        if observers:
            observe("duration_seconds", entry.name, self._loop.time() - start)
            lag = row.read_at - row.created_at
            observe("lag_seconds", entry.name, lag.total_seconds())
        return True

    def _fail(
        self,
        row: Row,
        entry: ReceiverEntry,
        error: BaseException,
        call: Call | None,
        lane: Lane,
    ) -> None:
        mates = [mate.seq for mate in self._lanes.drop(lane)]
        retry, attempt = entry.options.retry, row.attempts + 1
        is_probe = row.is_probe
        record = Failed(row, error, error_text(error), OUTAGE_SECONDS, entry.name, lane_mates=mates)
        if call is not None and self._is_by_database(row, call, error):
            record.counts = record.feeds_breaker = False
        else:
            record.delay_seconds = retry.delay_seconds(attempt)
            record.counts = not is_probe
            record.is_dead = is_last(entry, error, 0 if is_probe else attempt)
        if record.counts:
            del self._disconnects[row.seq]
        self._desk.write(record)

    def _is_by_database(self, row: Row, call: Call, error: BaseException) -> bool:
        """Whether a call has failed because the database can't be reached, or is busy.

        It was certainly that if the receiver was not called yet. A connection that was lost later
        may also have been ended by what the receiver did with it, so that excuses a row only a few
        times.
        """
        if not is_outage(error):
            return False
        if not call.is_started:
            return True
        if not isinstance(error, DBAPIError) or not error.connection_invalidated:
            return False
        self._disconnects[row.seq] += 1
        return self._disconnects[row.seq] <= EXCUSED_DISCONNECTS

    def _put_off(self, row: Row, entry: ReceiverEntry | None, lane: Lane) -> None:
        """Give a row back that the code of this process is too old for."""
        self._desk.release([row, *self._lanes.drop(lane)], NEWER_SECONDS)
        if entry is None:
            text = "durable receiver %r is not connected any more; its rows wait"
            self._known.complain(f"gone {row.receiver}", text, row.receiver)
            return
        self._known.complain(
            f"newer {entry.name}",
            "a row of version %s of the durable receiver %r waits for a worker with newer code; "
            "this one has version %s",
            row.version,
            entry.name,
            entry.options.version,
        )


def is_last(entry: ReceiverEntry, error: BaseException, attempt: int) -> bool:
    """Whether a receiver that has failed is not called again.

    Args:
        entry: The receiver.
        error: What it has raised.
        attempt: The number of the attempt; 0 if it doesn't count.
    """
    return isinstance(error, MissingRowError) or attempt >= entry.options.retry.attempts


_INTERRUPTED = (TimeoutError, asyncio.CancelledError)


def _without_frames(error: BaseException) -> BaseException:
    """The same error without its traceback, and without what that has kept alive.

    A statement that was interrupted stays open for as long as its cursor lives, to which the
    traceback refers. And with it, on SQLite, the connection keeps the write lock, closed or not.
    """
    kind = type(error) if type(error) in _INTERRUPTED else TimeoutError
    copy = kind(*error.args)
    error.__traceback__ = error.__cause__ = error.__context__ = None
    gc.collect()
    return copy

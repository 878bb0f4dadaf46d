"""Running the rows that a worker has leased, and judging what has become of each."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from contextvars import Context
from functools import partial
from typing import Any

from sqlalchemy.exc import DBAPIError

from aksara_signals.contrib.outbox.hooks import call_hooks, observers
from aksara_signals.contrib.outbox.registry import ReceiverEntry
from aksara_signals.contrib.outbox.rows.errors import is_outage
from aksara_signals.contrib.outbox.rows.reading import Row
from aksara_signals.contrib.outbox.worker.calling import (
    Call,
    LostLeaseError,
    MissingRowError,
    call_with_session,
    call_without_session,
    prepare_call,
)
from aksara_signals.contrib.outbox.worker.desk import Desk
from aksara_signals.contrib.outbox.worker.error_texts import error_text
from aksara_signals.contrib.outbox.worker.health import observe
from aksara_signals.contrib.outbox.worker.lanes import Lane, Leased
from aksara_signals.contrib.outbox.worker.records import Failed
from aksara_signals.contrib.outbox.worker.reports import describe_row, log
from aksara_signals.contrib.outbox.worker.station import Station
from aksara_signals.dispatch.receivers.naming import counted

NEWER_SECONDS = 60.0
"""How long a row waits that is newer than the code of this worker."""

EXCUSED_DISCONNECTS = 3
"""How often the connection of a call may be lost before that counts as its receiver's failure."""

OUTAGE_SECONDS = 1.0
"""How long a row waits whose receiver couldn't be called, because the database was busy or down."""


class Runner:
    """Calls the receivers of leased rows, several lanes at a time.

    Args:
        station: What the worker consists of.
        turn: Held while a receiver has a connection, so that there are no more than the pool has.
        desk: Is given what becomes of the rows.
        on_end: Called when a task has ended.
    """

    def __init__(
        self,
        station: Station,
        turn: AbstractAsyncContextManager[Any],
        desk: Desk,
        *,
        on_end: Callable[[], object],
    ) -> None:
        self._name = station.name
        self._metadata = station.outbox.metadata
        self._gateway = station.gateway
        self._known = station.known
        self._lanes = station.lanes
        self._health = station.health
        self._turn = turn
        self._desk = desk
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._disconnects: Counter[int] = Counter()
        self.is_stopping: bool = False
        """Whether no further row is to be started."""
        self.tasks: set[asyncio.Task[None]] = set()
        """One for each lane that runs, and perhaps for those that follow it."""

    def fill(self) -> None:
        """Run lanes in all places that are free."""
        while (found := self._lanes.take()) is not None:
            # In a context of its own: whatever surrounded the start of the worker, a session's
            # scope or a silenced signal, is not meant for its receivers.
            task = self._loop.create_task(self._run(*found), context=Context())
            self.tasks.add(task)
            task.add_done_callback(self._note_end)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._desk.wake.set()
        self._on_end()

    async def _run(self, receiver: str, lane: Lane) -> None:
        """Run a lane, and the next one, and so on."""
        while True:
            try:
                await self._run_lane(lane)
            finally:
                self._lanes.release(receiver)
            found = self._lanes.take()
            if found is None:
                return
            receiver, lane = found

    async def _run_lane(self, lane: Lane) -> None:
        while lane:
            if self.is_stopping:
                self._desk.release(self._lanes.drop(lane))
                return
            leased = self._lanes.start_next(lane)
            try:
                goes_on = await self._run_row(leased, lane)
            except Exception as error:  # noqa: BLE001 - a mistake of ours
                # Nobody extends the lease now. When it has run out, the row is claimed again.
                self._desk.finish(leased)
                self._desk.release(self._lanes.drop(lane))
                text = "worker %s has failed to run a row (%s), which stays leased for a while"
                log(logging.ERROR, text, self._name, describe_row(leased.row), error=error)
                return
            if not goes_on:
                return

    async def _run_row(self, leased: Leased, lane: Lane) -> bool:
        """Run one row, and return whether the lane goes on."""
        row = leased.row
        if not await self._desk.is_ours(leased):
            self._lose(leased, lane)
            return False
        entry = self._known.find(row.receiver)
        if entry is None or row.version > entry.options.version:
            self._put_off(row, entry, lane)
            return False
        start, call, was_called = self._loop.time(), None, False
        failure: BaseException | None = None
        try:
            call = prepare_call(entry, row, self._metadata)
            was_called = await self._call(call)
        except LostLeaseError:
            leased.is_lost = True
            self._lose(leased, lane)
            return False
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
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

    async def _call(self, call: Call) -> bool:
        """Call a receiver, and return whether it was called, or else skipped."""
        if call_hooks:
            with ExitStack() as entered:
                for hook in tuple(call_hooks):
                    entered.enter_context(hook(call.event.headers))
                return await self._call_in_turn(call)
        return await self._call_in_turn(call)

    async def _call_in_turn(self, call: Call) -> bool:
        if not call.names_session:
            return await self._call_in_time(call)
        async with self._turn:  # the time to wait for it doesn't count
            return await self._call_in_time(call)

    async def _call_in_time(self, call: Call) -> bool:
        seconds = call.entry.options.timeout_seconds
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                if not call.names_session:
                    return await call_without_session(self._gateway, call, self._turn)
                end = partial(_end_limit, limit) if self._gateway.is_async else _nothing
                return await call_with_session(self._gateway, call, self._name, end)
        except TimeoutError as error:
            if seconds is None or not limit.expired():
                raise
            raise TimeoutError(
                f"the receiver was cancelled after {counted(seconds, 'second')}, which is its "
                f"timeout_seconds"
            ) from error

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
        if call is not None and self._is_by_database(call, error):
            record.counts = record.feeds_breaker = False
        else:
            record.delay_seconds = retry.delay_seconds(attempt)
            record.counts = not is_probe
            record.is_dead = isinstance(error, MissingRowError) or (
                attempt >= retry.attempts and not is_probe
            )
        if record.counts:
            del self._disconnects[row.seq]
        self._desk.write(record)

    def _is_by_database(self, call: Call, error: BaseException) -> bool:
        """Whether a call has failed because the database can't be reached, or is busy.

        It was certainly that if the receiver was not called yet. A connection that was lost later
        may also have been ended by what the receiver did with it, so that excuses a row only a few
        times.
        """
        if not is_outage(error):
            return False
        seq = call.row.seq
        if not call.is_started:
            return True
        if not isinstance(error, DBAPIError) or not error.connection_invalidated:
            return False
        self._disconnects[seq] += 1
        return self._disconnects[seq] <= EXCUSED_DISCONNECTS

    def _lose(self, leased: Leased, lane: Lane) -> None:
        """Another worker has a row, or may have: then the rest of its lane isn't ours either."""
        rest = self._lanes.drop(lane)
        if leased.is_lost:
            self._desk.finish(leased)
            self._health.count("lost_leases", leased.row.receiver)
        else:
            rest.insert(0, leased.row)
        self._desk.release(rest)

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


def _end_limit(limit: asyncio.Timeout) -> None:
    """Don't interrupt a COMMIT, whose outcome would be unknown."""
    try:
        limit.reschedule(None)
    except RuntimeError:  # the receiver has ignored that it was cancelled
        raise TimeoutError from None


def _nothing() -> None:
    """Threads can't be cancelled anyway."""


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

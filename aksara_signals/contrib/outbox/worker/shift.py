"""One run of a worker, from its start to its end."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any

from sqlalchemy import Connection

from aksara_signals.contrib.outbox.rows.claiming import Claim
from aksara_signals.contrib.outbox.rows.errors import is_outage
from aksara_signals.contrib.outbox.rows.reading import Row
from aksara_signals.contrib.outbox.rows.selecting import CRASHES
from aksara_signals.contrib.outbox.worker.checks import check_start
from aksara_signals.contrib.outbox.worker.desk import Desk
from aksara_signals.contrib.outbox.worker.error_texts import error_text
from aksara_signals.contrib.outbox.worker.gateway import Sessions, gateway_for
from aksara_signals.contrib.outbox.worker.health import Health
from aksara_signals.contrib.outbox.worker.known import KnownReceivers
from aksara_signals.contrib.outbox.worker.lanes import Lanes
from aksara_signals.contrib.outbox.worker.records import Failed
from aksara_signals.contrib.outbox.worker.reports import log, log_failure, report_dead
from aksara_signals.contrib.outbox.worker.running import RowHandler, Runner
from aksara_signals.contrib.outbox.worker.settings import Settings
from aksara_signals.contrib.outbox.worker.source import Source
from aksara_signals.contrib.outbox.worker.station import Station
from aksara_signals.contrib.outbox.worker.trouble import (
    FIRST_BACKOFF_SECONDS,
    LONGEST_BACKOFF_SECONDS,
)
from aksara_signals.contrib.outbox.worker.waking import Listener
from aksara_signals.dispatch.receivers.naming import counted
from aksara_signals.exceptions import OutboxError

FAREWELL_SECONDS = 5.0
"""How long the last writes of a worker are tried, if the database doesn't answer."""

LOCKED_SECONDS = 0.1
"""How long the last writes may take on SQLite before the worker's own garbage is suspected."""

DEAF_SECONDS = 1.0
"""How long a cancelled receiver is waited for before it is cancelled once more."""


class Shift:
    """What a worker consists of while it runs.

    Args:
        name: The name of the worker.
        outbox: Its outbox.
        sessions: Makes its sessions.
        settings: Its options.
        health: Takes its figures.
        make_handler: Makes what handles each row.
    """

    def __init__(
        self,
        name: str,
        outbox: Source,
        sessions: Sessions,
        settings: Settings,
        health: Health,
        *,
        make_handler: Callable[[Station, Desk, AbstractAsyncContextManager[Any]], RowHandler],
    ) -> None:
        self._name = name
        self._outbox = outbox
        self._settings = settings
        self._health = health
        self._loop = asyncio.get_running_loop()
        self._gateway = gateway_for(sessions, outbox.tables)
        self._known = KnownReceivers(settings.receivers)
        self._lanes = Lanes(settings.concurrency)
        station = Station(name, outbox, settings, self._gateway, self._known, self._lanes, health)
        of_receivers, of_desk = self._locks()
        self._desk = Desk(
            station, of_desk, on_claimed=self._note_claim, on_failed=self._note_failure
        )
        handler = make_handler(station, self._desk, of_receivers)
        self._runner = Runner(station, handler, self._desk, on_end=self._note_end)
        self._reports: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._is_hurried = False
        self._is_closing = False
        self._news = asyncio.Event()
        """Set when the worker is stopped, or when a lane or the desk has ended."""
        self.started: asyncio.Event = asyncio.Event()
        """Set once the checks of the start have passed."""

    def _locks(self) -> tuple[AbstractAsyncContextManager[Any], AbstractAsyncContextManager[Any]]:
        """What receivers with a session hold while they run, and what the desk holds."""
        # One writer at a time; or one connection for everything, as in tests that roll back.
        if self._gateway.is_sqlite or isinstance(self._gateway.bind, Connection):
            lock = asyncio.Lock()
            return lock, lock
        capacity = self._gateway.capacity
        if capacity is None or capacity > self._settings.concurrency:
            return nullcontext(), nullcontext()
        # One connection is left for the desk, if there is more than one.
        return asyncio.Semaphore(max(1, capacity - 1)), nullcontext()

    @property
    def in_flight(self) -> int:
        """How many rows are leased."""
        return len(self._desk.leased)

    def wake(self) -> None:
        """Look for rows at once. May be called by any thread."""
        if not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(self._desk.claim_now)
            except RuntimeError:  # closed just now
                return

    def stop(self, *, now: bool = False) -> None:
        """Claim no more; with ``now``, cancel the receivers that run."""
        self._is_stopping = True
        self._is_hurried = self._is_hurried or now
        self._health.state = "stopping"
        self._desk.is_claiming = False
        self._runner.is_stopping = True
        self._desk.release(self._lanes.clear())
        self._desk.wake.set()
        self._news.set()

    async def work(self, *, until_idle: bool) -> None:
        """Run until :meth:`stop`, or until nothing is due.

        Raises:
            OutboxError: Something is missing that the worker needs.
        """
        self._health.state = "starting"
        listener = None
        if self._settings.listen:
            listener = Listener(self._gateway.engine, self._gateway.tables, self.wake)
        try:
            await self._check_start()
            self.started.set()
            self._outbox.add_waker(self.wake)
            if listener is not None:
                listener.start()
            # In a task of its own: on SQLite it waits while a receiver has a session, and the end
            # of the worker must not wait for that.
            desk = self._loop.create_task(self._desk.run(lambda: self._is_over(until_idle)))
            desk.add_done_callback(lambda _: self._news.set())
            try:
                while not (self._is_stopping or desk.done()):
                    await self._sleep(None)
            except asyncio.CancelledError:
                self.stop(now=True)
                raise
            finally:
                self._outbox.remove_waker(self.wake)
                await self._wind_down(desk)
        finally:
            if listener is not None:
                await listener.stop()
            self._gateway.close()
            self._health.state = "stopped"

    def _is_over(self, until_idle: bool) -> bool:
        """Whether the desk has nothing more to do."""
        if self._is_closing:
            return not self._desk.has_records
        return until_idle and self._desk.is_idle and not self._is_stopping

    async def _sleep(self, seconds: float | None) -> None:
        """Wait until something has happened that the shift must know, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()

    async def _check_start(self) -> None:
        """Run the checks, as soon as the database can be reached."""
        delay, kind = FIRST_BACKOFF_SECONDS, self._settings.kind
        while not self._is_stopping:
            entries = {
                entry.name: entry
                for name in self._known.names()
                if (entry := self._known.find(name)) is not None
            }
            try:
                await self._gateway.run(
                    check_start, self._outbox.tables, entries.values(), self._outbox.modules, kind
                )
            except Exception as error:
                if not is_outage(error):
                    raise
                text = "%s can't reach the outbox, and tries again: %s"
                self._known.complain("start", text, self._name, error_text(error))
                self._health.last_error = error_text(error)
            else:
                self._health.last_error = None
                return
            await self._desk.wake.pause(delay)
            self._desk.wake.clear()
            delay = min(delay * 2, LONGEST_BACKOFF_SECONDS)

    # -- the end -------------------------------------------------------------------------------

    async def _wind_down(self, desk: asyncio.Task[None]) -> None:
        """Let receivers finish, give back what is left, and write all that is to be written."""
        self.stop()
        until = self._loop.time() + self._settings.grace_seconds
        while self._runner.tasks and not self._is_hurried:
            left = until - self._loop.time()
            if left <= 0:
                break
            await self._sleep(left)
        await self._cancel()
        self._desk.release_all()
        self._is_closing = True
        self._desk.wake.set()
        if self._gateway.is_sqlite:
            # A statement that was interrupted may hold the write lock for as long as its cursor
            # lives. In a large process, a collection takes longer than what is still to be written.
            await asyncio.wait((desk,), timeout=LOCKED_SECONDS)
            if not desk.done():
                gc.collect()
        await asyncio.wait((desk,), timeout=FAREWELL_SECONDS)
        if not desk.done():
            text = "%s couldn't give back %s; the leases run out"
            log(logging.ERROR, text, self._name, counted(self.in_flight, "row"))
            desk.cancel()
            await asyncio.wait((desk,))
        if self._reports:
            await asyncio.wait(self._reports)
        if not desk.cancelled():
            desk.result()

    async def _cancel(self) -> None:
        tasks = set(self._runner.tasks)
        for _ in range(3):
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            tasks = (await asyncio.wait(tasks, timeout=DEAF_SECONDS))[1]
        if tasks:
            text = "%s ends, although %s ignored to be cancelled"
            log(logging.ERROR, text, self._name, counted(len(tasks), "receiver"))

    # -- what has happened ---------------------------------------------------------------------

    def _note_end(self) -> None:
        if self._is_stopping:
            self._news.set()

    def _note_claim(self, claim: Claim) -> None:
        for row in claim.rows if claim.is_alone else ():
            self._health.count("crashes", row.receiver)
        for row in claim.dead:
            self._health.count("crashes", row.receiver)
            error = OutboxError(
                f"{CRASHES} workers have ended, or lost their lease, while they called durable "
                f"receiver {row.receiver!r} for event {row.id}: it may end the process, or block "
                f"the event loop for longer than a lease"
            )
            self._report(row, error)
        self._runner.fill()

    def _note_failure(self, record: Failed) -> None:
        self._health.count("failed", record.receiver)
        if record.is_dead:
            self._report(record.row, record.error)
        elif record.feeds_breaker:
            log_failure(record.row, record.error, record.delay_seconds, counts=record.counts)
        else:
            self._known.complain(
                f"outage {type(record.error).__qualname__}",
                "%s can't deliver to durable receiver %s, which counts no attempt, and tries "
                "again: %s",
                self._name,
                record.receiver,
                record.text,
            )

    def _report(self, row: Row, error: BaseException) -> None:
        self._health.count("dead", row.receiver)
        task = self._loop.create_task(report_dead(row, self._known.find(row.receiver), error))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

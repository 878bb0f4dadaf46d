"""What workers and relays have in common: they work on rows until they are stopped."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self

from aksara_signals.contrib.outbox.worker.desk import Desk
from aksara_signals.contrib.outbox.worker.gateway import Sessions
from aksara_signals.contrib.outbox.worker.health import Health
from aksara_signals.contrib.outbox.worker.running import RowHandler
from aksara_signals.contrib.outbox.worker.settings import Settings
from aksara_signals.contrib.outbox.worker.shift import Shift
from aksara_signals.contrib.outbox.worker.source import Source
from aksara_signals.contrib.outbox.worker.station import Station
from aksara_signals.exceptions import OutboxError


class Service(ABC):
    """Works on the rows of an outbox until it is stopped.

    Args:
        outbox: The outbox.
        sessions: Makes its sessions.
        settings: Its options.
    """

    def __init__(self, outbox: Source, sessions: Sessions, settings: Settings) -> None:
        self._outbox = outbox
        self._sessions = sessions
        self._settings = settings
        self.name: str = _new_name(settings)
        """Its name in the table, which no other one has. A process that was forked since this was
        made gives it a new one when it runs."""
        self._process = os.getpid()
        self._health = Health(settings.health_file)
        self._shift: Shift | None = None
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    def _handler(
        self, station: Station, desk: Desk, turn: AbstractAsyncContextManager[Any]
    ) -> RowHandler:
        """What is done with each row.

        Args:
            station: What this consists of while it runs.
            desk: Is given what becomes of the rows.
            turn: To be held while a connection is in use.
        """

    async def run(self) -> None:
        """Run until :meth:`stop`.

        Raises:
            OutboxError: No receiver is known, a table is missing, SQLite's transactions begin
                deferred, a receiver's model is in another database; or the worker runs already.
        """
        await self._run(until_idle=False)

    async def run_until_idle(self) -> None:
        """Run until nothing is due any more, for tests and scripts.

        Rows that wait for their next attempt stay.

        Raises:
            OutboxError: As for :meth:`run`.
        """
        await self._run(until_idle=True)

    async def _run(self, *, until_idle: bool) -> None:
        if self._shift is not None:
            raise OutboxError(f"{self.name} runs already; make another one beside it")
        if os.getpid() != self._process:  # the name is also that of the worker in the other process
            self.name, self._process = _new_name(self._settings), os.getpid()
        shift = self._shift = Shift(
            self.name,
            self._outbox,
            self._sessions,
            self._settings,
            self._health,
            make_handler=self._handler,
        )
        try:
            await shift.work(until_idle=until_idle)
        finally:
            self._shift = None

    def stop(self, *, now: bool = False) -> None:
        """End the run: claim no more rows, and give back those whose receivers don't run.

        Returns at once; :meth:`run` returns when the receivers that run have finished. After
        ``grace_seconds`` they are cancelled, and their rows are given back, too. To be called in
        the thread of the event loop.

        Args:
            now: Cancel them at once.
        """
        if self._shift is not None:
            self._shift.stop(now=now)

    def wake(self) -> None:
        """Look for rows at once. May be called by any thread."""
        shift = self._shift
        if shift is not None:
            shift.wake()

    def health(self) -> dict[str, Any]:
        """The state of the worker and its figures, which can be written as JSON.

        ``state``, ``last_claim_seconds_ago``, ``in_flight``; since the worker was made:
        ``claimed``, ``done``, ``failed``, ``dead``, ``skipped``, ``released``, ``lost_leases``,
        ``crashes``; ``unknown``, the rows by names of receivers that are not connected here; and
        ``last_error`` of the database or the worker, while it backs off.
        """
        shift = self._shift
        in_flight = 0 if shift is None else shift.in_flight
        return self._health.as_dict(in_flight, self.name)

    async def __aenter__(self) -> Self:
        """Run in a task of its own, and return once it has started.

        Raises:
            OutboxError: As for :meth:`run`.
        """
        task = self._task = asyncio.create_task(self.run())
        await asyncio.sleep(0)  # until it has made what can be asked whether it has started
        shift = self._shift
        if shift is not None:
            started = asyncio.create_task(shift.started.wait())
            try:
                await asyncio.wait((task, started), return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                task.cancel()
                raise
            finally:
                started.cancel()
        if task.done():
            self._task = None
            task.result()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it, and wait for its end."""
        task, self._task = self._task, None
        if task is None:
            return
        self.stop()
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            self.stop(now=True)
            await asyncio.wait((task,))
            raise


def _new_name(settings: Settings) -> str:
    host, suffix = socket.gethostname()[:60], secrets.token_hex(4)
    return f"{settings.kind}-{host}-{os.getpid()}-{suffix}"

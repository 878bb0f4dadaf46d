"""Running the rows that a worker has leased: several lanes at a time, each in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context
from typing import Protocol

from aksara_signals.contrib.outbox.worker.calling import LostLeaseError
from aksara_signals.contrib.outbox.worker.desk import Desk
from aksara_signals.contrib.outbox.worker.lanes import Lane, Leased
from aksara_signals.contrib.outbox.worker.reports import describe_row, log
from aksara_signals.contrib.outbox.worker.station import Station


class RowHandler(Protocol):
    """What is done with a row: its receiver is called, or it is published."""

    async def handle(self, leased: Leased, lane: Lane) -> bool:
        """Handle a row, and inform the desk of what has become of it.

        Args:
            leased: The row.
            lane: The rows that follow it; those that won't run are to be dropped.

        Returns:
            Whether the lane goes on.

        Raises:
            LostLeaseError: Another worker has the row.
        """
        ...


class Runner:
    """Runs leased rows, several lanes at a time.

    Args:
        station: What the worker consists of.
        handler: What is done with each row.
        desk: Takes rows back that are not run.
        on_end: Called when a task has ended.
    """

    def __init__(
        self, station: Station, handler: RowHandler, desk: Desk, *, on_end: Callable[[], object]
    ) -> None:
        self._name = station.name
        self._lanes = station.lanes
        self._health = station.health
        self._handler = handler
        self._desk = desk
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
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
                text = "%s has failed to run a row (%s), which stays leased for a while"
                log(logging.ERROR, text, self._name, describe_row(leased.row), error=error)
                return
            if not goes_on:
                return

    async def _run_row(self, leased: Leased, lane: Lane) -> bool:
        """Run one row, and return whether the lane goes on."""
        if not await self._desk.is_ours(leased):
            self._lose(leased, lane)
            return False
        try:
            return await self._handler.handle(leased, lane)
        except LostLeaseError:
            leased.is_lost = True
            self._lose(leased, lane)
            return False

    def _lose(self, leased: Leased, lane: Lane) -> None:
        """Another worker has a row, or may have: then the rest of its lane isn't ours either."""
        rest = self._lanes.drop(lane)
        if leased.is_lost:
            self._desk.finish(leased)
            self._health.count("lost_leases", leased.row.receiver)
        else:
            rest.insert(0, leased.row)
        self._desk.release(rest)


def is_being_cancelled() -> bool:
    """Whether it is the task itself that is cancelled, and not something that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

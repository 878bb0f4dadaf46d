"""Publishing by taskiq: a broker that is started when needed, and replaced when it has given up."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any, Self

from taskiq import AsyncBroker, TaskiqEvents
from taskiq.kicker import AsyncKicker

from aksara_signals.contrib.outbox.events import DurableEvent
from aksara_signals.contrib.outbox.relay.publishing import FAILURES_IN_A_ROW
from aksara_signals.contrib.outbox.worker.error_texts import error_text
from aksara_signals.contrib.outbox.worker.reports import log

TASK = "aksara.receive"
"""The name of the task."""


class TaskiqPublisher:
    """What :func:`taskiq_publisher` makes."""

    def __init__(self, broker: AsyncBroker, labels: dict[str, Any]) -> None:
        self._broker = broker
        self._labels = {**labels, "ack_type": "manual"}
        self._connecting = asyncio.Lock()
        self._is_started = self._is_ours = False
        self._starts = self._failures = 0
        for is_started, events in (
            (True, (TaskiqEvents.CLIENT_STARTUP, TaskiqEvents.WORKER_STARTUP)),
            (False, (TaskiqEvents.CLIENT_SHUTDOWN, TaskiqEvents.WORKER_SHUTDOWN)),
        ):
            for each in events:
                broker.add_event_handler(each, partial(self._note, is_started))

    async def __call__(self, event: DurableEvent) -> None:
        """Publish an event, and return once the broker has confirmed it.

        Raises:
            Exception: What the broker raises.
        """
        async with self._connecting:
            await self._connect()
            start = self._starts
        kicker: Any = AsyncKicker(TASK, self._broker, dict(self._labels))
        try:
            await kicker.kiq(event.as_cloudevent())
        except BaseException:
            self._failures += start == self._starts
            raise
        self._failures = 0

    async def __aenter__(self) -> Self:
        """Nothing: the first event starts the broker."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Shut the broker down, unless an application has started it."""
        if self._is_ours:
            await self._stop()

    async def _connect(self) -> None:
        """Start the broker, unless that is done; one whose client has given up is replaced."""
        if self._is_ours and self._failures >= FAILURES_IN_A_ROW:
            await self._stop()
        if not self._is_started:
            self._starts += 1
            self._is_ours, self._failures = True, FAILURES_IN_A_ROW
            await self._broker.startup()
            self._failures = 0

    async def _stop(self) -> None:
        self._is_started = self._is_ours = False
        try:
            await self._broker.shutdown()
        except Exception as error:  # noqa: BLE001 - it isn't used any more, whatever it is
            log(logging.WARNING, "taskiq's broker can't be shut down: %s", error_text(error))

    def _note(self, is_started: bool, _: object) -> None:
        self._is_started = is_started

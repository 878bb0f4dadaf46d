"""Durable receivers over taskiq: NATS JetStream, RabbitMQ, Redis streams and others.

A message is acknowledged only when its receiver has succeeded or is given up. A receiver that fails
is called again meanwhile, after the delays of its ``Retry``. So the broker must allow for that time
before it delivers a message again: on JetStream ``ConsumerConfig(ack_wait=…)``, on Redis
``idle_timeout``. All events are in one queue, that of the broker.

The order is kept by one worker that takes one event at a time (``--workers 1 --max-async-tasks 1``)
from a broker that delivers no further one meanwhile: JetStream by
``ConsumerConfig(max_ack_pending=1)``. Otherwise taskiq keeps none. A worker acknowledges and drops
what it has no task for, so :func:`taskiq_receiver` has to be called in each.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any, Self

from taskiq import AsyncBroker, AsyncTaskiqDecoratedTask, Context, TaskiqDepends, TaskiqEvents
from taskiq.kicker import AsyncKicker

from aksara_signals.contrib.outbox.events import DurableEvent
from aksara_signals.contrib.outbox.outbox import Outbox, the_outbox
from aksara_signals.contrib.outbox.receiving import receive_until_done
from aksara_signals.contrib.outbox.relay.publishing import FAILURES_IN_A_ROW
from aksara_signals.contrib.outbox.worker.error_texts import error_text
from aksara_signals.contrib.outbox.worker.gateway import Sessions
from aksara_signals.contrib.outbox.worker.reports import log
from aksara_signals.exceptions import InvalidOptionError

TASK = "aksara.receive"
"""The name of the task."""

_PACKAGES = ("taskiq", "taskiq_nats", "taskiq_redis")
_LOSING = ("NatsBroker", "ZeroMQBroker", "PubSub", "ListQueue")
"""The brokers that forget a message when they deliver it, or when nobody takes it."""

_CONTEXT: Any = TaskiqDepends()


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


def taskiq_publisher(broker: AsyncBroker, **labels: Any) -> TaskiqPublisher:
    """What a relay publishes by: ``outbox.relay(taskiq_publisher(broker), Sessions)``.

    Args:
        broker: The broker. It is started with the first event, unless the application has started
            it since, which is to shut it down then.
        labels: Labels of the messages, such as ``priority``.

    Raises:
        InvalidOptionError: The broker would lose events.
    """
    _require_keeping(broker)
    return TaskiqPublisher(broker, labels)


def taskiq_receiver(
    broker: AsyncBroker, sessions: Sessions, *, outbox: Outbox | None = None
) -> AsyncTaskiqDecoratedTask[..., Any]:
    """Register the task that calls the durable receivers of this process.

    Args:
        broker: The broker.
        sessions: An ``async_sessionmaker`` or a ``sessionmaker``, of the receivers' database.
        outbox: The outbox; by default, the one that is installed.

    Raises:
        OutboxError: No outbox is installed.
        InvalidOptionError: The broker would lose events.
    """
    found = the_outbox(outbox)
    _require_keeping(broker)

    async def receive(event: Any, context: Context = _CONTEXT) -> None:
        await receive_until_done(event, sessions, found)
        if context.is_ackable:  # that in memory has nothing to acknowledge
            await context.ack()

    return broker.register_task(receive, TASK)


def _require_keeping(broker: AsyncBroker) -> None:
    for cls in type(broker).__mro__:
        package = cls.__module__.partition(".")[0]
        if package in _PACKAGES and cls.__name__.startswith(_LOSING):
            raise InvalidOptionError(
                f"{cls.__name__} loses events that are being delivered when a worker ends; use a "
                f"broker that acknowledges, such as PullBasedJetStreamBroker or RedisStreamBroker"
            )

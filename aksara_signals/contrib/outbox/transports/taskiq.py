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

from typing import Any

from taskiq import AsyncBroker, AsyncTaskiqDecoratedTask, Context, TaskiqDepends

from aksara_signals.contrib.outbox.outbox import Outbox, the_outbox
from aksara_signals.contrib.outbox.receiving import receive_until_done
from aksara_signals.contrib.outbox.transports.taskiq_publishing import TASK, TaskiqPublisher
from aksara_signals.contrib.outbox.worker.gateway import Sessions
from aksara_signals.exceptions import InvalidOptionError

_PACKAGES = ("taskiq", "taskiq_nats", "taskiq_redis")
_LOSING = ("NatsBroker", "ZeroMQBroker", "PubSub", "ListQueue")
"""The brokers that forget a message when they deliver it, or when nobody takes it."""

_CONTEXT: Any = TaskiqDepends()


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

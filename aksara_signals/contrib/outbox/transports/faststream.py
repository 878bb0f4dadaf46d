"""Durable receivers over FastStream: NATS JetStream, RabbitMQ, Redis streams and Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Self

from faststream import AckPolicy

from aksara_signals.contrib.outbox.events import DurableEvent
from aksara_signals.contrib.outbox.outbox import Outbox, the_outbox
from aksara_signals.contrib.outbox.transports.destinations import Destinations
from aksara_signals.contrib.outbox.transports.engines import engine_of
from aksara_signals.contrib.outbox.transports.handling import handler_of, message_itself
from aksara_signals.contrib.outbox.worker.gateway import Sessions


class FastStreamPublisher:
    """What :func:`faststream_publisher` makes."""

    def __init__(self, broker: Any, to: Destinations, options: dict[str, Any]) -> None:
        self._engine = engine_of(broker)
        self._to = to
        self._options = options
        self._connecting = asyncio.Lock()

    async def __call__(self, event: DurableEvent) -> None:
        """Publish an event, and return once the engine has confirmed it.

        Raises:
            OutboxError: The engine has dropped it.
            Exception: What the client of the engine raises.
        """
        async with self._connecting:
            await self._engine.connect()
        await self._engine.publish(event, self._to.of(event), self._options)

    async def __aenter__(self) -> Self:
        """Nothing: the first event connects the broker."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the broker, unless an application has started it."""
        if not self._engine.broker.running:
            await self._engine.stop()


def faststream_publisher(
    broker: Any, to: str = "aksara.{receiver}", *, partitions: int = 1, **options: Any
) -> FastStreamPublisher:
    """What a relay publishes by: ``outbox.relay(faststream_publisher(broker), Sessions)``.

    Args:
        broker: A broker of FastStream: NATS (JetStream), RabbitMQ, Redis (streams) or Kafka.
        to: The subject, queue, stream or topic; ``{receiver}`` stands for the receiver's name.
        partitions: Into how many parts the events of a receiver are divided, by object. Each part
            is in order, and has ``.0``, ``.1`` and so on appended to its name. Kafka has its own.
        options: More arguments of the broker's ``publish()``, such as ``maxlen`` for Redis.

    Raises:
        InvalidOptionError: FastStream has no such broker, or an argument is out of range.
    """
    return FastStreamPublisher(broker, Destinations(to, partitions), options)


def faststream_receiver(
    broker: Any,
    sessions: Sessions,
    to: str = "aksara.{receiver}",
    *,
    receivers: Iterable[str] = ("*",),
    partitions: int = 1,
    concurrency: int = 8,
    outbox: Outbox | None = None,
    **options: Any,
) -> None:
    """Subscribe the durable receivers of this process; call it before the broker is started.

    A receiver that fails is called again after the delays of its ``Retry``. Its message stays
    unacknowledged, and those behind it wait. A message is rejected if its attempts are used up.

    Args:
        broker: The broker.
        sessions: An ``async_sessionmaker`` or a ``sessionmaker``, of the receivers' database.
        to: As of the publisher.
        receivers: Names or patterns of the receivers, as ``"search.*"``.
        partitions: As of the publisher.
        concurrency: How many events a receiver with ``ordered=False`` is given at a time; by NATS,
            of all processes, and by the others, in each process.
        outbox: The outbox; by default, the one that is installed.
        options: More arguments of the broker's ``subscriber()``; ``arguments`` for RabbitMQ are
            those of the queues, such as ``{"x-dead-letter-exchange": "dead"}``.

    Raises:
        OutboxError: No outbox is installed, or no such receiver is connected.
        InvalidOptionError: FastStream has no such broker, or an argument is out of range.
    """
    engine, found = engine_of(broker), the_outbox(outbox)
    options = {"ack_policy": AckPolicy.NACK_ON_ERROR, **options}
    for entry, destination in Destinations(to, partitions).received(receivers):
        is_ordered = entry.options.ordered
        at_a_time = 1 if is_ordered else concurrency
        for arguments in engine.subscriptions(destination, at_a_time, options):
            subscriber = broker.subscriber(**arguments)
            subscriber(handler_of(engine, sessions, found, is_ordered), decoder=message_itself)

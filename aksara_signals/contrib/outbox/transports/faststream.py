"""Durable receivers over FastStream: NATS JetStream, RabbitMQ, Redis streams and Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Self

from faststream import AckPolicy, Context
from faststream.exceptions import RejectMessage

from aksara_signals.contrib.outbox.events import DurableEvent
from aksara_signals.contrib.outbox.outbox import Outbox, the_outbox
from aksara_signals.contrib.outbox.receiving import receive_until_done
from aksara_signals.contrib.outbox.transports.destinations import Destinations
from aksara_signals.contrib.outbox.transports.engines import engine_of
from aksara_signals.contrib.outbox.worker.gateway import Sessions

PULSE_SECONDS = 10.0
"""How often an engine learns that a message is still being worked on; NATS waits for 30 seconds."""

_MESSAGE = Context("message")


class FastStreamPublisher:
    """What :func:`faststream_publisher` makes."""

    def __init__(self, broker: Any, to: Destinations, options: dict[str, Any]) -> None:
        self._broker = broker
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
        destination = self._to.of(event)
        given = {} if "stream" in self._options else await self._engine.options(event, destination)
        result = await self._broker.publish(
            event.as_cloudevent(),
            **{self._engine.destination: destination, **given, **self._options},
        )
        self._engine.check(result, destination)

    async def __aenter__(self) -> Self:
        """Nothing: the first event connects the broker."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the broker, unless an application has started it."""
        if not self._broker.running:
            await self._broker.stop()


def faststream_publisher(
    broker: Any, to: str = "aksara.{receiver}", *, partitions: int = 1, **options: Any
) -> FastStreamPublisher:
    """What a relay publishes by: ``outbox.relay(faststream_publisher(broker), Sessions)``.

    Args:
        broker: A broker of FastStream: NATS (JetStream), RabbitMQ, Redis (streams) or Kafka.
        to: The subject, queue, stream or topic; ``{receiver}`` stands for the receiver's name.
        partitions: Into how many parts the events of a receiver are divided, by object. Each part
            is in order, and has ``.0``, ``.1`` and so on appended to its name. Kafka has partitions
            of its own, and the events have a key.
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
        concurrency: How many events a receiver with ``ordered=False`` is given at a time.
        outbox: The outbox; by default, the one that is installed.
        options: More arguments of the broker's ``subscriber()``.

    Raises:
        OutboxError: No outbox is installed, or no such receiver is connected.
        InvalidOptionError: FastStream has no such broker, or an argument is out of range.
    """
    engine, found = engine_of(broker), the_outbox(outbox)
    for entry, destination in Destinations(to, partitions).received(receivers):
        at_a_time = 1 if entry.options.ordered else concurrency
        for subscription in engine.subscriptions(destination, at_a_time):
            arguments = {"ack_policy": AckPolicy.NACK_ON_ERROR, **subscription, **options}
            broker.subscriber(**arguments)(_handler(sessions, found))


def _handler(sessions: Sessions, outbox: Outbox) -> Any:
    async def handle(body: Any, message: Any = _MESSAGE) -> None:
        pulse = asyncio.create_task(_pulse(message))
        try:
            if not await receive_until_done(body, sessions, outbox):
                raise RejectMessage
        finally:
            pulse.cancel()

    return handle


async def _pulse(message: Any) -> None:
    """Keep a message, where the engine would give it to somebody else after a while."""
    while hasattr(message, "in_progress"):
        await asyncio.sleep(PULSE_SECONDS)
        await message.in_progress()

"""What differs between the engines of FastStream: how they confirm, and how they keep an order."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from aksara_signals.contrib.outbox.events import DurableEvent
from aksara_signals.contrib.outbox.transports.engine import GROUP, Engine
from aksara_signals.contrib.outbox.transports.redis_streams import RedisStreams
from aksara_signals.exceptions import InvalidOptionError, OutboxError

DAY_MILLISECONDS = 86_400_000


class Nats(Engine):
    """NATS JetStream: a durable pull consumer for each subject, shared by all processes."""

    destination = "subject"

    def __init__(self, broker: Any) -> None:
        super().__init__(broker)
        self._streams: dict[str, str] = {}
        self._was_running = False

    async def connect(self) -> None:
        """As in the base class; a client that has given up to reconnect is replaced."""
        if (await self.broker.connect()).is_closed:
            self._was_running |= self.broker.running
            await self.stop()
            await self.broker.connect()
        if self._was_running:
            await self.broker.start()
            self._was_running = False

    async def stop(self) -> None:
        """As in the base class; FastStream can't drain a closed client, and would keep it."""
        from nats.errors import ConnectionClosedError

        with suppress(ConnectionClosedError):
            await self.broker.stop()
        self.broker._connection = None  # noqa: SLF001 - no public name

    async def publish(self, event: DurableEvent, destination: str, options: dict[str, Any]) -> None:
        """To the stream that has the subject; without one, NATS confirms nothing."""
        stream = options.get("stream") or self._streams.get(destination)
        if stream is None:
            jetstream = self.broker.connection.jetstream()
            stream = await jetstream.find_stream_name_by_subject(destination)
            self._streams[destination] = stream
        try:
            await super().publish(
                event, destination, {"timeout": 10.0, **options, "stream": stream}
            )
        except BaseException:
            self._streams.pop(destination, None)  # perhaps another stream has the subject by now
            raise

    def subscriptions(
        self, destination: str, concurrency: int, options: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """In order: no message is delivered before the one before is acknowledged."""
        from faststream.nats import JStream, PullSub
        from nats.js.api import ConsumerConfig

        # With a client that has given up, FastStream's loop of a subscriber never awaits anything
        # again, and nothing else runs in this process.
        self.broker._connection_kwargs["max_reconnect_attempts"] = -1  # noqa: SLF001 - as above
        first = destination.partition(".")[0]
        # One of each subscription: it is changed when the subscription begins.
        config = replace(options.get("config") or ConsumerConfig(), max_ack_pending=concurrency)
        found = {
            "subject": destination,
            "stream": JStream(first, subjects=[f"{first}.>"]),
            "durable": destination.replace(".", "="),  # no receiver's name has one
            "pull_sub": PullSub(batch_size=1, timeout=5.0),
            "max_workers": concurrency,
        }
        return [{**found, **options, "config": config}]

    async def extend(self, message: Any) -> None:
        """NATS waits for 30 seconds, or as long as the consumer's ``ack_wait`` says."""
        await message.in_progress()


class Rabbit(Engine):
    """RabbitMQ: a durable queue with publisher confirms."""

    destination = "queue"

    async def publish(self, event: DurableEvent, destination: str, options: dict[str, Any]) -> None:
        """On disk when it is confirmed. What no queue takes is returned, and confirmed as well.

        Raises:
            OutboxError: There is no such queue, or the channel has no publisher confirms.
        """
        arguments = {"persist": True, **options, "mandatory": True, self.destination: destination}
        result = await self.broker.publish(event.as_cloudevent(), **arguments)
        if result is None:
            raise OutboxError(
                "RabbitMQ doesn't confirm what is published; give the broker a channel with "
                "publisher_confirms=True"
            )
        if type(getattr(result, "delivery", None)).__name__ == "Return":
            raise OutboxError(
                f"RabbitMQ has no queue {destination!r}, and would drop the event; start a "
                f"consumer, which declares it"
            )

    def subscriptions(
        self, destination: str, concurrency: int, options: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """In order: one consumer at a time, which has one message at a time."""
        from faststream.rabbit import Channel, RabbitQueue

        options = dict(options)
        # A receiver that is called again and again has its message for longer than half an hour.
        arguments: Any = {"x-consumer-timeout": DAY_MILLISECONDS, **options.pop("arguments", {})}
        if concurrency == 1:
            arguments["x-single-active-consumer"] = True
        queue = RabbitQueue(destination, durable=True, arguments=arguments)
        return [{"queue": queue, "channel": Channel(prefetch_count=concurrency), **options}]


class Kafka(Engine):
    """Kafka: a topic whose partitions keep the order of equal keys. Not tried against a server."""

    async def publish(self, event: DurableEvent, destination: str, options: dict[str, Any]) -> None:
        """With a key: all events of one object are in one partition."""
        key = str(event.id if event.lane is None else event.lane).encode()
        await super().publish(event, destination, {"key": key, **options})

    def subscriptions(
        self, destination: str, concurrency: int, options: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """A group, in which each partition has one consumer."""
        found = {"topics": destination, "group_id": GROUP, "auto_offset_reset": "earliest"}
        return [{**found, **options}]


_ENGINES = {
    "nats": Nats,
    "rabbit": Rabbit,
    "redis": RedisStreams,
    "kafka": Kafka,
    "confluent": Kafka,
}


def engine_of(broker: Any) -> Engine:
    """The engine of a broker of FastStream.

    Raises:
        InvalidOptionError: It is none, or one of an engine that isn't supported.
    """
    for cls in type(broker).__mro__:
        package, _, rest = cls.__module__.partition(".")
        engine = _ENGINES.get(rest.partition(".")[0]) if package == "faststream" else None
        if engine is not None:
            return engine(broker)
    raise InvalidOptionError(
        f"{type(broker).__qualname__} is not FastStream's broker of NATS, RabbitMQ, Redis or Kafka"
    )

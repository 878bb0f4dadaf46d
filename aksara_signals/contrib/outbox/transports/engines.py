"""What differs between the engines of FastStream: how they confirm, and how they keep an order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aksara_signals.contrib.outbox.events import DurableEvent
from aksara_signals.contrib.outbox.transports.engine import GROUP, Engine
from aksara_signals.contrib.outbox.transports.jetstream import JetStream
from aksara_signals.contrib.outbox.transports.redis_streams import RedisStreams
from aksara_signals.exceptions import InvalidOptionError, OutboxError

DAY_MILLISECONDS = 86_400_000


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


_ENGINES: dict[str, Callable[[Any], Engine]] = {
    "nats": JetStream,
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

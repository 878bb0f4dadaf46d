"""What differs between the engines of FastStream: how they confirm, and how they keep an order."""

from __future__ import annotations

import socket
from os import getpid
from typing import Any

from aksara_signals.contrib.outbox.events import DurableEvent
from aksara_signals.exceptions import InvalidOptionError, OutboxError

GROUP = "aksara"
"""The consumers that share the messages, where an engine has groups of them."""

IDLE_MILLISECONDS = 60_000
"""After this time, Redis gives a message of a consumer that has died to another one."""


class Engine:
    """How events are published to an engine, and how subscribers take them from it."""

    destination: str = "topic"
    """The argument of ``publish()`` that says where."""

    def __init__(self, broker: Any) -> None:
        self.broker = broker

    async def connect(self) -> None:
        """Connect, unless that is done."""
        await self.broker.connect()

    async def options(self, event: DurableEvent, destination: str) -> dict[str, Any]:
        """More arguments of ``publish()``."""
        return {}

    def check(self, result: Any, destination: str) -> None:
        """Look at what ``publish()`` has returned.

        Raises:
            OutboxError: The engine has dropped the event.
        """

    def subscriptions(self, destination: str, concurrency: int) -> list[dict[str, Any]]:
        """The arguments of each ``subscriber()`` that takes events from a destination.

        Args:
            concurrency: How many are delivered at a time: 1 for those that are in order.
        """
        raise NotImplementedError


class Nats(Engine):
    """NATS JetStream: a durable pull consumer for each subject, shared by all processes."""

    destination = "subject"

    def __init__(self, broker: Any) -> None:
        super().__init__(broker)
        self._streams: dict[str, str] = {}

    async def connect(self) -> None:
        """As in the base class; a client that has given up to reconnect is replaced."""
        if (await self.broker.connect()).is_closed:
            await self.broker.stop()
            await self.broker.connect()

    async def options(self, event: DurableEvent, destination: str) -> dict[str, Any]:
        """The stream of the subject, without which NATS confirms nothing."""
        stream = self._streams.get(destination)
        if stream is None:
            jetstream = self.broker.connection.jetstream()
            stream = await jetstream.find_stream_name_by_subject(destination)
            self._streams[destination] = stream
        return {"stream": stream, "timeout": 10.0}

    def subscriptions(self, destination: str, concurrency: int) -> list[dict[str, Any]]:
        """In order: no message is delivered before the one before is acknowledged."""
        from faststream.nats import JStream, PullSub
        from nats.js.api import ConsumerConfig

        first = destination.partition(".")[0]
        found = {
            "subject": destination,
            "stream": JStream(first, subjects=[f"{first}.>"]),
            "durable": destination.replace(".", "-"),
            "pull_sub": PullSub(batch_size=1, timeout=5.0),
            "config": ConsumerConfig(max_ack_pending=concurrency),
        }
        return [found | {"max_workers": concurrency} if concurrency > 1 else found]


class Rabbit(Engine):
    """RabbitMQ: a durable queue with publisher confirms."""

    destination = "queue"

    async def options(self, event: DurableEvent, destination: str) -> dict[str, Any]:
        """Messages that are on disk when they are confirmed."""
        return {"persist": True, "mandatory": True}

    def check(self, result: Any, destination: str) -> None:
        """RabbitMQ returns what no queue takes, and confirms it nevertheless."""
        if type(getattr(result, "delivery", None)).__name__ == "Return":
            raise OutboxError(
                f"RabbitMQ has no queue {destination!r}, and would drop the event; start a "
                f"consumer, which declares it"
            )

    def subscriptions(self, destination: str, concurrency: int) -> list[dict[str, Any]]:
        """In order: one consumer at a time, which has one message at a time."""
        from faststream.rabbit import Channel, RabbitQueue

        single: Any = {"x-single-active-consumer": True} if concurrency == 1 else None
        queue = RabbitQueue(destination, durable=True, arguments=single)
        return [{"queue": queue, "channel": Channel(prefetch_count=concurrency)}]


class Redis(Engine):
    """Redis: a stream with a group of consumers."""

    destination = "stream"

    def subscriptions(self, destination: str, concurrency: int) -> list[dict[str, Any]]:
        """One that reads what is new, and one that takes over what dead consumers had."""
        from faststream.redis import StreamSub

        name = f"{socket.gethostname()}-{getpid()}"
        subscriptions = (
            StreamSub(destination, group=GROUP, consumer=name, last_id=">"),
            StreamSub(destination, group=GROUP, consumer=name, min_idle_time=IDLE_MILLISECONDS),
        )
        found: list[dict[str, Any]] = [{"stream": each} for each in subscriptions]
        return [each | {"max_workers": concurrency} for each in found]


class Kafka(Engine):
    """Kafka: a topic whose partitions keep the order of equal keys. Not tried against a server."""

    async def options(self, event: DurableEvent, destination: str) -> dict[str, Any]:
        """The key: all events of one object are in one partition."""
        return {"key": str(event.id if event.lane is None else event.lane).encode()}

    def subscriptions(self, destination: str, concurrency: int) -> list[dict[str, Any]]:
        """A group, in which each partition has one consumer."""
        return [{"topics": destination, "group_id": GROUP, "auto_offset_reset": "earliest"}]


_ENGINES = {"nats": Nats, "rabbit": Rabbit, "redis": Redis, "kafka": Kafka, "confluent": Kafka}


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

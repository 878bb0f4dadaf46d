"""What carries messages in the tests of transports: NATS, RabbitMQ and Redis, by names of our own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from uuid import uuid4

from aksara_signals.contrib.outbox.transports import handling, redis_streams
from aksara_signals.contrib.outbox.transports.faststream import (
    FastStreamPublisher,
    faststream_publisher,
    faststream_receiver,
)
from kit.outbox_workers import eventually

RECEIVERS = ("test.notes", "test-notes")
"""The receivers whose queues a test may leave behind."""

MOST_PARTITIONS = 4


class Carrier(ABC):
    """A server that carries messages, and names that nobody else uses there.

    Args:
        url: Of the server.
        prefix: What all names begin with.
    """

    kind: ClassVar[str]

    def __init__(self, url: str, prefix: str = "") -> None:
        self.url = url
        self.prefix = prefix or f"aksara-test-{uuid4().hex[:12]}"
        self.template = self.prefix + ".{receiver}"

    @abstractmethod
    def broker(self, **options: Any) -> Any:
        """A broker of FastStream."""

    def impatient(self, seconds: float) -> dict[str, Any]:
        """Options with which a message comes again so soon after its consumer has died.

        The pulse, which has to be shorter, is changed for the process; a fixture undoes it.
        """
        handling.PULSE_SECONDS = seconds / 7
        return {}

    def publisher(self, broker: Any = None, **options: Any) -> FastStreamPublisher:
        return faststream_publisher(broker or self.broker(), self.template, **options)

    @asynccontextmanager
    async def consumer(self, sessions: Any, **options: Any) -> AsyncIterator[Any]:
        """A started broker that delivers to the durable receivers of this process."""
        broker = self.broker()
        faststream_receiver(broker, sessions, self.template, **options)
        await broker.start()
        try:
            yield broker
        finally:
            await broker.stop()

    def name(self, receiver: str = "test.notes", part: int | None = None) -> str:
        """Where the messages of a receiver are."""
        return f"{self.prefix}.{receiver}" + ("" if part is None else f".{part}")

    def names(self) -> list[str]:
        """All that a test may have made."""
        parts = (None, *range(MOST_PARTITIONS))
        return [self.name(receiver, part) for receiver in RECEIVERS for part in parts]

    @abstractmethod
    async def put(self, body: bytes) -> None:
        """Publish something that claims to be JSON."""

    @abstractmethod
    async def left(self) -> int:
        """How many messages are neither acknowledged nor rejected, once the consumers are gone."""

    @abstractmethod
    async def clean(self) -> None:
        """Remove what a test has made."""


class NatsCarrier(Carrier):
    kind = "nats"

    def broker(self, **options: Any) -> Any:
        from faststream.nats import NatsBroker

        return NatsBroker(self.url, logger=None, **options)

    def impatient(self, seconds: float) -> dict[str, Any]:
        from nats.js.api import ConsumerConfig

        return {**super().impatient(seconds), "config": ConsumerConfig(ack_wait=seconds)}

    async def put(self, body: bytes) -> None:
        async with self.jetstream() as jetstream:
            headers = {"content-type": "application/json"}
            await jetstream.publish(self.name(), body, headers=headers)

    async def left(self) -> int:
        async with self.jetstream() as jetstream:
            consumers = await jetstream.consumers_info(self.prefix)
            return sum((each.num_pending or 0) + (each.num_ack_pending or 0) for each in consumers)

    @asynccontextmanager
    async def jetstream(self) -> AsyncIterator[Any]:
        import nats

        client = await nats.connect(self.url)
        try:
            yield client.jetstream()
        finally:
            await client.close()

    async def clean(self) -> None:
        async with self.jetstream() as jetstream:
            if self.prefix in [each.config.name for each in await jetstream.streams_info()]:
                await jetstream.delete_stream(self.prefix)


class RabbitCarrier(Carrier):
    kind = "rabbit"

    def broker(self, **options: Any) -> Any:
        from faststream.rabbit import RabbitBroker

        return RabbitBroker(self.url, logger=None, **options)

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Any]:
        import aio_pika

        connection = await aio_pika.connect(self.url)
        async with connection:
            yield await connection.channel()

    async def put(self, body: bytes) -> None:
        import aio_pika

        async with self.channel() as channel:
            message = aio_pika.Message(body, content_type="application/json")
            await channel.default_exchange.publish(message, self.name())

    async def left(self) -> int:
        from aio_pika.exceptions import ChannelNotFoundEntity

        found = 0
        for name in self.names():
            async with self.channel() as channel:
                try:
                    queue = await channel.declare_queue(name, passive=True)
                except ChannelNotFoundEntity:
                    continue
                found += queue.declaration_result.message_count or 0
        return found

    async def clean(self) -> None:
        async with self.channel() as channel:
            for name in (*self.names(), self.name("dead")):
                await channel.queue_delete(name)
            await channel.exchange_delete(self.name("dead"))


class RedisCarrier(Carrier):
    kind = "redis"

    def broker(self, **options: Any) -> Any:
        from faststream.redis import RedisBroker

        return RedisBroker(self.url, logger=None, **options)

    def impatient(self, seconds: float) -> dict[str, Any]:
        redis_streams.IDLE_MILLISECONDS = int(seconds * 1000)
        redis_streams.CLAIM_MILLISECONDS = 50
        return super().impatient(seconds)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        from redis.asyncio import Redis

        async with Redis.from_url(self.url) as client:
            yield client

    async def put(self, body: bytes) -> None:
        async with self.client() as client:
            await client.xadd(self.name(), {"__data__": body})

    async def left(self) -> int:
        found = 0
        async with self.client() as client:
            async for name in client.scan_iter(match=f"{self.prefix}*"):
                for group in await client.xinfo_groups(name):
                    found += group["pending"] + (group["lag"] or 0)
        return found

    async def clean(self) -> None:
        async with self.client() as client:
            async for name in client.scan_iter(match=f"{self.prefix}*"):
                await client.delete(name)


CARRIERS: dict[str, type[Carrier]] = {
    each.kind: each for each in (NatsCarrier, RabbitCarrier, RedisCarrier)
}


async def nothing_is_left(carrier: Carrier) -> None:
    """Wait until all messages are acknowledged or rejected, with no consumer any more."""

    async def is_empty() -> bool:
        return await carrier.left() == 0

    await eventually(is_empty, 20.0)

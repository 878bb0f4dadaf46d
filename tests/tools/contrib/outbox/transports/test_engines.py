"""What differs between the engines: their confirmations, queues, streams and reconnections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit.brokers import NatsServer, nats_server
from kit.carriers import Carrier, NatsCarrier, RabbitCarrier, RedisCarrier, nothing_is_left
from kit.outbox_workers import Effect, World, connect, eventually, outbox, plain

from aksara_signals.contrib.outbox import Durable, DurableEvent, Retry
from aksara_signals.contrib.outbox.transports.engine import Engine
from aksara_signals.contrib.outbox.transports.engines import engine_of
from aksara_signals.contrib.outbox.transports.faststream import (
    faststream_publisher,
    faststream_receiver,
)
from aksara_signals.exceptions import InvalidOptionError, OutboxError

SECONDS = 45.0


@pytest.fixture
async def event(small: World) -> DurableEvent:
    """What a relay publishes."""
    found: list[DurableEvent] = []
    connect(_copy, Durable("test.notes", include=("text",)))
    await small.write("text")
    async with outbox.relay(found.append, small.sessions):
        await eventually(lambda: found, SECONDS)
    return found[0]


def _copy(event: Any, session: Any, **_: Any) -> None:
    plain(session).add(Effect(note_id=event.key[0], by=event.values["text"]))


async def _has_effect(world: World) -> bool:
    return [by for _, by in await world.effects()] == ["text"]


# -- RabbitMQ -----------------------------------------------------------------------------------------


async def test_rabbitmq_has_no_such_queue(rabbit: RabbitCarrier, event: DurableEvent) -> None:
    """Publishing to it is an error; RabbitMQ itself would confirm and drop the event."""
    async with rabbit.publisher() as publish:
        with pytest.raises(OutboxError, match=r"RabbitMQ has no queue '.*test\.notes'"):
            await publish(event)


async def test_rabbitmq_confirms_nothing(
    rabbit: RabbitCarrier, small: World, event: DurableEvent
) -> None:
    """A channel without confirms is an error: an event may be lost on its way."""
    from faststream.rabbit import Channel

    broker = rabbit.broker(default_channel=Channel(publisher_confirms=False))
    async with rabbit.consumer(small.sessions), rabbit.publisher(broker) as publish:
        with pytest.raises(OutboxError, match="publisher_confirms=True"):
            await publish(event)


async def test_dead_letters_of_rabbitmq(rabbit: RabbitCarrier, small: World) -> None:
    """A message whose attempts are used up goes where the queue sends what is rejected."""

    def fail(**_: Any) -> None:
        raise ValueError("no")

    connect(fail, Durable("test.notes", retry=Retry(attempts=1)))
    await small.write("text")
    dead = rabbit.name("dead")
    async with rabbit.channel() as channel:
        exchange = await channel.declare_exchange(dead, "fanout")
        queue = await channel.declare_queue(dead)
        await queue.bind(exchange)
        arguments = {"x-dead-letter-exchange": dead}
        async with (
            rabbit.consumer(small.sessions, arguments=arguments),
            outbox.relay(rabbit.publisher(), small.sessions),
        ):
            async with asyncio.timeout(SECONDS):
                while (message := await queue.get(fail=False)) is None:
                    await asyncio.sleep(0.05)
        assert DurableEvent.from_cloudevent(message.body).receiver == "test.notes"
        await message.ack()
    await nothing_is_left(rabbit)


# -- NATS ---------------------------------------------------------------------------------------------


async def test_nats_has_no_such_stream(nats_carrier: NatsCarrier, event: DurableEvent) -> None:
    """Publishing to it is an error."""
    from nats.js.errors import NotFoundError

    async with nats_carrier.publisher() as publish:
        with pytest.raises(NotFoundError):
            await publish(event)


async def test_another_stream_has_the_subject_by_now(
    nats_carrier: NatsCarrier, event: DurableEvent
) -> None:
    """It is found after the failure that follows from that."""
    import nats
    from nats.js.errors import APIError

    client = await nats.connect(nats_carrier.url)
    jetstream = client.jetstream()
    subject = nats_carrier.name()
    await jetstream.add_stream(name=nats_carrier.prefix + "-old", subjects=[subject])
    try:
        async with nats_carrier.publisher() as publish:
            await publish(event)
            await jetstream.delete_stream(nats_carrier.prefix + "-old")
            await jetstream.add_stream(name=nats_carrier.prefix, subjects=[subject])
            with pytest.raises(APIError):
                await publish(event)
            await publish(event)
        info = await jetstream.stream_info(nats_carrier.prefix)
        assert info.state.messages == 1
    finally:
        await client.close()


@pytest.mark.parametrize("is_started", [False, True])
async def test_a_client_of_nats_that_has_given_up(
    small: World, event: DurableEvent, is_started: bool
) -> None:
    """It is replaced; a broker that an application has started is started again."""
    from nats.errors import NoServersError

    with nats_server() as server:
        carrier = NatsCarrier(server.url)
        broker = carrier.broker(max_reconnect_attempts=1, reconnect_time_wait=0.01)
        async with carrier.consumer(small.sessions):  # it makes the stream
            pass
        if is_started:
            await broker.start()
        publish = carrier.publisher(broker)
        await publish(event)
        client = broker.connection
        server.kill()
        await eventually(lambda: client.is_closed, SECONDS)
        with pytest.raises(NoServersError):
            await publish(event)
        await publish.__aexit__()  # a relay may end meanwhile
        server.start()
        await publish(event)
        assert broker.connection is not client
        assert broker.running is is_started
        await broker.stop()
        async with carrier.consumer(small.sessions):
            await eventually(lambda: _has_effect(small), SECONDS)


async def test_a_consumer_of_nats_never_gives_up(small: World, event: DurableEvent) -> None:
    """It goes on when the server is there again, however short its broker's patience is."""
    with nats_server() as server:
        carrier = NatsCarrier(server.url)
        broker = carrier.broker(max_reconnect_attempts=1, reconnect_time_wait=0.01)
        faststream_receiver(broker, small.sessions, carrier.template)
        await broker.start()
        server.kill()
        await asyncio.sleep(0.5)  # for some attempts
        assert not broker.connection.is_closed
        server.start()
        async with carrier.publisher() as publish:
            await publish(event)
        await eventually(lambda: _has_effect(small), SECONDS)
        await broker.stop()


async def test_the_order_of_nats_is_kept_with_a_configuration_of_its_user(
    nats_carrier: NatsCarrier, small: World
) -> None:
    """It says how long to wait, for example, and is not shared by the receivers."""
    connect(_copy, Durable("test.notes", include=("text",)))
    connect(_other, Durable("test-notes", ordered=False))
    options = nats_carrier.impatient(7.0)
    async with (
        nats_carrier.consumer(small.sessions, concurrency=3, **options),
        nats_carrier.jetstream() as jetstream,
    ):
        infos = await jetstream.consumers_info(nats_carrier.prefix)
    found = {each.config.filter_subject: each.config for each in infos}
    ordered = found[nats_carrier.name("test.notes")]
    unordered = found[nats_carrier.name("test-notes")]
    assert (ordered.ack_wait, ordered.max_ack_pending) == (7.0, 1)
    assert (unordered.ack_wait, unordered.max_ack_pending) == (7.0, 3)
    assert options["config"].max_ack_pending is None


def _other(event: Any, **_: Any) -> None:
    """Another receiver."""


# -- Redis --------------------------------------------------------------------------------------------


async def test_redis_refuses_what_is_published(redis: RedisCarrier, event: DurableEvent) -> None:
    """What has the name of the stream is not a stream."""
    from redis.exceptions import ResponseError

    async with redis.client() as client:
        await client.set(redis.name(), "text")
    async with redis.publisher() as publish:
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await publish(event)


async def test_the_length_of_a_stream(redis: RedisCarrier, event: DurableEvent) -> None:
    """Options of the publisher are those of ``publish()``."""
    async with redis.publisher(maxlen=2) as publish:
        for _ in range(250):
            await publish(event)
    async with redis.client() as client:
        assert await client.xlen(redis.name()) < 250  # Redis removes 100 at a time


# -- Kafka --------------------------------------------------------------------------------------------


class KafkaBrokerOfTests:
    """Has no server: it shows what FastStream's broker is given."""

    __module__ = "faststream.kafka.broker.broker"

    def __init__(self) -> None:
        self.running = True
        self.published: list[dict[str, Any]] = []

    async def connect(self) -> None:
        """Nothing."""

    async def publish(self, message: object, **arguments: Any) -> None:
        self.published.append(arguments)


async def test_arguments_of_kafka(event: DurableEvent) -> None:
    """All events of one object have one key, those of unordered receivers have any."""
    broker = KafkaBrokerOfTests()
    async with faststream_publisher(broker, acks="all") as publish:
        await publish(event)
        await publish(_unordered(event))
    lane, single = broker.published
    assert lane == {"topic": "aksara.test.notes", "key": str(event.lane).encode(), "acks": "all"}
    assert single["key"] == str(event.id).encode()
    assert engine_of(broker).subscriptions("a.b", 8, {"group_id": "mine"}) == [
        {"topics": "a.b", "group_id": "mine", "auto_offset_reset": "earliest"}
    ]


def _unordered(event: DurableEvent) -> DurableEvent:
    from dataclasses import replace

    return replace(event, lane=None)


# -- mistakes -----------------------------------------------------------------------------------------


def test_a_broker_of_somebody_else(small: World) -> None:
    for broker in (object(), "nats://localhost", AsyncIterator):
        with pytest.raises(InvalidOptionError, match="is not FastStream's broker of NATS"):
            faststream_publisher(broker)
        with pytest.raises(InvalidOptionError, match="is not FastStream's broker of NATS"):
            faststream_receiver(broker, small.sessions)


def test_a_broker_of_faststream_for_which_there_is_no_engine() -> None:
    cls = type("MqttBroker", (), {"__module__": "faststream.mqtt.broker"})
    with pytest.raises(InvalidOptionError, match="MqttBroker is not FastStream's broker"):
        faststream_publisher(cls())


def test_a_subclass_of_a_broker(nats: NatsServer) -> None:
    from faststream.nats import NatsBroker

    class BrokerOfAnApplication(NatsBroker):
        """Has a module of its own."""

    assert engine_of(BrokerOfAnApplication(nats.url)).destination == "subject"


async def test_no_receivers(carrier: Carrier, small: World) -> None:
    """A consumer that would never deliver anything is an error."""
    with pytest.raises(OutboxError, match=r"no durable receiver is connected that no\.\* matches"):
        faststream_receiver(carrier.broker(), small.sessions, carrier.template, receivers=["no.*"])
    connect(_copy)
    with pytest.raises(OutboxError, match=r"that search\.\* or mail\.\* matches"):
        faststream_receiver(carrier.broker(), small.sessions, receivers=["search.*", "mail.*"])


def test_no_outbox(nats: NatsServer) -> None:
    with pytest.raises(OutboxError, match="outbox"):
        faststream_receiver(NatsCarrier(nats.url).broker(), object)  # type: ignore[arg-type]


def test_an_engine_says_how_it_is_subscribed_to() -> None:
    with pytest.raises(TypeError, match="subscriptions"):
        Engine(object())  # type: ignore[abstract]

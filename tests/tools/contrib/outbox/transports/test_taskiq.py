"""Durable receivers over taskiq, on NATS JetStream, with real worker processes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from kit.brokers import NatsServer, nats_server
from kit.outbox_workers import DONE, WAITING, World, connect, eventually, outbox
from kit.queued.receivers import ALWAYS_FAILS, FAILS_TWICE, IS_SLOW, Receivers
from kit.queued.taskiq_worker import make_broker
from kit.queued.workers import Workers, workers_of
from taskiq import InMemoryBroker
from taskiq_nats import NatsBroker, PullBasedJetStreamBroker

from aksara_signals.contrib.outbox import DurableEvent
from aksara_signals.contrib.outbox.transports.taskiq import (
    TaskiqPublisher,
    taskiq_publisher,
    taskiq_receiver,
)
from aksara_signals.exceptions import InvalidOptionError

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 120.0


@pytest.fixture
def server() -> Iterator[NatsServer]:
    """A NATS server for one test, which may kill it."""
    with nats_server() as found:
        yield found


@pytest.fixture
def prefix() -> str:
    return f"aksara-test-{uuid.uuid4().hex}"


@pytest.fixture
def receivers(tmp_path: Path) -> Receivers:
    """The receivers, connected here, so that events are written for them."""
    found = Receivers(tmp_path)
    found.connect()
    return found


@pytest.fixture
def workers(
    async_world: World, tmp_path: Path, server: NatsServer, prefix: str
) -> Iterator[Workers]:
    """Worker processes."""
    with workers_of(async_world.database, tmp_path, server.url, prefix) as found:
        yield found


@pytest.fixture
async def broker(server: NatsServer, prefix: str) -> AsyncIterator[PullBasedJetStreamBroker]:
    """A broker that nobody has started."""
    found = make_broker(server.url, prefix)
    yield found
    await found.client.close()


async def relayed(world: World, publish: TaskiqPublisher) -> list[DurableEvent]:
    """Publish everything that is in the outbox, and return it."""
    found: list[DurableEvent] = []

    async def note(event: DurableEvent) -> None:
        await publish(event)
        found.append(event)

    async with publish, outbox.relay(note, world.sessions, longest_poll_seconds=0.05):
        await eventually(lambda: all_done(world), PATIENCE_SECONDS)
    return found


async def all_done(world: World) -> bool:
    return set(await world.statuses()) == {DONE}


async def effects(world: World) -> list[str]:
    return sorted(by for _, by in await world.effects())


async def left(url: str, prefix: str) -> int:
    """How many events of a stream aren't acknowledged."""
    client = await nats.connect(url)
    try:
        info = await client.jetstream().consumer_info(f"{prefix}-stream", f"{prefix}-workers")
    finally:
        await client.close()
    return int(info.num_pending or 0) + int(info.num_ack_pending or 0)


async def test_each_event_has_one_effect_however_often_it_is_published(
    async_world: World,
    server: NatsServer,
    prefix: str,
    broker: PullBasedJetStreamBroker,
    workers: Workers,
    receivers: Receivers,
) -> None:
    """Failures are retried after the delays of Retry, with their number; then reported as dead."""

    async def none_left() -> bool:
        return await left(server.url, prefix) == 0

    fine = [f"note {number}" for number in range(10)]
    await async_world.write(FAILS_TWICE, ALWAYS_FAILS, *fine)
    publish = taskiq_publisher(broker)
    events = await relayed(async_world, publish)
    assert not broker.client.is_connected
    worker = workers.taskiq()
    await eventually(none_left, PATIENCE_SECONDS)
    expected = sorted([*fine, FAILS_TWICE])
    assert await effects(async_world) == expected
    assert receivers.attempts(FAILS_TWICE) == receivers.attempts(ALWAYS_FAILS) == [1, 2, 3]
    assert len(receivers.attempts("dead queued.copy")) == 1
    assert len(receivers.calls()) == 10 + 3 + 3 + 1
    times = [call.at for call in receivers.calls() if call.text == FAILS_TWICE]
    assert times[1] - times[0] >= 0.2
    assert times[2] - times[1] >= 0.6

    async with publish:
        for event in events:
            if event.values["text"] != ALWAYS_FAILS:
                await publish(event)
    await eventually(none_left, PATIENCE_SECONDS)
    assert await effects(async_world) == expected
    assert len(receivers.calls()) == 10 + 3 + 3 + 1
    assert worker.end() == 0


async def test_an_event_is_delivered_again_whose_worker_is_killed(
    async_world: World,
    server: NatsServer,
    prefix: str,
    broker: PullBasedJetStreamBroker,
    workers: Workers,
    receivers: Receivers,
) -> None:
    """SIGKILL of a worker, in the middle of a receiver: another worker has one effect."""
    first = workers.taskiq()
    await async_world.write(IS_SLOW, "another")
    await relayed(async_world, taskiq_publisher(broker))
    await eventually(lambda: receivers.attempts(IS_SLOW), PATIENCE_SECONDS)
    first.kill()
    second = workers.taskiq()

    async def is_done() -> bool:
        return await left(server.url, prefix) == 0

    await eventually(is_done, PATIENCE_SECONDS)
    assert await effects(async_world) == ["another", IS_SLOW]
    assert receivers.attempts(IS_SLOW) == [1, 1]
    assert second.end() == 0


async def test_an_event_is_delivered_again_whose_worker_is_stopped_before_it_is_done(
    async_world: World,
    server: NatsServer,
    prefix: str,
    broker: PullBasedJetStreamBroker,
    workers: Workers,
    receivers: Receivers,
) -> None:
    """A worker that ends without waiting cancels receivers; that acknowledges nothing."""
    first = workers.taskiq("--wait-tasks-timeout", "0.1", "--shutdown-timeout", "5")
    await async_world.write(IS_SLOW)
    await relayed(async_world, taskiq_publisher(broker))
    await eventually(lambda: receivers.attempts(IS_SLOW), PATIENCE_SECONDS)
    first.end()
    second = workers.taskiq()

    async def is_done() -> bool:
        return await left(server.url, prefix) == 0

    await eventually(is_done, PATIENCE_SECONDS)
    assert await effects(async_world) == [IS_SLOW]
    assert receivers.attempts(IS_SLOW) == [1, 1]
    assert second.end() == 0


async def test_an_outage_of_the_broker_counts_nothing(
    async_world: World, server: NatsServer, broker: PullBasedJetStreamBroker, receivers: Receivers
) -> None:
    """What can't be published is published later, also by a client that has given up."""
    broker.connection_kwargs.update(
        max_reconnect_attempts=1, reconnect_time_wait=0.01, connect_timeout=0.5
    )
    publish, refused = taskiq_publisher(broker), []

    async def note(event: DurableEvent) -> None:
        try:
            await publish(event)
        except Exception as error:
            refused.append(error)
            raise

    relay = outbox.relay(note, async_world.sessions, longest_poll_seconds=0.05)
    async with publish, relay:
        await async_world.write("before")
        await eventually(lambda: all_done(async_world), PATIENCE_SECONDS)
        server.kill()
        await async_world.write("meanwhile", "too")
        await eventually(lambda: len(refused) >= 6, PATIENCE_SECONDS)
        assert (await async_world.statuses())[1:] == [WAITING, WAITING]
        server.start()
        await eventually(lambda: all_done(async_world), PATIENCE_SECONDS)
        assert {row.attempts for row in await async_world.rows()} == {0}
        info = await broker.js.stream_info(broker.stream_name)
        assert info.state.messages >= 3  # one whose confirmation was lost is published again


async def test_a_broker_that_the_application_has_started_is_left_running(
    async_world: World, broker: PullBasedJetStreamBroker, receivers: Receivers
) -> None:
    """Neither started twice, nor shut down, nor replaced."""
    publish = taskiq_publisher(broker)
    await broker.startup()
    stream = broker.js
    await async_world.write("one")
    await relayed(async_world, publish)
    assert broker.client.is_connected
    assert broker.js is stream
    await broker.shutdown()


async def test_a_broker_whose_shutdown_fails_is_given_up(
    server: NatsServer, prefix: str, caplog: pytest.LogCaptureFixture, receivers: Receivers
) -> None:
    """A relay ends, whatever its broker does."""
    broker = make_broker(server.url, prefix)

    def fail(_state: Any) -> None:
        raise ValueError("no shutdown")

    from taskiq import TaskiqEvents

    broker.add_event_handler(TaskiqEvents.CLIENT_SHUTDOWN, fail)
    async with taskiq_publisher(broker) as publish:
        await publish(an_event())
    assert not broker.client.is_connected
    assert "can't be shut down: ValueError: no shutdown" in caplog.text


async def test_in_memory_receivers_are_called_at_once(async_world: World) -> None:
    """taskiq's broker for tests, which has nothing to acknowledge."""
    found: list[Any] = []

    def note(event: Any, **kwargs: Any) -> None:
        found.append((event.key, event.attempt))

    connect(note, "queued.note")
    broker = InMemoryBroker(await_inplace=True)
    taskiq_receiver(broker, async_world.sessions)
    [key] = await async_world.write("one")
    await relayed(async_world, taskiq_publisher(broker))
    assert found == [((key,), 1)]


async def test_a_task_acknowledges_once_its_receiver_has_succeeded(
    async_world: World, broker: PullBasedJetStreamBroker, receivers: Receivers
) -> None:
    """Taskiq's own receiver of messages, in this process."""
    from taskiq.receiver import Receiver

    taskiq_receiver(broker, async_world.sessions)
    await async_world.write("one", FAILS_TWICE)
    publish = taskiq_publisher(broker)
    await broker.startup()
    await relayed(async_world, publish)
    finish = asyncio.Event()
    listening = asyncio.create_task(
        Receiver(broker, max_async_tasks=4, run_startup=False).listen(finish)
    )

    async def none_left() -> bool:
        info = await broker.consumer.consumer_info()
        return not info.num_pending and not info.num_ack_pending

    await eventually(none_left, PATIENCE_SECONDS)
    assert await effects(async_world) == [FAILS_TWICE, "one"]
    finish.set()
    await listening
    await broker.shutdown()


def test_a_broker_that_would_lose_events_is_refused() -> None:
    """Those that forget a message when they deliver it."""
    with pytest.raises(InvalidOptionError, match="NatsBroker loses events"):
        taskiq_publisher(NatsBroker("nats://127.0.0.1:1"))
    with pytest.raises(InvalidOptionError, match="NatsBroker loses events"):
        taskiq_receiver(NatsBroker("nats://127.0.0.1:1"), lambda: None, outbox=outbox)


def an_event() -> DurableEvent:
    return DurableEvent(
        id=uuid.uuid4(), type="post_save", receiver="queued.copy", model="app.Post", key=(1,)
    )

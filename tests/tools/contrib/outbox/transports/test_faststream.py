"""Durable receivers over FastStream, on each of its engines that there is a server for."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from kit.carriers import Carrier, nothing_is_left
from kit.consuming import DIED, IMPATIENT_SECONDS, connect_copy
from kit.outbox_workers import DONE, Effect, World, connect, eventually, outbox, plain

from aksara_signals import on_delivery_error
from aksara_signals.contrib.outbox import Durable, Retry, hooks
from aksara_signals.contrib.outbox.transports import handling

pytestmark = pytest.mark.slow

SECONDS = 45.0
"""How long anything may take on a loaded machine."""

QUICK = Retry(attempts=100, first_seconds=0.01, factor=1, jitter=0)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Receivers fail on purpose."""
    logger = logging.getLogger("aksara_signals.outbox")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def counts() -> Iterator[Counter[str]]:
    """What has become of messages, counted as metrics are."""
    found: Counter[str] = Counter()

    def observe(name: str, receiver: str, value: float) -> None:
        found[name] += 1

    hooks.observers.append(observe)
    yield found
    hooks.observers.remove(observe)


def relay(world: World, publish: Any, **options: Any) -> Any:
    return outbox.relay(publish, world.sessions, longest_poll_seconds=0.05, **options)


async def has_effects(world: World, count: int) -> None:
    async def are_there() -> bool:
        return len(await world.effects()) >= count

    await eventually(are_there, SECONDS)


async def all_published(world: World) -> None:
    async def are_done() -> bool:
        return set(await world.statuses()) == {DONE}

    await eventually(are_done, SECONDS)


async def publish_all(world: World, publish: Any) -> None:
    async with relay(world, publish):
        await all_published(world)


# -- delivery and order -------------------------------------------------------------------------------


async def test_every_event_has_one_effect(carrier: Carrier, small: World) -> None:
    connect_copy()
    texts = [str(number) for number in range(30)]
    await small.write(*texts)
    async with carrier.consumer(small.sessions), relay(small, carrier.publisher()):
        await has_effects(small, 30)
    assert sorted(by for _, by in await small.effects()) == sorted(texts)
    await nothing_is_left(carrier)


async def test_events_of_before_the_first_consumer_are_delivered(
    carrier: Carrier, small: World
) -> None:
    """RabbitMQ would drop them, and NATS can't store them: then the relay keeps them."""
    connect_copy()
    await small.write("early")
    tries: list[BaseException | None] = []
    publisher = carrier.publisher()

    async def publish(event: Any) -> None:
        try:
            await publisher(event)
        except BaseException as error:
            tries.append(error)
            raise
        tries.append(None)

    async with publisher, relay(small, publish):
        await eventually(lambda: len(tries) >= (1 if carrier.kind == "redis" else 4), SECONDS)
        assert all((error is None) is (carrier.kind == "redis") for error in tries)
        async with carrier.consumer(small.sessions):
            await has_effects(small, 1)
            await all_published(small)
    assert [by for _, by in await small.effects()] == ["early"]
    await nothing_is_left(carrier)


@pytest.mark.parametrize("partitions", [1, 4])
async def test_the_order_of_each_object(carrier: Carrier, large: World, partitions: int) -> None:
    """Of a receiver that fails at random, with two consumers that compete for the messages."""
    chance = random.Random(partitions)
    running: Counter[int] = Counter()
    most_at_once = 0

    async def copy(session: Any, event: Any, **_: Any) -> None:
        nonlocal most_at_once
        lane = 0 if partitions == 1 else event.key[0]
        running[lane] += 1
        most_at_once = max(most_at_once, running[lane])
        try:
            await asyncio.sleep(chance.random() / 100)
            if chance.random() < 0.2:
                raise ValueError("sometimes")
            session.add(Effect(note_id=event.key[0], by=event.values["text"]))
        finally:
            running[lane] -= 1

    connect(copy, Durable("test.notes", include=("text",), retry=QUICK))
    keys = await large.write(*"aaaaaa")
    for text in "bcde":
        for key in keys:
            await large.edit(key, text)
    options = {"partitions": partitions}
    async with (
        carrier.consumer(large.sessions, **options),
        carrier.consumer(large.sessions, **options),
        relay(large, carrier.publisher(**options)),
    ):
        await has_effects(large, 30)
    found = await large.effects()
    assert {key: "".join(by for k, by in found if k == key) for key in keys} == dict.fromkeys(
        keys, "abcde"
    )
    assert most_at_once == 1
    await nothing_is_left(carrier)


async def test_receivers_without_an_order_run_side_by_side(carrier: Carrier, small: World) -> None:
    """As many as ``concurrency`` says, and no more."""
    barrier = asyncio.Barrier(4)
    running = most_at_once = 0
    seen: list[int] = []

    async def gather(event: Any, **_: Any) -> None:
        nonlocal running, most_at_once
        running += 1
        most_at_once = max(most_at_once, running)
        async with asyncio.timeout(SECONDS):
            await barrier.wait()  # raises, and so fails the test, if there are never four
        running -= 1
        seen.append(event.key[0])

    connect(gather, Durable("test.notes", ordered=False))
    keys = await small.write(*"12345678")
    async with (
        carrier.consumer(small.sessions, concurrency=4),
        relay(small, carrier.publisher()),
    ):
        await eventually(lambda: len(seen) >= 8, SECONDS)
    assert sorted(seen) == keys
    assert most_at_once == 4
    await nothing_is_left(carrier)


async def test_receivers_whose_names_differ_in_one_character(
    carrier: Carrier, small: World
) -> None:
    """Each is called for its own events, and under a former name for what was published then."""

    def by_dot(event: Any, session: Any, **_: Any) -> None:
        plain(session).add(Effect(note_id=event.key[0], by="dot"))

    def by_dash(event: Any, session: Any, **_: Any) -> None:
        plain(session).add(Effect(note_id=event.key[0], by="dash"))

    connect(by_dot, "test.notes")
    connect(by_dash, "test-notes")
    await small.write("text")
    async with carrier.consumer(small.sessions), relay(small, carrier.publisher()):
        await has_effects(small, 2)
    assert sorted(by for _, by in await small.effects()) == ["dash", "dot"]
    await nothing_is_left(carrier)


# -- repeats ------------------------------------------------------------------------------------------


async def test_what_is_published_twice_has_one_effect(
    carrier: Carrier, small: World, counts: Counter[str]
) -> None:
    connect_copy()
    await small.write(*"1234")
    publisher = carrier.publisher()

    async def publish_twice(event: Any) -> None:
        await publisher(event)
        await publisher(event)

    async with publisher, carrier.consumer(small.sessions), relay(small, publish_twice):
        await eventually(lambda: counts["repeated"] >= 4, SECONDS)
    assert sorted(by for _, by in await small.effects()) == list("1234")
    assert counts["repeated"] == 4
    await nothing_is_left(carrier)


@asynccontextmanager
async def consuming(carrier: Carrier, folder: Path, dies: str) -> AsyncIterator[Any]:
    """A consumer in a process of its own, killed at the end if it still runs."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    arguments = ("-m", "kit.consuming", carrier.kind, carrier.url, carrier.prefix, str(folder))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, dies, env=environment, stderr=None
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_an_application_of_faststream(carrier: Carrier, small: World, tmp_path: Path) -> None:
    """It delivers, and ends as any other on SIGTERM."""
    connect_copy()
    await small.write(*"123")
    async with consuming(carrier, tmp_path, "never") as process:
        async with relay(small, carrier.publisher()):
            await has_effects(small, 3)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(SECONDS):
            assert await process.wait() == 0
    assert sorted(by for _, by in await small.effects()) == ["1", "2", "3"]
    await nothing_is_left(carrier)


@pytest.mark.parametrize("dies", ["before", "after"])
async def test_a_consumer_that_dies(
    carrier: Carrier, small: World, tmp_path: Path, counts: Counter[str], dies: str
) -> None:
    """Its message comes again, before the later ones, and has one effect."""
    connect_copy()
    [key] = await small.write("first")
    await small.edit(key, "second")
    async with consuming(carrier, tmp_path, dies) as process, relay(small, carrier.publisher()):
        async with asyncio.timeout(SECONDS):
            assert await process.wait() == DIED
        await all_published(small)
    assert [by for _, by in await small.effects()] == ["first"][: dies == "after"]
    async with carrier.consumer(small.sessions, **carrier.impatient(IMPATIENT_SECONDS)):
        await has_effects(small, 2)
        await eventually(lambda: counts["repeated"] >= (dies == "after"), SECONDS)
    assert [by for _, by in await small.effects()] == ["first", "second"]
    assert counts["repeated"] == (dies == "after")
    await nothing_is_left(carrier)


async def test_a_slow_receiver(carrier: Carrier, small: World, counts: Counter[str]) -> None:
    """It has its message for longer than the engine waits for one that is silent."""
    seen: list[int] = []

    async def work(event: Any, **_: Any) -> None:
        seen.append(event.key[0])
        await asyncio.sleep(3 * IMPATIENT_SECONDS)

    connect(work)
    keys = await small.write("slow")
    options = carrier.impatient(IMPATIENT_SECONDS)
    async with (
        carrier.consumer(small.sessions, **options),
        carrier.consumer(small.sessions, **options),
        relay(small, carrier.publisher()),
    ):
        await eventually(lambda: counts["done"] >= 2, SECONDS)  # the relay has one, too
    assert seen == keys
    assert counts["repeated"] == 0
    await nothing_is_left(carrier)


async def test_a_pulse_that_fails_is_followed_by_others(
    small: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one may reach the engine."""
    monkeypatch.setattr(handling, "PULSE_SECONDS", 0.01)
    seen: list[object] = []

    class SilentEngine:
        can_reject = True

        async def take_place(self, message: object) -> None:
            await eventually(lambda: len(seen) >= 3)

        async def extend(self, message: object) -> None:
            seen.append(message)
            raise OSError

    engine: Any = SilentEngine()
    message: Any = type("Message", (), {"body": b"{broken"})()
    handle = handling.handler_of(engine, small.sessions, outbox, True)
    with pytest.raises(handling.RejectMessage):
        await handle(message)
    assert seen[:3] == [message] * 3


# -- failures -----------------------------------------------------------------------------------------


async def test_a_message_whose_attempts_are_used_up(carrier: Carrier, small: World) -> None:
    """It is rejected and made known; it doesn't come again, and the next one is delivered."""
    calls: list[str] = []
    errors: list[str] = []

    def fail(event: Any, session: Any, **_: Any) -> None:
        calls.append(event.values["text"])
        if event.values["text"] == "bad":
            raise ValueError("no")
        plain(session).add(Effect(note_id=event.key[0], by="good"))

    def observe(error: BaseException, payload: Any, **_: Any) -> None:
        errors.append(f"{payload['receiver']}: {error}")

    on_delivery_error.connect(observe)
    retry = Retry(attempts=3, first_seconds=0.01, factor=1, jitter=0)
    connect(fail, Durable("test.notes", include=("text",), retry=retry))
    [key] = await small.write("bad")
    await small.edit(key, "good")
    async with carrier.consumer(small.sessions), relay(small, carrier.publisher()):
        await has_effects(small, 1)
    assert calls == ["bad", "bad", "bad", "good"]
    assert errors == ["test.notes: no"]
    await nothing_is_left(carrier)


@pytest.mark.parametrize("body", [b"{broken", b"[1]", b'{"specversion": "1.0"}', b"\xff"])
async def test_a_message_of_somebody_else(carrier: Carrier, small: World, body: bytes) -> None:
    """It is rejected, and doesn't come again."""
    connect_copy()
    async with carrier.consumer(small.sessions):
        await carrier.put(body)
        await small.write("good")
        async with relay(small, carrier.publisher()):
            await has_effects(small, 1)
    await nothing_is_left(carrier)


async def test_sessions_that_make_none(
    carrier: Carrier, small: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message stays, for a consumer that is set up well."""
    monkeypatch.setattr(handling, "AGAIN_SECONDS", 0.01)
    connect_copy()
    await small.write("text")
    tries: list[Any] = []
    options = carrier.impatient(IMPATIENT_SECONDS)
    async with (
        carrier.consumer(lambda **_: tries.append(_), **options),
        relay(small, carrier.publisher()),
    ):
        await eventually(lambda: len(tries) >= 2, SECONDS)
    assert await small.effects() == []
    assert await carrier.left() == 1
    async with carrier.consumer(small.sessions, **options):
        await has_effects(small, 1)
    await nothing_is_left(carrier)


# -- brokers ------------------------------------------------------------------------------------------


async def test_a_broker_that_the_publisher_has_connected_is_stopped(
    carrier: Carrier, small: World
) -> None:
    connect_copy()
    await small.write("text")
    broker = carrier.broker()
    async with carrier.consumer(small.sessions):
        async with relay(small, carrier.publisher(broker)):
            await has_effects(small, 1)
            await all_published(small)
            assert await broker.ping(SECONDS)
        assert not await broker.ping(0.1)


async def test_a_broker_that_the_application_has_started_goes_on(
    carrier: Carrier, small: World
) -> None:
    connect_copy()
    await small.write("text")
    async with carrier.consumer(small.sessions) as broker:
        async with relay(small, carrier.publisher(broker)):
            await has_effects(small, 1)
            await all_published(small)
        assert await broker.ping(SECONDS)
        await small.write("more")
        await publish_all(small, carrier.publisher(broker))
        await has_effects(small, 2)
    await nothing_is_left(carrier)

"""Durable receivers over Celery, on each broker that runs here, with real worker processes."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import kombu.pools
import pytest
from celery import Celery
from kit.brokers import RABBITMQ, REDIS, url_of
from kit.gate import gate_before
from kit.outbox_workers import DONE, WAITING, World, eventually, outbox
from kit.queued.celery_apps import VISIBLE_SECONDS, address, clean, make_app, template, through
from kit.queued.receivers import ALWAYS_FAILS, FAILS_TWICE, IS_SLOW, Receivers
from kit.queued.workers import Workers, workers_of

from aksara_signals.contrib.outbox import DurableEvent
from aksara_signals.contrib.outbox.transports.celery import celery_publisher

pytestmark = pytest.mark.slow

URLS = {"redis": url_of(REDIS), "rabbitmq": url_of(RABBITMQ)}
KINDS = [kind for kind, url in URLS.items() if url is not None]
PATIENCE_SECONDS = 150.0
"""Workers on Redis look for events that nobody has acknowledged every 100 seconds only."""


class Place(NamedTuple):
    """A broker, and the start of all names there."""

    url: str
    prefix: str

    def app(self) -> Celery:
        return make_app(self.url, self.prefix)


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Each broker, left as it was found."""
    url, prefix = URLS[request.param], f"aksara-test-{uuid.uuid4().hex}"
    yield Place(url, prefix)
    clean(url, prefix)


@pytest.fixture
def app(place: Place) -> Iterator[Celery]:
    """An application on this broker."""
    found = place.app()
    yield found
    found.close()
    kombu.pools.reset()  # they are the process's, for each URL


@pytest.fixture
def receivers(tmp_path: Path) -> Receivers:
    """The receivers, connected here, so that events are written for them."""
    found = Receivers(tmp_path)
    found.connect()
    return found


@pytest.fixture
def workers(async_world: World, tmp_path: Path, place: Place) -> Iterator[Workers]:
    """Worker processes."""
    with workers_of(async_world.database, tmp_path, *place) as found:
        yield found


async def relayed(world: World, app: Celery, prefix: str) -> list[DurableEvent]:
    """Publish everything that is in the outbox, and return it."""
    publish, found = celery_publisher(app, queue=template(prefix)), []

    def note(event: DurableEvent) -> None:
        publish(event)
        found.append(event)

    async with outbox.relay(note, world.sessions, longest_poll_seconds=0.05):
        await eventually(lambda: all_done(world), PATIENCE_SECONDS)
    return found


async def all_done(world: World) -> bool:
    return set(await world.statuses()) == {DONE}


async def effects(world: World) -> list[str]:
    return sorted(by for _, by in await world.effects())


@pytest.mark.parametrize("pool", ["prefork", "solo"])
async def test_each_event_has_one_effect_however_often_it_is_published(
    async_world: World, place: Place, app: Celery, workers: Workers, receivers: Receivers, pool: str
) -> None:
    """Failures are retried after the delays of Retry, with their number; then reported as dead."""
    worker = workers.celery(pool)
    fine = [f"note {number}" for number in range(10)]
    await async_world.write(FAILS_TWICE, ALWAYS_FAILS, *fine)
    events = await relayed(async_world, app, place.prefix)
    expected = sorted([*fine, FAILS_TWICE])

    def is_dead() -> bool:
        return bool(receivers.attempts("dead queued.copy"))

    await eventually(is_dead, PATIENCE_SECONDS)
    await eventually(lambda: worker.output.count("succeeded in") == 11, PATIENCE_SECONDS)
    assert await effects(async_world) == expected
    assert receivers.attempts(FAILS_TWICE) == receivers.attempts(ALWAYS_FAILS) == [1, 2, 3]
    assert len(receivers.calls()) == 10 + 3 + 3 + 1
    times = [call.at for call in receivers.calls() if call.text == FAILS_TWICE]
    assert times[1] - times[0] >= 0.2
    assert times[2] - times[1] >= 0.6

    publish = celery_publisher(app, queue=template(place.prefix))
    for event in events:
        if event.values["text"] != ALWAYS_FAILS:
            publish(event)
    await eventually(lambda: worker.output.count("succeeded in") == 22, PATIENCE_SECONDS)
    assert await effects(async_world) == expected
    assert len(receivers.calls()) == 10 + 3 + 3 + 1
    assert (worker.pid in {call.pid for call in receivers.calls()}) == (pool == "solo")
    assert worker.end() == 0


async def test_an_event_is_delivered_again_whose_process_is_killed(
    async_world: World, place: Place, app: Celery, workers: Workers, receivers: Receivers
) -> None:
    """SIGKILL of the process of a pool, in the middle of a receiver: one effect, no attempt."""
    worker = workers.celery()
    await async_world.write(IS_SLOW, "another")
    await relayed(async_world, app, place.prefix)
    await eventually(lambda: receivers.attempts(IS_SLOW), PATIENCE_SECONDS)
    os.kill(next(call.pid for call in receivers.calls() if call.text == IS_SLOW), signal.SIGKILL)

    async def is_done() -> bool:
        return await effects(async_world) == ["another", IS_SLOW]

    await eventually(is_done, PATIENCE_SECONDS)
    assert receivers.attempts(IS_SLOW) == [1, 1]
    assert worker.end() == 0


async def test_an_event_is_delivered_again_whose_worker_is_killed(
    async_world: World, place: Place, app: Celery, workers: Workers, receivers: Receivers
) -> None:
    """SIGKILL of a whole worker, in the middle of a receiver: another worker has one effect."""
    first = workers.celery()
    await async_world.write(IS_SLOW)
    await relayed(async_world, app, place.prefix)
    await eventually(lambda: receivers.attempts(IS_SLOW), PATIENCE_SECONDS)
    first.kill()
    if place.url.startswith("redis"):
        # A worker looks for such events when it starts, and not again for a minute and a half.
        await asyncio.sleep(VISIBLE_SECONDS + 1)
    second = workers.celery()
    await eventually(lambda: "succeeded in" in second.output, PATIENCE_SECONDS)
    assert await effects(async_world) == [IS_SLOW]
    assert receivers.attempts(IS_SLOW) == [1, 1]
    assert second.end() == 0


async def test_an_outage_of_the_broker_counts_nothing(
    async_world: World, place: Place, workers: Workers, receivers: Receivers
) -> None:
    """What can't be published is published later; an event that was cut off has one effect."""
    with gate_before(*address(place.url)) as gate:
        app = make_app(through(place.url, gate.port), place.prefix)
        publish = celery_publisher(app, queue=template(place.prefix))
        refused: list[Exception] = []

        def note(event: DurableEvent) -> None:
            try:
                publish(event)
            except Exception as error:
                refused.append(error)
                raise

        async with outbox.relay(note, async_world.sessions, longest_poll_seconds=0.05):
            await async_world.write("before")
            await eventually(lambda: all_done(async_world), PATIENCE_SECONDS)
            gate.close()
            await async_world.write("meanwhile", "too")
            await eventually(lambda: len(refused) >= 4, PATIENCE_SECONDS)
            assert (await async_world.statuses())[1:] == [WAITING, WAITING]
            gate.open()
            await eventually(lambda: all_done(async_world), PATIENCE_SECONDS)
        assert {row.attempts for row in await async_world.rows()} == {0}
        app.close()
        kombu.pools.reset()
    worker = workers.celery("solo")

    async def is_done() -> bool:
        return await effects(async_world) == ["before", "meanwhile", "too"]

    await eventually(is_done, PATIENCE_SECONDS)
    assert worker.end() == 0

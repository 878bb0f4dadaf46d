"""The task of Celery, called in this process; and what its publisher requires."""

from __future__ import annotations

import gc
import signal
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import kombu.pools
import pytest
from celery import Celery
from celery.exceptions import Reject, SoftTimeLimitExceeded
from kit.brokers import RABBITMQ, url_of
from kit.databases import Database
from kit.outbox_workers import World, connect, eventually, outbox, world_of
from kit.queued.celery_apps import clean, make_app, template
from kit.queued.receivers import ALWAYS_FAILS, FAILS_TWICE, IS_SLOW, Receivers
from sqlalchemy import true

from aksara_signals.contrib.outbox import DurableEvent
from aksara_signals.contrib.outbox.events import event_of
from aksara_signals.contrib.outbox.rows.reading import read_rows
from aksara_signals.contrib.outbox.transports.background import Background
from aksara_signals.contrib.outbox.transports.celery import celery_publisher, celery_receiver
from aksara_signals.contrib.outbox.transports.celery_publishing import TASK
from aksara_signals.exceptions import InvalidOptionError

RABBITMQ_URL = url_of(RABBITMQ)


@pytest.fixture
async def plain_world(database: Database) -> AsyncIterator[World]:
    """The application, by plain sessions."""
    async with world_of(database, is_async=False) as found:
        yield found


@pytest.fixture
def receivers(tmp_path: Path) -> Receivers:
    found = Receivers(tmp_path)
    found.connect()
    return found


@pytest.fixture
def task(plain_world: World, receivers: Receivers) -> Iterator[Any]:
    """The task of an application without workers."""
    app = Celery("alone", broker="memory://", set_as_current=False)
    yield celery_receiver(app, plain_world.sessions)
    app.close()


async def published(world: World, *texts: str) -> list[dict[str, Any]]:
    """The CloudEvents of new notes."""
    await world.write(*texts)
    rows = await world.run(lambda session: read_rows(session.connection(), outbox.tables, true()))
    return [event_of(row).as_cloudevent() for row in rows]


async def effects(world: World) -> list[str]:
    return [by for _, by in await world.effects()]


async def test_a_failure_is_retried_with_its_number(
    plain_world: World, task: Any, receivers: Receivers
) -> None:
    """A repeat of what has succeeded reaches no receiver."""
    fine, twice = await published(plain_world, "fine", FAILS_TWICE)
    for event in (fine, twice, fine, twice):
        assert task.apply((event,)).successful()
    assert receivers.attempts(FAILS_TWICE) == [1, 2, 3]
    assert await effects(plain_world) == ["fine", FAILS_TWICE]


async def test_what_has_failed_for_good_is_rejected(
    plain_world: World, task: Any, receivers: Receivers
) -> None:
    """After as many attempts as Retry allows; it is made known as a worker's dead letter is."""
    [event] = await published(plain_world, ALWAYS_FAILS)
    with pytest.raises(Reject) as raised:
        task(event, attempt=3)
    assert raised.value.requeue is False
    assert receivers.attempts(ALWAYS_FAILS) == [3]
    assert receivers.attempts("dead queued.copy") == [0]


async def test_a_message_that_is_not_of_a_relay_is_rejected(
    task: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It will never be one."""
    with pytest.raises(Reject) as raised:
        task({"specversion": "2.0"})
    assert raised.value.requeue is False
    assert "a message is given up" in caplog.text


async def test_an_interrupted_receiver_is_rolled_back_and_called_again(
    plain_world: World, task: Any, receivers: Receivers, caplog: pytest.LogCaptureFixture
) -> None:
    """A time limit of Celery interrupts the thread that waits for the receiver."""

    def interrupt(*_: Any) -> None:
        raise SoftTimeLimitExceeded

    [event] = await published(plain_world, IS_SLOW)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 2.0)
    try:
        assert task.apply((event,)).successful()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert receivers.attempts(IS_SLOW) == [1, 1]
    assert await effects(plain_world) == [IS_SLOW]
    assert "can't be delivered now" in caplog.text


async def test_an_event_stays_in_its_queue_if_its_retry_cannot_be_published(
    plain_world: World, receivers: Receivers
) -> None:
    """The broker is gone meanwhile: it will deliver again what isn't acknowledged."""
    app = Celery("cut off", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.broker_connection_timeout = 0.1
    task = celery_receiver(app, plain_world.sessions)
    [event] = await published(plain_world, FAILS_TWICE)
    info = {"exchange": "", "routing_key": "aksara.queued.copy"}
    task.push_request(id="1", args=(event,), kwargs={}, called_directly=False, delivery_info=info)
    try:
        with pytest.raises(Reject) as raised:
            task.run(event)
    finally:
        task.pop_request()
    assert raised.value.requeue is True
    assert receivers.attempts(FAILS_TWICE) == [1]
    app.close()


async def test_a_receiver_that_ends_its_process_ends_no_loop(plain_world: World) -> None:
    """SystemExit reaches the caller, as in a worker; the next event finds the loop running."""
    calls: list[int] = []

    def leave(event: Any, **_: Any) -> None:
        calls.append(event.attempt)
        if event.attempt == 1:
            raise SystemExit

    connect(leave, "queued.copy")
    background = Background(plain_world.sessions, outbox)
    [event] = await published(plain_world, "one")
    with pytest.raises(SystemExit):
        background.attempt(event, 1)
    assert background.attempt(event, 2).error is None
    assert calls == [1, 2]


def test_an_application_has_only_its_own_receivers(task: Any, plain_world: World) -> None:
    """Celery shares tasks among all applications of a process, unless it is told not to."""
    other = Celery("other", broker="memory://", set_as_current=False)
    assert TASK not in other.tasks
    own = celery_receiver(other, plain_world.sessions)
    assert own.app is other
    assert own.run is not task.run
    other.close()


async def test_the_loop_ends_with_its_application(plain_world: World) -> None:
    """A process that makes application after application doesn't grow."""
    connect(lambda **_: None, "queued.copy")
    [event] = await published(plain_world, "one")
    before = set(threading.enumerate())
    background = Background(plain_world.sessions, outbox)
    assert background.attempt(event, 1).is_new
    own = [
        each
        for each in set(threading.enumerate()) - before
        if each.name == "aksara-signals receivers"
    ]
    assert len(own) == 1
    del background
    gc.collect()
    await eventually(lambda: not own[0].is_alive())


async def test_a_fork_makes_connections_of_its_own(plain_world: World) -> None:
    """Those that are in the pool belong to the parent, and are left alone."""
    engine = plain_world.engine
    connect(lambda **_: None, "queued.copy")
    background = Background(plain_world.sessions, outbox)
    [event] = await published(plain_world, "one")
    with engine.connect() as connection:
        before = connection.connection.dbapi_connection
    background._made_in = 0  # as it is in a fork
    pool = engine.pool
    assert background.attempt(event, 1).is_new
    assert engine.pool is not pool
    before.close()  # usable: nobody has closed it


def test_an_application_that_would_not_see_confirmations_is_refused(task: Any) -> None:
    """On RabbitMQ, an event is lost otherwise that the server doesn't take."""
    app = Celery("trusting", broker="amqp://127.0.0.1:1//", set_as_current=False)
    with pytest.raises(InvalidOptionError, match="'confirm_publish': True"):
        celery_publisher(app)
    with pytest.raises(InvalidOptionError, match="'confirm_publish': True"):
        celery_receiver(app, lambda: None, outbox=outbox)
    app.conf.broker_transport_options = {"confirm_publish": True}
    assert callable(celery_publisher(app))
    with pytest.raises(InvalidOptionError, match="receiver"):
        celery_publisher(app, queue="aksara")
    app.close()


if RABBITMQ_URL is not None:

    def test_an_event_whose_queue_is_gone_is_not_lost() -> None:
        """RabbitMQ would drop it; the next try declares the queue again."""
        prefix = f"aksara-test-{uuid.uuid4().hex}"
        app = make_app(RABBITMQ_URL, prefix)
        publish = celery_publisher(app, queue=template(prefix))
        event = DurableEvent(
            id=uuid.uuid4(), type="post_save", receiver="queued.copy", model="app.Post", key=(1,)
        )
        name = f"{prefix}.queued.copy"
        publish(event)
        with app.connection_for_write() as connection:
            connection.default_channel.queue_delete(name)
        with pytest.raises(Exception, match="NO_ROUTE"):
            publish(event)
        publish(event)
        with app.connection_for_write() as connection:
            found = connection.default_channel.queue_declare(name, passive=True)
        assert found.message_count == 1
        app.close()
        kombu.pools.reset()
        clean(RABBITMQ_URL, prefix)

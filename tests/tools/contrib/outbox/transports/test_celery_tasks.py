"""The task of Celery, called in this process; and what its publisher requires."""

from __future__ import annotations

import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Reject, SoftTimeLimitExceeded
from kit.brokers import RABBITMQ, url_of
from kit.databases import Database
from kit.outbox_workers import World, connect, outbox, table, world_of
from kit.queued.celery_apps import clean, make_app, template
from kit.queued.receivers import ALWAYS_FAILS, FAILS_TWICE, IS_SLOW, Receivers
from sqlalchemy import select

from aksara_signals.contrib.outbox import DurableEvent
from aksara_signals.contrib.outbox.events import event_of
from aksara_signals.contrib.outbox.rows.reading import row_of
from aksara_signals.contrib.outbox.transports.background import Background
from aksara_signals.contrib.outbox.transports.celery import celery_publisher, celery_receiver
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
    rows = await world.run(lambda session: session.execute(select(table).order_by("seq")).all())
    return [event_of(row_of(row)).as_cloudevent() for row in rows]

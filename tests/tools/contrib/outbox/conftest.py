"""Fixtures of the tests of the outbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from kit import outbox_world
from kit.databases import Database
from kit.outbox_workers import World, world_of

from aksara_signals.contrib.outbox import Outbox


@pytest.fixture(autouse=True)
def _own_durable_receivers(own_durable_receivers: None) -> None:
    """As everywhere in this folder."""


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    """The outbox of ``kit.outbox_world``, installed for the test."""
    outbox_world.outbox.install()
    yield outbox_world.outbox
    outbox_world.outbox.uninstall()


@pytest.fixture(params=["async", "plain"])
async def world(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[World]:
    """The application of ``kit.outbox_workers``, by an ``async_sessionmaker`` or a plain one."""
    async with world_of(database, is_async=request.param == "async") as found:
        yield found


@pytest.fixture
async def async_world(database: Database) -> AsyncIterator[World]:
    """The same, by an ``async_sessionmaker`` only."""
    async with world_of(database, is_async=True) as found:
        yield found

"""A shop per test: an empty database, and processes that end with the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from kit.brokers import NatsServer, nats_server
from kit.claims import outbox_engine
from kit.databases import Database
from kit.durable.forking import Forker
from kit.durable.programs import Programs, programs
from kit.durable.shop import NATS, ShopBase, WareLabel
from kit.durable.write import LABELS
from kit.outbox_workers import World, world_of
from sqlalchemy import Engine
from sqlalchemy.orm import Session


@pytest.fixture(autouse=True)
def _own_durable_receivers(own_durable_receivers: None) -> None:
    """As everywhere in this folder."""


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    """Starts the processes."""
    found = Forker()
    yield found
    found.close()


@pytest.fixture
def shop_engine(database: Database) -> Iterator[Engine]:
    """The tests' own connections to the shop, whose tables are there; only labels are in them."""
    engine = outbox_engine(database)
    ShopBase.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all(WareLabel(id=each) for each in LABELS)
    yield engine
    engine.dispose()


@pytest.fixture
def shop_programs(
    database: Database, shop_engine: Engine, tmp_path: Path, forker: Forker
) -> Iterator[Programs]:
    """Writers and workers of the shop."""
    with programs(database, tmp_path, forker) as found:
        yield found
    assert not any(each.is_running() for each in found.started)


@pytest.fixture
def nats(shop_programs: Programs) -> Iterator[NatsServer]:
    """The broker of the shop's relays and consumers."""
    with nats_server() as found:
        shop_programs.environment[NATS] = found.url
        yield found
        shop_programs.kill_all()  # they would complain when it is gone


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    """An application in this process, with workers on its event loop."""
    async with world_of(database, is_async=True) as found:
        yield found

"""Fixtures of every test: both databases, and built-in signals that are left as they were found."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import databases
import pytest
from sqlalchemy import URL, Engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine
from support import Recorder

from aksara_signals import signals


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[URL]:
    """The server given by ``AKSARA_TEST_POSTGRES_URL``, else one of our own."""
    given = os.environ.get("AKSARA_TEST_POSTGRES_URL")
    if given:
        yield make_url(given)
        return
    with databases.throw_away_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[databases.Database]:
    """An empty database; a test that asks for it runs once on each."""
    if request.param == "sqlite":
        yield databases.sqlite_database(tmp_path)
        return
    with databases.postgresql_database(request.getfixturevalue("postgresql_server")) as found:
        yield found


@pytest.fixture
async def async_engine(database: databases.Database) -> AsyncIterator[AsyncEngine]:
    """An async engine on ``database``."""
    engine = database.create_async_engine()
    yield engine
    await engine.dispose()


@pytest.fixture
def sync_engine(database: databases.Database) -> Iterator[Engine]:
    """A sync engine on the same ``database``."""
    engine = database.create_sync_engine()
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def clean_signals() -> Iterator[None]:
    """Disconnect from the built-in signals whatever a test connected to them."""
    built_in = [getattr(signals, name) for name in signals.__all__]
    before = [signal.connections for signal in built_in]
    yield
    for signal, kept in zip(built_in, before, strict=True):
        known = {id(connection) for connection in kept}  # alive in `kept`, so no address is reused
        for connection in signal.connections:
            receiver = connection.receiver
            if id(connection) not in known and receiver is not None:
                signal.disconnect(
                    receiver,
                    sender=connection.sender,
                    dispatch_uid=connection.dispatch_uid,
                )
        alive = tuple(connection for connection in kept if connection.is_alive)
        assert alive == signal.connections, f"a test changed the connections of {signal.name}"


@pytest.fixture
def recorder() -> Recorder:
    """A recorder of its own for the test."""
    return Recorder()

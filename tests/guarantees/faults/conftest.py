"""Fixtures of the tests that make a database server fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from kit import databases
from kit.faulty import DRIVERS, Base, ReceivedKeys, Server, Twin


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    """An async and a sync driver of each server: nothing here can be tried on SQLite."""
    return request.param


@pytest.fixture
def database(request: pytest.FixtureRequest, driver: str) -> Iterator[databases.Database]:
    """An empty database of the driver's server."""
    dialect = DRIVERS[driver]
    make = getattr(databases, f"{dialect}_database")
    with make(request.getfixturevalue(f"{dialect}_server")) as found:
        yield found


@pytest.fixture
def server(database: databases.Database) -> Iterator[Server]:
    """A connection beside the session's, which does the harm; the tables are there, and empty."""
    server = Server(database)
    Base.metadata.create_all(server.engine)
    yield server
    server.engine.dispose()


@pytest.fixture
async def twin(driver: str, database: databases.Database, server: Server) -> AsyncIterator[Twin]:
    """An AsyncSession or a Session, as the driver is."""
    twin = Twin(driver, database)
    yield twin
    await twin.dispose()


@pytest.fixture
def sent() -> ReceivedKeys:
    """What is sent for the rows, from now on."""
    return ReceivedKeys()

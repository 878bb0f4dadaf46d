"""Fixtures of the tests that make PostgreSQL fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from kit import databases
from kit.faulty import Base, ReceivedKeys, Server, Twin


@pytest.fixture
def postgresql(postgresql_server: Any) -> Iterator[databases.Database]:
    """An empty schema: nothing here can be tried on SQLite, which has no connection to lose."""
    with databases.postgresql_database(postgresql_server) as found:
        yield found


@pytest.fixture
def server(postgresql: databases.Database) -> Iterator[Server]:
    """A connection beside the session's, which does the harm; the tables are there, and empty."""
    server = Server(postgresql)
    Base.metadata.create_all(server.engine)
    yield server
    server.engine.dispose()


@pytest.fixture(params=["asyncpg", "psycopg"])
async def twin(
    request: pytest.FixtureRequest, postgresql: databases.Database, server: Server
) -> AsyncIterator[Twin]:
    """An AsyncSession on asyncpg, and a Session on psycopg."""
    twin = Twin(request.param, postgresql)
    yield twin
    await twin.dispose()


@pytest.fixture
def sent() -> ReceivedKeys:
    """What is sent for the rows, from now on."""
    return ReceivedKeys()

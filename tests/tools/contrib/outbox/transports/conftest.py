"""Fixtures of the tests of transports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from kit import databases
from kit.brokers import RABBITMQ, REDIS, NatsServer, nats_server, url_of
from kit.carriers import CARRIERS, Carrier
from kit.outbox_workers import World, world_of
from sqlalchemy import URL

from aksara_signals.contrib.outbox.transports import handling, redis_streams

URLS = {"rabbit": url_of(RABBITMQ), "redis": url_of(REDIS)}
"""Those that aren't tried are named in the closing lines, by tests/conftest.py."""

FOLDER = Path(__file__).parent

KINDS = ["nats", *(kind for kind, url in URLS.items() if url is not None)]


@pytest.fixture(scope="session")
def nats() -> Iterator[NatsServer]:
    """A NATS server of our own."""
    with nats_server() as server:
        yield server


@pytest.fixture
async def carrier(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Carrier]:
    """Each server there is, left as it was found."""
    monkeypatch.setattr(handling, "PULSE_SECONDS", handling.PULSE_SECONDS)  # of impatient()
    for name in ("IDLE_MILLISECONDS", "CLAIM_MILLISECONDS"):
        monkeypatch.setattr(redis_streams, name, getattr(redis_streams, name))
    kind = request.param
    url = URLS[kind] if kind in URLS else request.getfixturevalue("nats").url
    found = CARRIERS[kind](url)
    yield found
    await found.clean()


ONLY = {"nats_carrier": "nats", "rabbit": "rabbit", "redis": "redis"}
"""Fixtures of a single carrier."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test of carriers on each, and a test of one of them on that one."""
    if "carrier" in metafunc.fixturenames:
        kinds = [kind for name, kind in ONLY.items() if name in metafunc.fixturenames]
        metafunc.parametrize("carrier", kinds or KINDS, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of carriers that there is no server for."""

    def is_left_out(item: pytest.Item) -> bool:
        if not item.path.is_relative_to(FOLDER):
            return False
        names = set(getattr(item, "fixturenames", ())) & set(ONLY)
        return any(ONLY[name] not in KINDS for name in names)

    left_out = [item for item in items if is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def nats_carrier(carrier: Carrier) -> Carrier:
    """NATS alone."""
    return carrier


@pytest.fixture
def rabbit(carrier: Carrier) -> Carrier:
    """RabbitMQ alone."""
    return carrier


@pytest.fixture
def redis(carrier: Carrier) -> Carrier:
    """Redis alone."""
    return carrier


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[World]:
    """The application of ``kit.outbox_workers`` on SQLite."""
    async with world_of(databases.sqlite_database(tmp_path), is_async=True) as found:
        yield found


@pytest.fixture
async def large(postgresql_server: URL) -> AsyncIterator[World]:
    """The same on PostgreSQL, for what runs side by side."""
    with databases.postgresql_database(postgresql_server) as database:
        async with world_of(database, is_async=True) as found:
            yield found

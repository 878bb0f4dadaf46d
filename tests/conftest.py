"""Fixtures of every test: the databases, and built-in signals that are left as they were found."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from kit import databases
from kit.brokers import RABBITMQ, REDIS, url_of
from kit.browsers import CHROMIUM, find_chromium
from kit.effort import FIGURES
from kit.support import Recorder
from sqlalchemy import URL, Engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from aksara_signals import on_delivery_error, signals
from aksara_signals.cli import main
from aksara_signals.contrib.outbox import registry
from aksara_signals.dispatch import live
from aksara_signals.dispatch.connections.durable import durable_connections

ROOT = Path(__file__).parent
ON = ("sqlite", "postgresql", *["mariadb"] * (databases.mariadb_server() is not None))
"""What each test that asks for a database runs on."""
WITH_PROCESSES = (
    "guarantees/durable",
    "tools/contrib/outbox/commands/test_process.py",
    "tools/contrib/outbox/worker/test_stop.py",
    "tools/testing/test_plugin.py",
    "tools/testing/test_statements.py",
    "tools/test_demo.py",
    "compatibility/seeds/test_the_tests_mean_it.py",
)
"""Where most tests start processes, and many kill them."""
_begun = itertools.count(1)
SERVERS = (("RabbitMQ", RABBITMQ), ("Redis", REDIS))
"""What the tests of transports can't start themselves, and the variables that name it."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures that tests have recorded, and what was not tried for want of something."""
    reports = [each for found in terminalreporter.stats.values() for each in found]
    lines = [
        value
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == FIGURES
    ]
    if lines:
        terminalreporter.section("figures")
        for line in dict.fromkeys(lines):
            terminalreporter.write_line(line)
    if "mariadb" not in ON:
        terminalreporter.section("databases")
        terminalreporter.write_line(
            f"not tried for want of a server: MariaDB ({databases.MARIADB})"
        )
    if find_chromium() is None:
        terminalreporter.section("browsers")
        terminalreporter.write_line(
            f"not tried for want of Chromium: the inspector's pages in a browser ({CHROMIUM})"
        )
    missing = [f"{name} ({variable})" for name, variable in SERVERS if url_of(variable) is None]
    if missing:
        terminalreporter.section("transports")
        terminalreporter.write_line(f"not tried for want of a server: {', '.join(missing)}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the slow tests the browser, what starts processes, and MariaDB in tests of the tools."""
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        path = item.path.relative_to(ROOT)
        is_third = parameters.get("database") == "mariadb"
        if (
            (is_third and path.parts[0] not in {"unit", "guarantees"})
            or any(map(path.is_relative_to, WITH_PROCESSES))
            or item.get_closest_marker("browser")
        ):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Leave what tests consist of out of each search for garbage, which it makes far longer."""
    gc.collect()
    gc.freeze()


def pytest_runtest_logstart() -> None:
    """The same, now and then, for what pytest keeps of tests that have run."""
    if next(_begun) % 100 == 0:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[URL]:
    """The server given by ``AKSARA_TEST_POSTGRES_URL``, else one of our own."""
    given = os.environ.get("AKSARA_TEST_POSTGRES_URL")
    if given:
        yield make_url(given)
        return
    with databases.throw_away_server() as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_server() -> URL:
    """The MariaDB server; without one, what asks for it is skipped."""
    server = databases.mariadb_server()
    if server is None:
        pytest.skip(f"no MariaDB server answers ({databases.MARIADB})")
    return server


@pytest.fixture(params=ON)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[databases.Database]:
    """An empty database; a test that asks for it runs once on each."""
    if request.param == "sqlite":
        yield databases.sqlite_database(tmp_path)
        return
    make = getattr(databases, f"{request.param}_database")
    with make(request.getfixturevalue(f"{request.param}_server")) as found:
        yield found


@pytest.fixture(params=["postgresql", "mariadb"])
def served_database(request: pytest.FixtureRequest) -> Iterator[databases.Database]:
    """An empty database of a server, in which many write at once."""
    make = getattr(databases, f"{request.param}_database")
    with make(request.getfixturevalue(f"{request.param}_server")) as found:
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
    built_in = [on_delivery_error, *(getattr(signals, name) for name in signals.__all__)]
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
        left = signal.connections
        # What is alive now was alive when `left` was made: a receiver may be collected meanwhile.
        gone = [each for each in kept if each.is_alive and each not in left]
        assert not gone, f"a test removed connections of {signal.name}"
        as_kept = tuple(each for each in kept if each in left)
        assert left == as_kept, f"a test added connections to {signal.name}, or moved some"


@pytest.fixture
def own_durable_receivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers, relays and consumers don't know what the modules of other tests have connected."""
    others = {id(connection): connection for _, connection in durable_connections()}
    monkeypatch.setattr(
        registry,
        "durable_connections",
        lambda: (pair for pair in durable_connections() if id(pair[1]) not in others),
    )


@pytest.fixture
def recorder() -> Recorder:
    """A recorder of its own for the test."""
    return Recorder()


class Project:
    """A folder with modules, in which the command line is run."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self._taken = set(sys.modules)

    def write(self, name: str, code: str) -> None:
        """Write the module ``name``."""
        assert name not in self._taken, "another module has this name"
        path = self.folder / f"{name}.py"
        path.write_text(textwrap.dedent(code).lstrip(), encoding="utf-8")

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command; its exit status, output and error output."""
        self._capsys.readouterr()
        status = main(arguments)
        return status, *self._capsys.readouterr()


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Project]:
    """An empty project in the current folder, to which other tests' signals are unknown."""
    gc.collect()  # the last test's classes, which would be found here
    monkeypatch.chdir(tmp_path)
    built_in = [getattr(signals, name) for name in signals.__all__]
    known = {address: each for address, each in live._signals.items() if each() in built_in}
    monkeypatch.setattr(live, "_signals", known)
    before = set(sys.modules)
    yield Project(tmp_path, capsys)
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(tmp_path):
            base = getattr(sys.modules.pop(name), "Base", None)
            if base is not None:
                base.registry.dispose()  # half a mapping would be in the way of other tests

"""The commands ``aksara-signals worker`` and ``relay``: they run until a signal, and say why they
can't start."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit.claims import Store, outbox_engine, write_rows
from kit.databases import Database
from sqlalchemy import select

APP = """
    import asyncio, os, signal
    from pathlib import Path

    from kit.claims import async_outbox_engine, outbox_engine
    from kit.databases import Database
    from sqlalchemy import make_url
    from sqlalchemy.ext.asyncio import async_sessionmaker
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

    from aksara_signals import Signal
    from aksara_signals.contrib.outbox import Outbox

    class Base(DeclarativeBase): ...

    database = Database({dialect!r}, make_url({async_url!r}), make_url({sync_url!r}), {schema!r})
    outbox = Outbox(Base.metadata)
    Sessions = async_sessionmaker(async_outbox_engine(database))
    PlainSessions = sessionmaker(outbox_engine(database))
    paid = Signal("paid")

    @paid.connect(durable="once")
    async def once(event, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)

    @paid.connect(durable="twice")
    async def twice(event, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)

    @paid.connect(durable="slow")
    async def slow(event, **kwargs):
        Path("begun").touch()
        while not Path("go").exists():
            await asyncio.sleep(0.01)

    def note(text):
        with Path("log").open("a") as log:
            log.write(text + "\\n")

    async def publish(event):
        note(event.receiver)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.2)
        note("confirmed")

    def publish_sync(event):
        note(event.receiver)
        os.kill(os.getpid(), signal.SIGTERM)
        note("confirmed")

    class Publisher:
        async def __aenter__(self):
            note("connected")

        async def __call__(self, event):
            await publish(event)

        async def __aexit__(self, *error):
            note("closed")

    publisher = Publisher()

    async def publish_twice(event):
        note(event.receiver)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(600)
        note("confirmed")

    async def publish_slowly(event):
        await slow(event)
"""


class Application:
    """An application whose receivers end their worker by signals."""

    def __init__(self, project: Any, store: Store, sessions: str) -> None:
        self.project = project
        self.store = store
        self.arguments = ["worker", "boxed:outbox", "--sessions", f"boxed:{sessions}"]

    def run(self, *arguments: str) -> tuple[int, str, str]:
        found: tuple[int, str, str] = self.project.run(*self.arguments, *arguments)
        return found

    def relay(self, to: str, *arguments: str) -> tuple[int, str, str]:
        found: tuple[int, str, str] = self.project.run(
            "relay", *self.arguments[1:], "--to", to, *arguments
        )
        return found

    def log(self) -> list[str]:
        """What was published, and what its publisher has done."""
        path = self.project.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def write(self, *receivers: str) -> None:
        rows = [
            {"receiver": name, "type": "paid", "aggregatetype": "shop", "aggregateid": None}
            for name in receivers
        ]
        self.store.run_here(lambda connection: write_rows(connection, self.store.tables, rows))

    def rows(self) -> list[tuple[Any, ...]]:
        """Status, attempts and crashes of all rows, and whether they are leased."""
        table = self.store.tables.outbox.c
        statement = select(table.status, table.attempts, table.crashes, table.leased_by).order_by(
            table.seq
        )
        return [
            (*row[:3], row.leased_by is not None)
            for row in self.store.run_here(lambda connection: connection.execute(statement).all())
        ]


@pytest.fixture(params=["Sessions", "PlainSessions"])
def application(
    request: pytest.FixtureRequest, project: Any, database: Database
) -> Iterator[Application]:
    """An application, with async and with plain sessions."""
    urls = {
        name: getattr(database, name).render_as_string(hide_password=False)
        for name in ("async_url", "sync_url")
    }
    project.write("boxed", APP.format(dialect=database.dialect, schema=database.schema, **urls))
    store = Store(outbox_engine(database))
    store.run_here(store.tables.outbox.metadata.create_all)
    yield Application(project, store, request.param)
    store.engine.dispose()
    if "boxed" in sys.modules:
        sys.modules["boxed"].outbox.uninstall()


def test_a_signal_ends_it_when_its_receivers_have_finished(application: Application) -> None:
    """The row that was being called is done, and the exit status is 0."""
    before = signal.getsignal(signal.SIGTERM)
    application.write("once")
    status, out, _ = application.run("--receivers", "once", "--receivers", "slow.*")
    assert (status, out) == (0, "")
    assert application.rows() == [(1, 0, 0, False)]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_signal_ends_it_at_once(application: Application, tmp_path: Path) -> None:
    """What was being called is given back, uncounted."""
    application.write("twice")
    begun = time.monotonic()
    health = tmp_path / "health"
    status, _, _ = application.run("--health-file", str(health), "--grace-seconds", "40")
    assert status == 0
    assert time.monotonic() - begun < 30
    assert application.rows() == [(0, 0, 0, False)]
    assert health.exists()


def test_a_process_ends_at_sigterm(application: Application) -> None:
    """Also as a process of its own; other workers' rows are left alone."""
    application.write("slow", "unknown")
    folder = application.project.folder
    kit = Path(__file__).parents[4]
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "aksara_signals", *application.arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{kit}{os.pathsep}{kit.parent}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (folder / "begun").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    (folder / "go").touch()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert application.rows() == [(1, 0, 0, False), (0, 0, 0, False)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--receivers", "none.*"], "no durable receiver that it may serve"),
        (["--concurrency", "0"], "concurrency"),
    ],
)
def test_what_keeps_it_from_starting(
    application: Application, arguments: list[str], message: str
) -> None:
    """One line on standard error, and status 2."""
    status, out, err = application.run(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


# -- relays -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "log"),
    [
        ("publish", ["once", "confirmed"]),
        ("publish_sync", ["once", "confirmed"]),
        ("publisher", ["connected", "once", "confirmed", "closed"]),
    ],
)
def test_a_relay_publishes_until_a_signal_ends_it(
    application: Application, to: str, log: list[str]
) -> None:
    """By a function, async or not, or by a context manager; what is being published is confirmed."""
    application.write("once", "slow")
    status, out, _ = application.relay(f"boxed:{to}", "--receivers", "once", "--concurrency", "1")
    assert (status, out) == (0, "")
    assert application.log() == log
    assert application.rows() == [(1, 0, 0, False), (0, 0, 0, False)]


def test_a_second_signal_ends_a_relay_at_once(application: Application, tmp_path: Path) -> None:
    """What isn't confirmed is given back, uncounted."""
    application.write("once")
    health = tmp_path / "health"
    begun = time.monotonic()
    status, _, _ = application.relay(
        "boxed:publish_twice", "--grace-seconds", "400", "--health-file", str(health)
    )
    assert status == 0
    assert time.monotonic() - begun < 300
    assert application.log() == ["once"]
    assert application.rows() == [(0, 0, 0, False)]
    assert health.exists()


def test_a_relay_is_a_process_of_its_own(application: Application) -> None:
    """Started and ended as a supervisor does it."""
    application.write("slow", "once")
    folder = application.project.folder
    kit = Path(__file__).parents[4]
    process = subprocess.Popen(
        [
            *(sys.executable, "-W", "error", "-m", "aksara_signals", "relay"),
            *application.arguments[1:],
            *("--to", "boxed:publish_slowly", "--receivers", "slow"),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{kit}{os.pathsep}{kit.parent}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (folder / "begun").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    (folder / "go").touch()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert application.rows() == [(1, 0, 0, False), (0, 0, 0, False)]


@pytest.mark.parametrize(
    ("to", "arguments", "message"),
    [
        ("boxed:missing", [], "--to boxed:missing: boxed has no attribute missing"),
        ("nowhere:publish", [], "nowhere"),
        ("boxed", [], "--to boxed: write it as"),
        ("boxed:paid.name", [], "a relay can't publish by 'paid'; give a function of an event"),
        ("boxed:publish", ["--timeout-seconds", "0"], "a relay can't have timeout_seconds=0"),
        ("boxed:publish", ["--concurrency", "0"], "a relay can't have concurrency=0"),
        ("boxed:publish", ["--receivers", "none.*"], "a relay was started, and no durable"),
    ],
)
def test_what_keeps_a_relay_from_starting(
    application: Application, to: str, arguments: list[str], message: str
) -> None:
    """One line on standard error, and status 2."""
    application.write("once")
    status, out, err = application.relay(to, *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert application.rows() == [(0, 0, 0, False)]


def test_a_relay_must_be_given_where_to(application: Application) -> None:
    """Without ``--to`` it would do nothing."""
    with pytest.raises(SystemExit) as raised:
        application.project.run("relay", *application.arguments[1:])
    assert raised.value.code == 2


# -- both -------------------------------------------------------------------------------------------


def test_missing_tables_keep_it_from_starting(application: Application) -> None:
    """The migration that is missing is named."""
    application.store.run_here(application.store.tables.outbox.metadata.drop_all)
    status, _, err = application.run()
    assert status == 2
    assert "alembic revision --autogenerate" in err
    assert len(err.splitlines()) == 1


def test_arguments_that_are_not_numbers(application: Application) -> None:
    """As for all commands: one line, and status 2."""
    with pytest.raises(SystemExit) as raised:
        application.run("--concurrency", "many")
    assert raised.value.code == 2
    with pytest.raises(SystemExit) as raised:
        application.project.run("worker", "boxed:outbox")
    assert raised.value.code == 2


@pytest.mark.parametrize("is_set_up", [False, True])
def test_its_log_is_shown(
    application: Application, monkeypatch: pytest.MonkeyPatch, is_set_up: bool
) -> None:
    """On standard error, unless the application has set up its own logging."""
    own = [logging.NullHandler()]
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", list(own) if is_set_up else [])
    logger = logging.getLogger("aksara_signals")
    monkeypatch.setattr(logger, "level", logger.level)
    application.write("once")
    assert application.run("--receivers", "once")[0] == 0
    assert (root.handlers == own) == is_set_up
    logger.setLevel(logging.NOTSET)

"""The demonstration runs on every database, and says what is wrong with a URL."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import io
import re
import signal
import sqlite3
import struct
import subprocess
import sys
import time
import webbrowser
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import httpx
import pytest
from kit import databases
from sqlalchemy import inspect

from aksara_signals import demo, signals
from aksara_signals.demo import inspected


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


async def test_the_story_is_shown(database: databases.Database) -> None:
    """The timeline shows each chapter's deliveries in order, and the database agrees."""
    out = io.StringIO()
    url = database.async_url.render_as_string(hide_password=False)
    deliveries = await demo.run(url, out)
    lines = [line for line in out.getvalue().splitlines() if " ms  " in line]
    shown = [(line.split()[2], line.split()[5]) for line in lines]
    assert deliveries == len(lines) == 20
    assert shown[:7] == [
        ("post_init", "greet"),
        ("pre_save", "reject_clickbait"),
        ("pre_save", "generate_slug"),
        ("post_save", "warm_cache"),
        ("post_save", "write_audit_entry"),
        ("post_save", "entry_written"),
        ("post_save", "announce"),
    ]
    assert "raises ClickbaitError: not in this blog" in out.getvalue()
    assert "in the database: authors: 1, posts: 2, audit entries: 2" in out.getvalue()
    assert "authors: 0, posts: 0, audit entries: 2" in out.getvalue()
    assert out.getvalue().rstrip().endswith("receipts for 20 of 20 orders, none twice")


async def test_nothing_is_left_behind(database: databases.Database) -> None:
    """After the demonstration there are no tables and no receivers of it."""
    await demo.run(database.async_url.render_as_string(hide_password=False), io.StringIO())
    engine = database.create_sync_engine()
    tables = inspect(engine).get_table_names()
    engine.dispose()
    assert tables == []
    assert not any(getattr(signals, name).connections for name in signals.__all__)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demonstration that goes on doesn't stop long after its chapters."""
    monkeypatch.setattr(inspected, "PAUSE_SECONDS", 0.001)


async def shown(out: io.StringIO, text: str, times: int = 1) -> None:
    """Returns when a text was printed so many times."""
    async with asyncio.timeout(20):
        while out.getvalue().count(text) < times:
            await asyncio.sleep(0.01)


async def test_the_inspector_shows_the_story_again_and_again(
    database: databases.Database, short_pauses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on until Ctrl-C, and leaves neither tables nor receivers nor a server."""
    stop = asyncio.Event()  # a signal would concern all of this process
    monkeypatch.setattr(inspected, "stopped_by_ctrl_c", lambda: contextlib.nullcontext(stop))
    out = io.StringIO()
    url = database.async_url.render_as_string(hide_password=False)
    running = asyncio.create_task(inspected.run_inspected(url, out))
    await shown(out, "A post is written", times=3)
    address = out.getvalue().splitlines()[0].removeprefix("inspector: ")
    async with httpx.AsyncClient(base_url=address) as client:
        groups = (await client.get("export.json")).json()["groups"]
    stop.set()
    async with asyncio.timeout(10):
        await running
    states = {group["state"] for group in groups}
    values = str([entry["values"] for group in groups for entry in group["entries"]])
    assert {"committed", "rolled back"} <= states
    assert "hello-signals" in values
    # What the first round has written is gone in the second.
    assert out.getvalue().count("authors: 0, posts: 0, audit entries: 2\n") >= 2
    assert "worker" not in out.getvalue()
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)
    engine = database.create_sync_engine()
    assert inspect(engine).get_table_names() == []
    engine.dispose()
    assert not any(getattr(signals, name).connections for name in signals.__all__)


@pytest.mark.parametrize("error", [None, webbrowser.Error("no browser"), OSError("no display")])
async def test_a_terminal_gets_a_browser(
    short_pauses: None, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """The page is opened where somebody sits; a browser that fails is no problem."""
    opened: list[str] = []

    def open_page(address: str) -> None:
        opened.append(address)
        if error is not None:
            raise error

    monkeypatch.setattr(webbrowser, "open", open_page)
    for out in (io.StringIO(), Terminal()):
        running = asyncio.create_task(inspected.run_inspected(out=out))
        await shown(out, "Its title changes")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert opened == [out.getvalue().splitlines()[0].removeprefix("inspector: ")]


async def test_a_cancellation_that_a_chapter_has_caught_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends the demonstration at the next pause."""
    has_begun = asyncio.Event()

    async def catch(
        timeline: object, sessions: object, pause: Callable[[], Awaitable[None]]
    ) -> None:
        has_begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await pause()

    monkeypatch.setattr(inspected, "run_chapters", catch)
    running = asyncio.create_task(inspected.run_inspected(out=io.StringIO()))
    await has_begun.wait()
    running.cancel()
    done, _ = await asyncio.wait([running], timeout=2)
    running.cancel()
    assert done


def test_ctrl_c_ends_the_inspected_demonstration() -> None:
    """With the status 0, without a traceback, and with an open stream."""
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "aksara_signals", "demo", "--inspect"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            name, _, address = process.stdout.readline().strip().partition(" ")
            assert name == "inspector:", process.stderr.read()
            with httpx.stream("GET", f"{address}stream", timeout=30) as stream:
                next(stream.iter_text())
                start = time.monotonic()
                process.send_signal(signal.SIGINT)
                _, errors = process.communicate(timeout=30)
            seconds = time.monotonic() - start
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")
    assert seconds < 3


async def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours are used on a terminal that can show them, unless NO_COLOR forbids it."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, plain = Terminal(), Terminal()
    await demo.run(out=coloured)
    monkeypatch.setenv("NO_COLOR", "1")
    await demo.run(out=plain)
    assert "\x1b[" in coloured.getvalue()
    assert "\x1b[" not in plain.getvalue()


async def test_standard_output_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a stream the timeline goes to standard output."""
    await demo.run()
    assert "A post is written" in capsys.readouterr().out


@pytest.mark.parametrize(
    "url",
    ["nonsense", "nosuchdatabase://", "sqlite://", "postgresql+asyncpg://ada:secret"],
)
async def test_a_bad_url_is_explained(url: str) -> None:
    """A URL that no async engine can be made from ends with a hint, not a traceback."""
    hint = r"not a URL of an async database.*try sqlite\+aiosqlite"
    with pytest.raises(SystemExit, match=hint) as caught:
        await demo.run(url, io.StringIO())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("sqlite+aiosqlite://", "aiosqlite", "sqlite"),
        ("postgresql+asyncpg://u@h/d", "asyncpg", "postgres"),
        ("mysql+asyncmy://u@h/d", "asyncmy", "mariadb"),
        ("mysql+aiomysql://u@h/d", "aiomysql", None),
    ],
)
async def test_a_missing_driver_is_named_with_its_remedy(
    url: str, module: str, extra: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the driver, the message gives the command that installs it."""
    original = builtins.__import__

    def without_driver(name: str, *args: object, **kwargs: object) -> object:
        if name == module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(builtins, "__import__", without_driver)
    package = f"aksara-signals[{extra}]" if extra else module
    wanted = re.escape(f"{module} is not installed; run: pip install '{package}'")
    with pytest.raises(SystemExit, match=wanted):
        await demo.run(url, io.StringIO())


async def test_a_driver_that_cant_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is installed, but something that it needs isn't."""

    def broken(url: object) -> NoReturn:
        raise ImportError("no libpq\n  found")

    monkeypatch.setattr(demo.database, "create_async_engine", broken)
    with pytest.raises(
        SystemExit, match=r"^postgresql\+psycopg can't be loaded: ImportError: no li"
    ):
        await demo.run("postgresql+psycopg://h/d", io.StringIO())


async def test_a_file_that_cant_be_opened_is_named(tmp_path: Path) -> None:
    """In the driver's words, without SQLAlchemy's around them."""
    url = f"sqlite+aiosqlite:///{tmp_path}/nowhere/x.db?uri=false"
    with pytest.raises(SystemExit) as caught:
        await demo.run(url, io.StringIO())
    assert str(caught.value) == (
        f"could not connect to sqlite+aiosqlite:///{tmp_path}/nowhere/x.db: "
        f"OperationalError: unable to open database file"
    )


async def test_tables_that_cant_be_created_are_named(tmp_path: Path) -> None:
    """A database may be read, and not written."""
    file = tmp_path / "readable.db"
    sqlite3.connect(file).close()
    url = f"sqlite+aiosqlite:///file:{file}?mode=ro&uri=true"
    with pytest.raises(SystemExit, match=r"^could not create tables in sqlite\+aiosqlite:///file"):
        await demo.run(url, io.StringIO())


async def reject_password(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer like a PostgreSQL server to which a password is wrong, and which repeats it."""
    await reader.readexactly(8)  # asks for TLS
    writer.write(b"N")
    (length,) = struct.unpack("!i", await reader.readexactly(4))
    await reader.readexactly(length - 4)
    writer.write(b"R" + struct.pack("!ii", 8, 3))  # a password in plain text, please
    await reader.readexactly(1)
    (length,) = struct.unpack("!i", await reader.readexactly(4))
    password = (await reader.readexactly(length - 4)).rstrip(b"\0")
    fields = b'SFATAL\0VFATAL\0C28P01\0Mpassword "' + password + b'" is wrong\0\0'
    writer.write(b"E" + struct.pack("!i", len(fields) + 4) + fields)
    await writer.drain()
    writer.close()


async def test_a_wrong_password_is_a_line_without_it() -> None:
    """Whatever the server says, and wherever the URL has it."""
    server = await asyncio.start_server(reject_password, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(SystemExit) as caught:
            await demo.run(f"postgresql+asyncpg://ada:secret@127.0.0.1:{port}/blog", io.StringIO())
    assert str(caught.value) == (
        f"could not connect to postgresql+asyncpg://ada:***@127.0.0.1:{port}/blog: "
        f'InvalidPasswordError: password "***" is wrong'
    )

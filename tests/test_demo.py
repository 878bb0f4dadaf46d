"""The demonstration tells a true story on every database, and says what is wrong with a URL."""

from __future__ import annotations

import builtins
import io
import sys

import databases
import pytest
from sqlalchemy import inspect

from aksara_signals import demo, signals


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


async def test_the_story_is_told(database: databases.Database) -> None:
    """The timeline shows each chapter's deliveries in order, and the database agrees."""
    out = io.StringIO()
    url = database.async_url.render_as_string(hide_password=False)
    deliveries = await demo.run(url, out)
    lines = [line for line in out.getvalue().splitlines() if " ms  " in line]
    told = [(line.split()[2], line.split()[5]) for line in lines]
    assert deliveries == len(lines) == 20
    assert told[:7] == [
        ("post_init", "greet"),
        ("pre_save", "refuse_clickbait"),
        ("pre_save", "generate_slug"),
        ("post_save", "warm_cache"),
        ("post_save", "write_audit_entry"),
        ("post_save", "entry_written"),
        ("post_save", "announce"),
    ]
    assert "raises ClickbaitError: not in this blog" in out.getvalue()
    assert "in the database: authors: 1, posts: 2, audit entries: 2" in out.getvalue()
    assert out.getvalue().rstrip().endswith("authors: 0, posts: 0, audit entries: 2")


async def test_nothing_is_left_behind(database: databases.Database) -> None:
    """After the demonstration there are no tables and no receivers of it."""
    await demo.run(database.async_url.render_as_string(hide_password=False), io.StringIO())
    engine = database.create_sync_engine()
    tables = inspect(engine).get_table_names()
    engine.dispose()
    assert tables == []
    assert not any(getattr(signals, name).connections for name in signals.__all__)


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


@pytest.mark.parametrize("url", ["nonsense", "nosuchdatabase://", "sqlite://"])
async def test_a_bad_url_is_explained(url: str) -> None:
    """A URL that no async engine can be made from ends with a hint, not a traceback."""
    with pytest.raises(SystemExit, match=r"no URL of an async database.*try sqlite\+aiosqlite"):
        await demo.run(url, io.StringIO())


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("sqlite+aiosqlite://", "aiosqlite", "sqlite"),
        ("postgresql+asyncpg://u@h/d", "asyncpg", "postgres"),
    ],
)
async def test_a_missing_driver_is_named_with_its_remedy(
    url: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the driver, the message gives the command that installs it."""
    original = builtins.__import__

    def without_driver(name: str, *args: object, **kwargs: object) -> object:
        if name == module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", without_driver)
    with pytest.raises(SystemExit, match=rf"pip install 'aksara-signals\[{extra}\]'"):
        await demo.run(url, io.StringIO())

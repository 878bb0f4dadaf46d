"""``python -m aksara_signals``."""

from __future__ import annotations

import runpy
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import aksara_signals
from aksara_signals.__main__ import main


def test_the_demonstration_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """``demo`` shows signals firing and exits with success."""
    assert main(["demo"]) == 0
    assert "post_save" in capsys.readouterr().out


def test_the_module_can_be_executed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``python -m aksara_signals`` is the command line."""
    monkeypatch.setattr(sys, "argv", ["aksara_signals", "demo", "--url", "sqlite+aiosqlite://"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(Path(aksara_signals.__path__[0]) / "__main__.py"), run_name="__main__")
    assert exit_.value.code == 0
    assert "post_delete" in capsys.readouterr().out


def test_a_command_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    """Without one, a line names them all."""
    with pytest.raises(SystemExit, match="2"):
        main([])
    [line] = capsys.readouterr().err.splitlines()
    assert "name a command: demo, inspect, receivers, graph, check, worker, relay or outbox" in line


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """That of the installed distribution."""
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"aksara-signals {version('aksara-signals')}\n"


def test_a_database_that_cant_be_used_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback, and the status of bad arguments."""
    assert main(["demo", "--url", "postgresql+asyncpg://ada:secret@127.0.0.1:1/blog"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "aksara-signals: could not connect to postgresql+asyncpg://ada:***@127.0.0.1:1/blog: "
        "ConnectionRefusedError: "
    )
    assert "secret" not in line


def test_the_package_imports_no_sqlalchemy() -> None:
    """``import aksara_signals`` leaves SQLAlchemy alone."""
    code = "import sys, aksara_signals; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

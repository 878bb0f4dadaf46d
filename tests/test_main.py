"""``python -m aksara_signals``."""

from __future__ import annotations

import runpy
import subprocess
import sys
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
    """Without a command the usage is shown."""
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "demo" in capsys.readouterr().err


def test_the_package_imports_no_sqlalchemy() -> None:
    """``import aksara_signals`` leaves SQLAlchemy alone."""
    code = "import sys, aksara_signals; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

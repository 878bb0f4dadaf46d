"""The tests of this folder notice when a signal is gone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


@pytest.fixture
def muted() -> None:
    """Nothing is muted here: this test runs those that are."""


def test_each_test_fails_without_its_signal() -> None:
    """Every test fails, and none breaks, when a signal that it stands for is made a no-op."""
    texts = sorted(path for path in HERE.glob("test_*.py") if path != Path(__file__))
    command = [sys.executable, "-m", "pytest", *texts, "--mute", "-k", "not postgresql"]
    command += ["--rootdir", ROOT, "-q", "--tb=no", "-rpE", "-p", "no:cacheprovider"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    [outcome] = re.findall(r"^(?=.*\bin [0-9.]+s)[^\n]*$", done.stdout, re.MULTILINE)
    assert "passed" not in outcome, done.stdout
    assert "error" not in outcome, done.stdout
    failed = re.match(r"(\d+) failed", outcome)
    assert failed, done.stdout + done.stderr
    assert int(failed[1]) > 100

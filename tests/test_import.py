"""What importing the library costs."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import aksara_signals


def test_importing_the_face_imports_little() -> None:
    """No SQLAlchemy, and none of the large modules of the standard library."""
    heavy = ("sqlalchemy", "greenlet", "asyncio", "inspect", "dataclasses", "logging", "difflib")
    code = (
        "import sys; before = set(sys.modules); import aksara_signals; "
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(heavy).intersection(done.stdout.split())


def test_the_version_is_that_of_the_distribution() -> None:
    """It is written down in one place only."""
    assert aksara_signals.__version__ == version("aksara-signals")
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = aksara_signals.no_such_name

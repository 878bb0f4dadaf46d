"""What importing the library costs."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import aksara_signals
from aksara_signals import testing


def test_importing_the_face_imports_little() -> None:
    """No SQLAlchemy, and none of the large modules of the standard library."""
    heavy = ("sqlalchemy", "greenlet", "asyncio", "inspect", "dataclasses", "logging", "difflib")
    code = (
        "import sys; before = set(sys.modules); from aksara_signals import *; "
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(heavy).intersection(done.stdout.split())


def test_nothing_is_imported_before_a_name_is_asked_for() -> None:
    """Then all of the face is there, and its names are listed before."""
    code = (
        "import sys, aksara_signals; "
        "assert {*aksara_signals.__all__} < {*dir(aksara_signals)}; "
        "print('aksara_signals.dispatch' in sys.modules); "
        "aksara_signals.Signal; "
        "print(all(name in vars(aksara_signals) for name in aksara_signals.__all__))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    assert {*aksara_signals.__all__} < {*dir(aksara_signals)}


def test_the_orm_imports_nothing_of_the_outbox() -> None:
    """Only who stores signals pays for it; the dispatcher knows of durable= without it."""
    code = "import sys, aksara_signals, aksara_signals.orm; aksara_signals.post_save; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.split() if name.startswith("aksara_signals.contrib")]


CAPTURED = """
from aksara_signals.testing import capture_signals, restored_signals
with capture_signals() as calls, restored_signals():
    from aksara_signals import post_save
    post_save.send_sync(int, instance=1)
calls.assert_called_once("post_save")
"""

NAMED = """
from aksara_signals.testing import capture_signals
with capture_signals("post_save"): pass
"""

COLLECTED = """
from aksara_signals.introspection.collect import collect
assert collect("post_save") == []
"""


@pytest.mark.parametrize("code", [CAPTURED, NAMED, COLLECTED])
def test_built_in_signals_are_among_all_signals(code: str) -> None:
    """Also where nothing of the face has been used."""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_testing_kit_imports_what_is_asked_for() -> None:
    """Neither SQLAlchemy for who captures, nor what isn't there."""
    code = (
        "import sys, aksara_signals.testing as kit; "
        "assert {*kit.__all__} < {*dir(kit)}; "
        "kit.capture_signals; kit.restored_signals; "
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"sqlalchemy", "unittest.mock"}.intersection(done.stdout.split())
    assert all(getattr(testing, name) for name in testing.__all__)
    assert {*testing.__all__} < {*dir(testing)}
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = testing.no_such_name


def test_the_version_is_that_of_the_distribution() -> None:
    """It is written down in one place only."""
    assert aksara_signals.__version__ == version("aksara-signals")
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = aksara_signals.no_such_name

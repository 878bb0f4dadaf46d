"""A pytest plugin that connects a receiver to everything: given with ``-p`` to the second run."""

from __future__ import annotations

from typing import Any

from aksara_signals import signals
from aksara_signals.orm import register


def read_nothing(**_: Any) -> None:
    """A receiver that takes what it is sent, and looks at none of it."""


def pytest_configure() -> None:
    """Every mapped class sends, and every built-in signal has a receiver of all senders."""
    register(object)
    for name in signals.__all__:
        getattr(signals, name).connect(read_nothing)

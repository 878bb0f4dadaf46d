"""Connections as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aksara_signals.dispatch.registry import all_signals

__all__ = ["restored_signals"]


@contextmanager
def restored_signals() -> Iterator[None]:
    """Undo, at the end of a ``with`` block or of a decorated function, what it connected and
    disconnected, for every signal that there was at its beginning.
    """
    before = [(signal, signal.save_connections()) for signal in all_signals()]
    try:
        yield
    finally:
        for signal, connections in before:
            signal.restore_connections(connections)

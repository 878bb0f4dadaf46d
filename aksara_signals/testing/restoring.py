"""Putting connections back as they were."""

from __future__ import annotations

from collections.abc import Iterator

from aksara_signals import all_signals
from aksara_signals.dispatch.blocks import block
from aksara_signals.dispatch.signal import restore_connections, save_connections

__all__ = ["restored_signals"]


@block
def restored_signals() -> Iterator[None]:
    """Undo what a ``with`` block, or a decorated function, connects and disconnects.

    This covers every signal that exists when the block begins.
    """
    before = [(signal, save_connections(signal)) for signal in all_signals()]
    try:
        yield
    finally:
        for signal, connections in before:
            restore_connections(signal, connections)

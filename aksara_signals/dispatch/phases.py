"""When a receiver is called: at once, or when the outcome of a transaction is known.

The dispatcher knows no transactions. Whoever does gives it a way to keep what has to wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from aksara_signals.exceptions import NoSessionError

if TYPE_CHECKING:
    from aksara_signals.dispatch.connection import Connection
    from aksara_signals.dispatch.signal import Signal

__all__ = ["AFTER_COMMIT", "AFTER_ROLLBACK", "IMMEDIATE", "PHASES", "keep_waiting", "keepers"]

IMMEDIATE: Final = "immediate"
AFTER_COMMIT: Final = "after_commit"
AFTER_ROLLBACK: Final = "after_rollback"
PHASES: Final = (IMMEDIATE, AFTER_COMMIT, AFTER_ROLLBACK)
"""What ``phase=`` may be."""

Keeper = Callable[["Signal", Mapping[str, Any], "tuple[Connection, ...]"], bool]

keepers: list[Keeper] = []
"""Functions that keep a hand-sent signal for some connections until its transaction has ended.

Each is given the signal, all its arguments and the connections that wait; False means that it
knows no transaction for them.
"""


def keep_waiting(
    signal: Signal, arguments: Mapping[str, Any], waiting: tuple[Connection, ...]
) -> None:
    """Keep a hand-sent signal for the receivers that wait for the outcome.

    Raises:
        NoSessionError: Nothing says whose outcome that is.
    """
    if not any(keep(signal, arguments, waiting) for keep in keepers):
        raise NoSessionError(
            f"{signal.display_name} was sent to receivers that wait for the outcome of a "
            f"transaction, and nothing says of which: pass session=, or an instance that is in a "
            f"session"
        )

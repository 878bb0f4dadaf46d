"""What tests of signals need: capture, mocks, restored connections, transactions that roll back.

The pytest plugin that comes with it is loaded by itself; its fixtures are in
:mod:`aksara_signals.testing.plugin`.
"""

from typing import TYPE_CHECKING, Any

from aksara_signals.testing.capture import Call, Calls, capture_signals
from aksara_signals.testing.mocking import mock_receiver
from aksara_signals.testing.restoring import restored_signals

if TYPE_CHECKING:
    from aksara_signals.testing.transactions import as_if_committed, rolled_back

__all__ = [
    "Call",
    "Calls",
    "as_if_committed",
    "capture_signals",
    "mock_receiver",
    "restored_signals",
    "rolled_back",
]


def __getattr__(name: str) -> Any:
    # These need SQLAlchemy, which pytest must not load at its start because a plugin lives here.
    if name in ("as_if_committed", "rolled_back"):
        from aksara_signals.testing import transactions

        return getattr(transactions, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Tools for tests of signals: capture, mocks, restored connections, transactions that roll back.

pytest loads the plugin by itself; its fixtures are in :mod:`aksara_signals.testing.plugin`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aksara_signals.testing.calls import Call, Calls
    from aksara_signals.testing.capture import capture_signals
    from aksara_signals.testing.mocking import mock_receiver
    from aksara_signals.testing.outbox import (
        drain_outbox,
        drain_outbox_sync,
        pending,
        pending_sync,
    )
    from aksara_signals.testing.restoring import restored_signals
    from aksara_signals.testing.transactions import as_if_committed, rolled_back
else:
    # As in the package above, names are imported when they are asked for, module by module: only
    # rolled_back() needs SQLAlchemy, only the mocks need unittest.mock.
    _MODULES = {
        "Call": "calls",
        "Calls": "calls",
        "as_if_committed": "transactions",
        "capture_signals": "capture",
        "drain_outbox": "outbox",
        "drain_outbox_sync": "outbox",
        "mock_receiver": "mocking",
        "pending": "outbox",
        "pending_sync": "outbox",
        "restored_signals": "restoring",
        "rolled_back": "transactions",
    }

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "Call",
    "Calls",
    "as_if_committed",
    "capture_signals",
    "drain_outbox",
    "drain_outbox_sync",
    "mock_receiver",
    "pending",
    "pending_sync",
    "restored_signals",
    "rolled_back",
]

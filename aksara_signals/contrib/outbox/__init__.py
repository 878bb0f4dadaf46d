"""Durable receivers: called by workers until they have succeeded, from rows of the transaction."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aksara_signals.contrib.outbox.events import DurableEvent
    from aksara_signals.contrib.outbox.options import Durable, Retry
    from aksara_signals.contrib.outbox.outbox import Outbox
    from aksara_signals.contrib.outbox.receiving import receive
    from aksara_signals.contrib.outbox.relay.relay import Relay
    from aksara_signals.contrib.outbox.worker.worker import Worker
else:
    # Imported when they are asked for: tracing imports only the hooks, and needs no SQLAlchemy.
    _MODULES = {
        "Durable": "options",
        "DurableEvent": "events",
        "Outbox": "outbox",
        "Relay": "relay.relay",
        "Retry": "options",
        "Worker": "worker.worker",
        "receive": "receiving",
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


__all__ = ["Durable", "DurableEvent", "Outbox", "Relay", "Retry", "Worker", "receive"]

"""The dispatcher: signals, connections, deliveries. Standard library only; knows no database."""

from aksara_signals.dispatch.connection import Connection
from aksara_signals.dispatch.context import SignalContext
from aksara_signals.dispatch.outcome import drain, on_delivery_error
from aksara_signals.dispatch.receiver import receiver
from aksara_signals.dispatch.registry import all_signals, check_senders, lookup
from aksara_signals.dispatch.signal import Signal

__all__ = [
    "Connection",
    "Signal",
    "SignalContext",
    "all_signals",
    "check_senders",
    "drain",
    "lookup",
    "on_delivery_error",
    "receiver",
]

"""The dispatcher: signals, connections, deliveries. Standard library only; knows no database."""

from aksara_signals.dispatch.after import drain, on_delivery_error
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.context import SignalContext
from aksara_signals.dispatch.delivery.tracing import (
    DeliveryStep,
    add_delivery_hook,
    remove_delivery_hook,
)
from aksara_signals.dispatch.provenance import provenance
from aksara_signals.dispatch.receiver import receiver
from aksara_signals.dispatch.registry import all_signals, check_senders, lookup
from aksara_signals.dispatch.signal import Signal
from aksara_signals.dispatch.typed import BulkSignal, ModelSignal, TypedSignal, typed_signal

__all__ = [
    "BulkSignal",
    "Connection",
    "DeliveryStep",
    "ModelSignal",
    "Signal",
    "SignalContext",
    "TypedSignal",
    "add_delivery_hook",
    "all_signals",
    "check_senders",
    "drain",
    "lookup",
    "on_delivery_error",
    "provenance",
    "receiver",
    "remove_delivery_hook",
    "typed_signal",
]

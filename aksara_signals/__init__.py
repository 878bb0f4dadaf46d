"""Django-style signals for SQLAlchemy 2.x, async first.

The public API: the dispatcher, the built-in signals and the exceptions. Everything that needs
SQLAlchemy is in :mod:`aksara_signals.orm`, which importing this package doesn't import.

Nothing else is imported before one of the names is used. Every pytest run in an environment with
this library imports this module, because the library contains a pytest plugin.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aksara_signals.dispatch import (
        BulkSignal,
        Connection,
        DeliveryStep,
        ModelSignal,
        Signal,
        SignalContext,
        TypedSignal,
        add_delivery_hook,
        all_signals,
        check_senders,
        drain,
        lookup,
        on_delivery_error,
        provenance,
        receiver,
        remove_delivery_hook,
        typed_signal,
    )
    from aksara_signals.exceptions import (
        AksaraSignalsError,
        AksaraSignalsWarning,
        AmbiguousSenderError,
        AsyncReceiverError,
        InspectorError,
        InstanceStateError,
        InvalidOptionError,
        InvalidPhaseError,
        InvalidReceiverError,
        InvalidSenderError,
        MigrationError,
        NoSessionError,
        OutboxError,
        SessionInUseError,
        SignalPayloadError,
        SignalRecursionError,
        StatementSignalError,
        UnknownFieldError,
        UnknownSignalError,
        UnmappedClassError,
        UnresolvedSenderError,
    )
    from aksara_signals.signals import (
        m2m_changed,
        post_bulk_create,
        post_bulk_update,
        post_delete,
        post_init,
        post_migrate,
        post_relation_add,
        post_relation_remove,
        post_save,
        post_statement,
        post_update,
        pre_bulk_create,
        pre_bulk_update,
        pre_delete,
        pre_init,
        pre_migrate,
        pre_relation_add,
        pre_relation_remove,
        pre_save,
        pre_update,
    )

__all__ = [
    "AksaraSignalsError",
    "AksaraSignalsWarning",
    "AmbiguousSenderError",
    "AsyncReceiverError",
    "BulkSignal",
    "Connection",
    "DeliveryStep",
    "InspectorError",
    "InstanceStateError",
    "InvalidOptionError",
    "InvalidPhaseError",
    "InvalidReceiverError",
    "InvalidSenderError",
    "MigrationError",
    "ModelSignal",
    "NoSessionError",
    "OutboxError",
    "SessionInUseError",
    "Signal",
    "SignalContext",
    "SignalPayloadError",
    "SignalRecursionError",
    "StatementSignalError",
    "TypedSignal",
    "UnknownFieldError",
    "UnknownSignalError",
    "UnmappedClassError",
    "UnresolvedSenderError",
    "add_delivery_hook",
    "all_signals",
    "check_senders",
    "drain",
    "lookup",
    "m2m_changed",
    "on_delivery_error",
    "post_bulk_create",
    "post_bulk_update",
    "post_delete",
    "post_init",
    "post_migrate",
    "post_relation_add",
    "post_relation_remove",
    "post_save",
    "post_statement",
    "post_update",
    "pre_bulk_create",
    "pre_bulk_update",
    "pre_delete",
    "pre_init",
    "pre_migrate",
    "pre_relation_add",
    "pre_relation_remove",
    "pre_save",
    "pre_update",
    "provenance",
    "receiver",
    "remove_delivery_hook",
    "typed_signal",
]


if TYPE_CHECKING:
    __version__: str
else:  # hidden from type checkers, to which a module with __getattr__ has every name

    def __getattr__(name: str) -> Any:
        if name in __all__:
            from importlib import import_module

            # Not "from aksara_signals import …", which would ask this function for each of them.
            for each in ("dispatch", "exceptions", "signals"):
                module = import_module(f"aksara_signals.{each}")
                globals().update({known: getattr(module, known) for known in module.__all__})
            return globals()[name]
        # Reading the installed metadata takes longer than importing all of the library.
        if name == "__version__":
            from importlib.metadata import version

            return version("aksara-signals")
        import sys

        from aksara_signals.dispatch.synonyms import missing_name

        raise missing_name(__name__, name, __all__, sys.modules[__name__])

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

"""The exceptions of the library: one hierarchy, with one code per exception.

Each message says what is wrong, where, and the way out. It ends with the code, under which the
reference documentation explains the error in detail. Where a built-in exception fits, an exception
also derives from it, so ``except TypeError`` and ``except AttributeError`` work as usual.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AksaraSignalsError",
    "AksaraSignalsWarning",
    "AmbiguousSenderError",
    "AsyncReceiverError",
    "InspectorError",
    "InstanceStateError",
    "InvalidOptionError",
    "InvalidPhaseError",
    "InvalidReceiverError",
    "InvalidSenderError",
    "MigrationError",
    "NoSessionError",
    "OutboxError",
    "SessionInUseError",
    "SignalPayloadError",
    "SignalRecursionError",
    "StatementSignalError",
    "UnknownFieldError",
    "UnknownSignalError",
    "UnmappedClassError",
    "UnresolvedSenderError",
]


class AksaraSignalsError(Exception):
    """The base class: ``except AksaraSignalsError`` catches every error that this library raises.

    Args:
        message: What is wrong, where, and the way out. The code is appended to it.
    """

    code: ClassVar[str] = "AKS-000"
    """The error's code, stable across versions."""

    def __init__(self, message: str = "") -> None:
        suffix = f"[{self.code}]"
        # An unpickled error is built from its complete text: don't append the code again.
        super().__init__(message if message.endswith(suffix) else f"{message} {suffix}".lstrip())


class InvalidReceiverError(AksaraSignalsError, TypeError):
    """A receiver can't be called with what the signal sends.

    It isn't callable, is a generator function, lacks ``**kwargs``, has a parameter that nothing
    fills, or is a mapped class.
    """

    code = "AKS-101"


class InvalidSenderError(AksaraSignalsError, TypeError):
    """A sender can never send the signal, as a table can't, or a list of senders is empty."""

    code = "AKS-102"


class AmbiguousSenderError(AksaraSignalsError, LookupError):
    """A string sender is the name of two live mapped classes."""

    code = "AKS-103"


class UnresolvedSenderError(AksaraSignalsError, LookupError):
    """A string sender names no class; raised by :func:`aksara_signals.check_senders`."""

    code = "AKS-104"


class InvalidOptionError(AksaraSignalsError, TypeError):
    """An option or argument is invalid, or of the wrong type."""

    code = "AKS-105"


class InvalidPhaseError(InvalidOptionError):
    """A phase is unknown, or the signal is sent before there is an outcome to defer until."""

    code = "AKS-106"


class SignalPayloadError(AksaraSignalsError, TypeError):
    """A signal was sent without an argument that its payload declares, or with a reserved one."""

    code = "AKS-201"


class AsyncReceiverError(AksaraSignalsError, RuntimeError):
    """An async receiver had to wait for something in a synchronous send, which can't wait."""

    code = "AKS-202"


class SignalRecursionError(AksaraSignalsError, RecursionError):
    """Receivers caused one another without end; the message shows the chain."""

    code = "AKS-203"


class UnknownSignalError(AksaraSignalsError, AttributeError):
    """No signal has this name; the message suggests the nearest one."""

    code = "AKS-204"


class UnmappedClassError(AksaraSignalsError, TypeError, AttributeError):
    """A class is not mapped by SQLAlchemy, and the operation needs one that is.

    It is an ``AttributeError`` because ``Model.objects`` raises it, and code that inspects a class,
    as ``hasattr`` and pydantic do, expects no other exception from an attribute.
    """

    code = "AKS-301"


class NoSessionError(AksaraSignalsError, RuntimeError):
    """A session is needed, to write or to defer a receiver, and none was found."""

    code = "AKS-302"


class SessionInUseError(AksaraSignalsError, RuntimeError):
    """A receiver did with a session what it must not do while it runs, such as commit it."""

    code = "AKS-303"


class UnknownFieldError(AksaraSignalsError, ValueError):
    """``update_fields`` or ``update(…)`` names something that is not a writable attribute.

    Or ``fields`` or ``transition`` of a receiver names no column or composite of the sender.
    """

    code = "AKS-304"


class InstanceStateError(AksaraSignalsError, RuntimeError):
    """An instance isn't in the state that the operation needs, such as one that has no row yet."""

    code = "AKS-305"


class StatementSignalError(AksaraSignalsError, RuntimeError):
    """A statement's rows can't be sent to the receivers that are connected to them.

    It is refused before it writes, or rolled back if other transactions changed its rows meanwhile.
    The pytest plugin also raises it for a statement that no receiver sees, if asked.
    """

    code = "AKS-306"


class MigrationError(AksaraSignalsError, RuntimeError):
    """Alembic isn't set up for the signals of migrations."""

    code = "AKS-401"


class OutboxError(AksaraSignalsError, RuntimeError):
    """Durable receivers can't be stored or called: the outbox isn't set up as they need it.

    No outbox is installed, its table is missing, a worker knows no durable receivers or is bound to
    another database, or SQLite's transactions begin too late.
    """

    code = "AKS-501"


class InspectorError(AksaraSignalsError, RuntimeError):
    """The inspector can't be served.

    Its port is in use, or the application that it was to be served with is not an ASGI application
    or did not start.
    """

    code = "AKS-601"


class AksaraSignalsWarning(UserWarning):
    """Something works, but not as well as its author would expect."""

"""Every error of the library: one tree, one code per error.

Each message says what is wrong, where, and the way out; it ends with the code, under which the
reference documentation explains the error at length. Errors that Python has a word for are that
word too, so ``except TypeError`` and ``except AttributeError`` work as anywhere else.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AksaraSignalsError",
    "AksaraSignalsWarning",
    "AmbiguousSenderError",
    "AsyncReceiverError",
    "InstanceStateError",
    "InvalidOptionError",
    "InvalidPhaseError",
    "InvalidReceiverError",
    "InvalidSenderError",
    "MigrationError",
    "NoSessionError",
    "SessionInUseError",
    "SignalPayloadError",
    "SignalRecursionError",
    "UnknownFieldError",
    "UnknownSignalError",
    "UnmappedClassError",
    "UnresolvedSenderError",
]


class AksaraSignalsError(Exception):
    """The root of the tree: ``except AksaraSignalsError`` catches whatever this library raises.

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
    """A receiver isn't callable, never runs, lacks ``**kwargs``, can't be filled, or is a model."""

    code = "AKS-101"


class InvalidSenderError(AksaraSignalsError, TypeError):
    """What was given as a sender can never send the signal, as a table, or is an empty list."""

    code = "AKS-102"


class AmbiguousSenderError(AksaraSignalsError, LookupError):
    """Two live mapped classes answer to one string sender."""

    code = "AKS-103"


class UnresolvedSenderError(AksaraSignalsError, LookupError):
    """A string sender names no class; raised by :func:`aksara_signals.check_senders`."""

    code = "AKS-104"


class InvalidOptionError(AksaraSignalsError, TypeError):
    """An option or argument makes no sense, or is of a wrong kind."""

    code = "AKS-105"


class InvalidPhaseError(InvalidOptionError):
    """A phase is unknown, or the signal is sent before there is anything whose outcome counts."""

    code = "AKS-106"


class SignalPayloadError(AksaraSignalsError, TypeError):
    """A signal was sent without an argument that its payload declares, or with a reserved one."""

    code = "AKS-201"


class AsyncReceiverError(AksaraSignalsError, RuntimeError):
    """An async receiver had to wait for something where nobody can wait: in a synchronous send."""

    code = "AKS-202"


class SignalRecursionError(AksaraSignalsError, RecursionError):
    """Receivers caused one another without end; the message shows the chain."""

    code = "AKS-203"


class UnknownSignalError(AksaraSignalsError, AttributeError):
    """No signal has this name; the message offers the nearest one."""

    code = "AKS-204"


class UnmappedClassError(AksaraSignalsError, TypeError, AttributeError):
    """A class is not mapped by SQLAlchemy, and what was asked for needs one that is.

    An ``AttributeError`` because ``Model.objects`` raises it, and who looks a class over, as
    ``hasattr`` and pydantic do, expects nothing else.
    """

    code = "AKS-301"


class NoSessionError(AksaraSignalsError, RuntimeError):
    """A session is needed, to write with or to wait for its outcome, and none is to be found."""

    code = "AKS-302"


class SessionInUseError(AksaraSignalsError, RuntimeError):
    """A receiver did with a session what it mustn't while it runs, such as commit it."""

    code = "AKS-303"


class UnknownFieldError(AksaraSignalsError, ValueError):
    """``update_fields`` or ``update(…)`` names something that is no writable attribute."""

    code = "AKS-304"


class InstanceStateError(AksaraSignalsError, RuntimeError):
    """An instance isn't in the state that the operation needs, such as one that has no row yet."""

    code = "AKS-305"


class MigrationError(AksaraSignalsError, RuntimeError):
    """Alembic isn't ready for the signals of migrations."""

    code = "AKS-401"


class AksaraSignalsWarning(UserWarning):
    """Something works, but not as well as its author will expect."""

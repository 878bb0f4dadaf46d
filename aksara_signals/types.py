"""Names for the types that appear in the public API, and the phases of receivers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from typing import Any, Final, Literal, Protocol, TypeAlias, TypedDict, TypeVar

__all__ = [
    "AFTER_COMMIT",
    "AFTER_ROLLBACK",
    "DURABLE",
    "IMMEDIATE",
    "PHASES",
    "Changes",
    "ConnectOptions",
    "DurableOptions",
    "Phase",
    "Receiver",
    "ReceiverT",
    "Responses",
    "Sender",
    "Senders",
]

Receiver: TypeAlias = Callable[..., Any]
"""A receiver: any callable that accepts ``**kwargs``, async or not."""

ReceiverT = TypeVar("ReceiverT", bound=Callable[..., Any])
"""The receiver given to a decorator, which returns the same object."""

Sender: TypeAlias = Any
"""What sends a signal: usually a class; also its name, a number, or any object (by identity)."""

Senders: TypeAlias = "Sender | Iterable[Sender]"
"""One sender, or several in a list, tuple, set, view of a dict or iterator."""

Responses: TypeAlias = "list[tuple[Receiver, Any]]"
"""What a send returns: ``(receiver, response)`` pairs in call order."""

Phase: TypeAlias = Literal["immediate", "after_commit", "after_rollback"]
"""When a receiver is called: at once, inside the transaction, or once its outcome is known."""

IMMEDIATE: Final = "immediate"
AFTER_COMMIT: Final = "after_commit"
AFTER_ROLLBACK: Final = "after_rollback"
PHASES: Final = (IMMEDIATE, AFTER_COMMIT, AFTER_ROLLBACK)
"""The valid values of ``phase=``."""

DURABLE: Final = "durable"
"""The phase of a receiver that is connected with ``durable=``; it can't be given as ``phase=``."""


class DurableOptions(Protocol):
    """What ``durable=`` takes besides a name: the options of a durable receiver.

    :class:`aksara_signals.contrib.outbox.Durable` is one.
    """

    @property
    def name(self) -> str:
        """The name under which the receiver's rows are stored."""
        ...

    @property
    def include(self) -> tuple[str, ...]:
        """The names of the columns whose values are stored with each row."""
        ...

    def conflict(self, other: Any, /) -> str | None:
        """The name of an option in which another value of ``durable=`` contradicts this one.

        The other one may be a mere name.
        """
        ...


class ConnectOptions(TypedDict, total=False):
    """The options of :meth:`Signal.connect <aksara_signals.Signal.connect>`, explained there."""

    weak: bool
    dispatch_uid: Hashable
    priority: float
    exact: bool
    concurrent: bool
    created: bool | None
    phase: Phase
    coalesce: bool
    timeout_seconds: float | None
    durable: str | DurableOptions | None
    statements: bool


Changes: TypeAlias = "Mapping[str, tuple[Any, Any]]"
"""Attribute name to ``(old, new)``."""


class Drive(Protocol):
    """Runs an awaitable to its end from synchronous code and returns its result."""

    def __call__(self, awaitable: Awaitable[Any], /) -> Any: ...

"""Names for the types that appear in the public API, and the phases of receivers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from types import EllipsisType
from typing import Any, Final, Literal, Protocol, TypeAlias, TypedDict, TypeVar, overload

__all__ = [
    "AFTER_COMMIT",
    "AFTER_ROLLBACK",
    "DURABLE",
    "IMMEDIATE",
    "PHASES",
    "Attribute",
    "Changes",
    "ConnectOptions",
    "DurableOptions",
    "FieldNames",
    "OtherOptions",
    "Phase",
    "Receiver",
    "ReceiverT",
    "Responses",
    "Sender",
    "Senders",
    "Side",
]

V = TypeVar("V")

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


class Attribute(Protocol[V]):
    """A mapped attribute, such as ``Post.status``; a type checker knows the type of its value."""

    @property
    def key(self) -> str:
        """Its name."""
        ...

    @overload
    def __get__(self, instance: None, owner: Any) -> Any: ...

    @overload
    def __get__(self, instance: object, owner: Any) -> V: ...

    def __set__(self, instance: Any, value: V, /) -> None: ...


FieldNames: TypeAlias = "str | Attribute[Any] | Iterable[str | Attribute[Any]]"
"""The name of an attribute or the attribute itself, or several of these."""

Side: TypeAlias = "V | AbstractSet[V] | EllipsisType | None"
"""One side of a transition: a value, a set of values, or ``...`` for any."""


class OtherOptions(TypedDict, total=False):
    """The options but ``transition``, of which a type checker can compare the values."""

    weak: bool
    dispatch_uid: Hashable
    priority: float
    exact: bool
    concurrent: bool
    created: bool | None
    fields: FieldNames | None
    phase: Phase
    coalesce: bool
    timeout_seconds: float | None
    durable: str | DurableOptions | None
    statements: bool


class ConnectOptions(OtherOptions, total=False):
    """The options of :meth:`Signal.connect <aksara_signals.Signal.connect>`, explained there."""

    transition: Mapping[Any, tuple[Any, Any]] | None


Changes: TypeAlias = "Mapping[str, tuple[Any, Any]]"
"""Attribute name to ``(old, new)``."""


class Drive(Protocol):
    """Runs an awaitable to its end from synchronous code and returns its result."""

    def __call__(self, awaitable: Awaitable[Any], /) -> Any: ...

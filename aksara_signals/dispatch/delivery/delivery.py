"""What is delivered, and to which receivers."""

from __future__ import annotations

from collections.abc import Mapping
from types import GeneratorType
from typing import Any, NamedTuple, Protocol, TypeAlias

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.types import Sender

NO_EXTRAS: Mapping[str, Any] = {}


class Source(Protocol):
    """What is delivered: a signal, or something that is delivered like one."""

    @property
    def display_name(self) -> str:
        """The name for messages."""
        ...


class Delivery(NamedTuple):
    """One signal on its way from one sender to some receivers. Never changes.

    One is made for each send, and for each row and signal of a flush, where it is a plain tuple of
    the same fields, :data:`AnyDelivery`.
    """

    signal: Source
    sender: Sender
    sequential: tuple[Connection, ...]
    """The connections whose receivers are called one after another."""
    arguments: dict[str, Any]
    """Everything that is sent, ``signal`` and ``sender`` included."""
    concurrent: tuple[Connection, ...] = ()
    """The connections whose receivers run in one task group after the sequential ones."""
    extras: Mapping[str, Any] = NO_EXTRAS
    """On-demand arguments, for the receivers that name them. Of a deferred receiver, also the
    provenance at the send, unless there was none."""


AnyDelivery: TypeAlias = tuple[
    Source,
    Sender,
    tuple[Connection, ...],
    dict[str, Any],
    tuple[Connection, ...],
    Mapping[str, Any],
]
"""A :class:`Delivery`, or a plain tuple of its fields, which takes a seventh of the time to make.
Hot paths make these, and the loops take either."""


def named(delivery: AnyDelivery) -> Delivery:
    """The delivery with names for its fields."""
    return delivery if isinstance(delivery, Delivery) else Delivery._make(delivery)


class FailedDelivery(NamedTuple):
    """A delivery whose arguments couldn't be prepared: its receiver fails without being called."""

    delivery: Delivery
    """With the arguments that could be prepared, and one sequential connection."""
    error: Exception


class Failure(NamedTuple):
    """The exception of a receiver, the delivery and the connection."""

    error: BaseException
    delivery: Delivery
    connection: Connection


def is_awaitable(response: Any) -> bool:
    """Whether ``await response`` is possible. Looks at the type, as ``await`` itself does."""
    kind: Any = type(response)
    # A subclass of an awaitable class may set __await__ to None. Most responses have none at all,
    # which hasattr() finds out faster.
    if hasattr(kind, "__await__"):
        return kind.__await__ is not None
    return is_generator_coroutine(response)


_CO_ITERABLE_COROUTINE = 0x100


def is_generator_coroutine(response: Any) -> bool:
    """Whether this is a generator that ``types.coroutine`` has made awaitable."""
    return type(response) is GeneratorType and bool(
        response.gi_code.co_flags & _CO_ITERABLE_COROUTINE
    )

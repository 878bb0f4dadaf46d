"""What is delivered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import GeneratorType
from typing import Any, Protocol

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.types import Sender

__all__ = [
    "NO_EXTRAS",
    "Delivery",
    "Failure",
    "FailedDelivery",
    "Origin",
    "delivery_of",
    "is_awaitable",
    "is_generator_coroutine",
]

NO_EXTRAS: Mapping[str, Any] = {}


class Origin(Protocol):
    """What a delivery comes from: a signal, or something that is delivered like one."""

    @property
    def display_name(self) -> str:
        """The name for messages."""
        ...


class Delivery:
    """One signal on its way from one sender to some receivers, and where it stands.

    Whoever tells of many rows in a row may use one delivery for all of them, and change
    ``arguments`` and ``extras`` in between: they are read when their turn comes.

    It has no constructor: a call of one in Python takes longer than all that it would do, once per
    send. :func:`delivery_of` fills what whoever sends has to fill.
    """

    __slots__ = (
        "arguments",
        "cause",
        "concurrent",
        "connection",
        "extras",
        "is_aside",
        "sender",
        "sequential",
        "signal",
    )

    signal: Origin
    sender: Sender
    sequential: tuple[Connection, ...]
    """Called one after another."""
    concurrent: tuple[Connection, ...]
    """Called together, when the sequential ones are through."""
    arguments: dict[str, Any]
    """Everything that is sent, ``signal`` and ``sender`` included. Never changed. Empty once it
    has been let go."""
    extras: Mapping[str, Any]
    """On-demand arguments, for the receivers that name them."""
    connection: Connection | None
    """Whose receiver runs now; None when all is over. Filled by the loops, as what follows."""
    cause: Delivery | None
    """The delivery in which this one was caused."""
    is_aside: bool
    """Whether this one runs in a task of its own, off the stack of its cause."""

    def to_one(self, connection: Connection) -> Delivery:
        """The same for one of the receivers."""
        return delivery_of(
            self.signal, self.sender, (connection,), self.arguments, extras=self.extras
        )

    def let_go(self) -> None:
        """Forget what was sent: it has been told.

        A task that a receiver has started refers to the delivery, by its copy of the context, for
        as long as it lives; what was sent must not live as long.
        """
        self.arguments = {}
        self.extras = NO_EXTRAS

    def chain(self) -> Iterator[Delivery]:
        """This delivery and those around it, innermost first."""
        delivery: Delivery | None = self
        while delivery is not None:
            yield delivery
            delivery = delivery.cause


def delivery_of(
    signal: Origin,
    sender: Sender,
    sequential: tuple[Connection, ...],
    arguments: dict[str, Any],
    *,
    concurrent: tuple[Connection, ...] = (),
    extras: Mapping[str, Any] = NO_EXTRAS,
) -> Delivery:
    """A delivery that is ready to go through a loop."""
    delivery = Delivery()
    delivery.signal = signal
    delivery.sender = sender
    delivery.sequential = sequential
    delivery.concurrent = concurrent
    delivery.arguments = arguments
    delivery.extras = extras
    return delivery


class FailedDelivery(Delivery):
    """A delivery whose arguments couldn't be made: its receiver fails without being called."""

    __slots__ = ("error",)

    error: Exception
    """Why not."""


Failure = tuple[BaseException, Delivery, Connection]
"""An exception, and whom it came from while what was told."""


def is_awaitable(response: Any) -> bool:
    """Whether ``await response`` means something. Asks the type, as ``await`` itself does."""
    kind: Any = type(response)
    # None stands there where a class isn't what its base is. hasattr() alone settles most: it is
    # the faster one.
    if hasattr(kind, "__await__"):
        return kind.__await__ is not None
    return is_generator_coroutine(response)


_CO_ITERABLE_COROUTINE = 0x100


def is_generator_coroutine(response: Any) -> bool:
    """Whether this is a generator that ``types.coroutine`` has made awaitable."""
    return type(response) is GeneratorType and bool(
        response.gi_code.co_flags & _CO_ITERABLE_COROUTINE
    )

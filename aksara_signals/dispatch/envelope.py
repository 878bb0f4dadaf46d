"""What is delivered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from aksara_signals.dispatch.connection import Connection
from aksara_signals.types import Sender

__all__ = ["NO_EXTRAS", "Delivery", "Failure", "Origin", "is_awaitable"]

NO_EXTRAS: Mapping[str, Any] = {}


class Origin(Protocol):
    """What a delivery comes from: a signal, or something that is delivered like one."""

    @property
    def display_name(self) -> str:
        """The name for messages."""
        ...


class Delivery:
    """One signal on its way from one sender to some receivers."""

    __slots__ = ("arguments", "concurrent", "extras", "sender", "sequential", "signal")

    def __init__(
        self,
        signal: Origin,
        sender: Sender,
        sequential: tuple[Connection, ...],
        arguments: dict[str, Any],
        concurrent: tuple[Connection, ...] = (),
        extras: Mapping[str, Any] = NO_EXTRAS,
    ) -> None:
        self.signal = signal
        self.sender = sender
        self.sequential = sequential
        self.concurrent = concurrent
        self.arguments = arguments
        """Everything that is sent, ``signal`` and ``sender`` included. Never changed."""
        self.extras = extras
        """On-demand arguments, for the receivers that name them."""


Failure = tuple[BaseException, Delivery, Connection]
"""An exception, and whom it came from while what was told."""


def is_awaitable(response: Any) -> bool:
    """Whether ``await response`` means something. Asks the type, as ``await`` itself does."""
    return hasattr(type(response), "__await__")

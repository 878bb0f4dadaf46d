"""What the transport over FastStream asks of an engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from aksara_signals.contrib.outbox.events import DurableEvent

GROUP = "aksara"
"""The consumers that share the messages, where an engine has groups of them."""


class Engine(ABC):
    """How events are published to an engine, and how subscribers take them from it.

    Args:
        broker: The broker of FastStream.
    """

    destination: str = "topic"
    """The argument of ``publish()`` that says where."""

    can_reject: bool = True
    """Whether a rejected message is not delivered again."""

    def __init__(self, broker: Any) -> None:
        self.broker: Any = broker

    async def connect(self) -> None:
        """Connect, unless that is done."""
        await self.broker.connect()

    async def stop(self) -> None:
        """Disconnect."""
        await self.broker.stop()

    async def publish(self, event: DurableEvent, destination: str, options: dict[str, Any]) -> None:
        """Publish an event, and return once the engine has it.

        Args:
            event: The event.
            destination: Where it goes.
            options: Arguments of ``publish()``.
        """
        await self.broker.publish(
            event.as_cloudevent(), **{**options, self.destination: destination}
        )

    @abstractmethod
    def subscriptions(
        self, destination: str, concurrency: int, options: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """The arguments of each ``subscriber()`` that takes events from a destination.

        Args:
            destination: Where they are.
            concurrency: How many are delivered at a time: 1 for those that are in order.
            options: More arguments, which take precedence.
        """

    async def take_place(self, message: Any) -> None:  # noqa: B027 - most engines see to that
        """Return when all messages before this one are done, if the engine doesn't see to that."""

    async def extend(self, message: Any) -> None:  # noqa: B027 - most engines wait
        """Inform the engine that a message is still being worked on."""

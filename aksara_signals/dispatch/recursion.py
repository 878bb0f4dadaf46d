"""The depth guard: receivers that cause one another without end are stopped and shown."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from aksara_signals.dispatch.identity import describe_receiver, describe_sender
from aksara_signals.exceptions import SignalRecursionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aksara_signals.dispatch.connection import Connection
    from aksara_signals.dispatch.envelope import Delivery

__all__ = [
    "MAX_DEPTH",
    "MAX_GENERATIONS",
    "Frame",
    "current_frame",
    "describe_key",
    "enter_frame",
    "recursion_error",
]

MAX_DEPTH = 50
"""How many deliveries may stand inside one another.

Far above what honest receivers need; low enough that the nested flushes of a synchronous session,
some twelve Python frames each, stay below Python's own limit of 1,000.
"""

MAX_GENERATIONS = 500
"""How many deliveries after a commit may have caused one another.

Each runs in a task of its own, so none stands on the stack of another; the number only stops what
has no end.
"""

current_frame: ContextVar[Frame | None] = ContextVar("aksara_signals_frame", default=None)
"""The delivery under way in this task, or the one that started this task."""

describe_key: list[Callable[[Any], str | None]] = []
"""Functions that give an instance's primary key in words, added by the layer that has keys."""


class Frame:
    """A delivery under way: where it stands, and which delivery it stands in.

    Args:
        parent: The delivery that causes this one.
        is_aside: Whether this one runs in a task of its own, off the stack of the other.
    """

    __slots__ = ("connection", "delivery", "depth", "generation", "parent")

    parent: Frame | None
    depth: int
    generation: int
    delivery: Delivery | None
    connection: Connection | None

    def __init__(self, parent: Frame | None, is_aside: bool = False) -> None:
        # A task started by a receiver inherits the frame of a delivery that may be over by now:
        # what it causes later is no recursion.
        while parent is not None and parent.delivery is None:
            parent = parent.parent
        self.parent = parent
        self.depth = 1 if parent is None or is_aside else parent.depth + 1
        self.generation = 0 if parent is None else parent.generation + is_aside
        self.delivery = None
        self.connection = None

    def chain(self) -> Iterator[Frame]:
        """This frame and those around it, innermost first."""
        frame: Frame | None = self
        while frame is not None:
            yield frame
            frame = frame.parent

    def describe(self) -> str:
        """Signal, class and key, and receiver."""
        if self.delivery is None:
            return "(over)"
        return describe_step(self.delivery, self.connection)


def enter_frame(is_aside: bool = False) -> Frame:
    """A frame for a delivery that starts now.

    Args:
        is_aside: As for :class:`Frame`.

    Raises:
        SignalRecursionError: Too many deliveries stand inside one another.
    """
    frame = Frame(current_frame.get(), is_aside)
    if frame.depth > MAX_DEPTH or frame.generation > MAX_GENERATIONS:
        raise recursion_error(
            f"{max(frame.depth, frame.generation) - 1} deliveries stand inside one another",
            [step.describe() for step in frame.chain() if step is not frame],
        )
    return frame


def recursion_error(problem: str, steps: list[str]) -> SignalRecursionError:
    """The error for receivers that cause one another.

    Args:
        problem: What was counted.
        steps: The chain, the innermost step first.
    """
    shown = steps[:8]
    if len(steps) > len(shown):
        shown.append(f"… and {len(steps) - len(shown)} more")
    chain = "\n  caused by ".join(shown)
    return SignalRecursionError(
        f"receivers cause one another without end: {problem}:\n  {chain}\n"
        f"Let a receiver write only where there is something to change, narrow it (created=True, "
        f"update_fields), or silence its own writes with SignalContext.disable_for()."
    )


def describe_step(delivery: Delivery, connection: Connection | None) -> str:
    """One step of a chain in words: never a column value but the primary key."""
    key = None
    instance = delivery.arguments.get("instance")
    if instance is not None:
        key = next((text for text in (each(instance) for each in describe_key) if text), None)
    who = describe_sender(delivery.sender) + (f" {key}" if key else "")
    to = "its receivers" if connection is None else describe_receiver(connection.receiver)
    return f"{delivery.signal.display_name} sent by {who} to {to}"

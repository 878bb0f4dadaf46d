"""Where the loops stand, and the depth guard.

Receivers may send signals whose receivers send signals. Each running loop has a frame, which refers
to the frame of the loop that it runs in, so that receivers that cause one another without end are
stopped, and the chain can be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from typing import Any

from aksara_signals.dispatch.adapter import get_adapter
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.delivery.delivery import Delivery
from aksara_signals.dispatch.receivers.naming import counted, describe_receiver, describe_sender
from aksara_signals.exceptions import SignalRecursionError

# -- limits: each stops what has no end -----------------------------------------------------------

MAX_DEPTH = 50
"""How many deliveries may be nested.

Far above what honest receivers need; low enough that the nested flushes of a synchronous session,
some twelve Python frames each, stay below Python's own limit of 1,000.
"""

MAX_GENERATIONS = 500
"""How many deliveries after a commit may have caused one another.

Each runs in a task of its own, so none stands on the stack of another.
"""

MAX_ROUNDS = 100
"""How often pre receivers may add something new to the flush that calls them."""


class Frame:
    """Where one call of a loop stands.

    A task that a receiver has started keeps the frame, in its copy of the context, for as long as
    the task lives. So the loop empties its frame at its end: what was sent must not live as long.

    Args:
        cause: The frame of the loop whose receiver called this loop, or started its task.
        in_own_task: Whether the loop runs in a task of its own, off the stack of its cause.
    """

    __slots__ = ("cause", "connection", "delivery", "in_own_task")

    def __init__(self, cause: Frame | None, in_own_task: bool) -> None:
        self.cause: Frame | None = cause
        self.in_own_task: bool = in_own_task
        self.delivery: Delivery | None = None
        """What is being delivered; None once the loop has ended."""
        self.connection: Connection | None = None
        """The connection whose receiver runs; None once the loop has ended."""

    def chain(self) -> Iterator[Frame]:
        """This frame and those around it, innermost first."""
        frame: Frame | None = self
        while frame is not None:
            yield frame
            frame = frame.cause


_current: ContextVar[Frame | None] = ContextVar("aksara_signals_frame", default=None)

# Bound once: where a name is imported, Python 3.11 makes a new bound method for each call.
get_current: Callable[[], Frame | None] = _current.get
"""The frame of the loop that called the receiver that runs, or the one that started this task."""
set_current: Callable[[Frame | None], Token[Frame | None]] = _current.set
reset_current: Callable[[Token[Frame | None]], None] = _current.reset


def cause_of(around: Frame | None, in_own_task: bool) -> Frame | None:
    """The frame that causes a loop which starts now.

    Args:
        around: The frame around it, or the one that started its task.
        in_own_task: Whether the new loop runs in a task of its own, off the stack of the other.

    Raises:
        SignalRecursionError: Too many deliveries are nested.
    """
    # A task started by a receiver inherits a frame whose loop may have ended: what the task sends
    # later is no recursion.
    while around is not None and around.connection is None:
        around = around.cause
    if around is None:
        return None
    depth = generation = 0
    is_stacked = not in_own_task
    for frame in around.chain():
        depth += is_stacked
        is_stacked = is_stacked and not frame.in_own_task
        generation += frame.in_own_task
    if depth >= MAX_DEPTH or generation + in_own_task > MAX_GENERATIONS:
        if depth >= MAX_DEPTH:
            problem = f"{counted(depth, 'delivery', 'deliveries')} are nested"
        else:
            problem = (
                f"{counted(generation, 'delivery', 'deliveries')} after the outcome of a "
                f"transaction caused one another"
            )
        raise recursion_error(
            problem,
            [
                describe_step(frame.delivery, frame.connection)
                for frame in around.chain()
                if frame.delivery is not None
            ],
        )
    return around


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


def key_of(instance: Any) -> str | None:
    """The primary key of an instance in words, if it has one."""
    return None if instance is None else get_adapter().key_of(instance)


def describe_step(delivery: Delivery, connection: Connection | None) -> str:
    """One step of a chain in words: never a column value but the primary key."""
    key = key_of(delivery.arguments.get("instance"))
    who = describe_sender(delivery.sender) + (f" {key}" if key else "")
    to = "its receivers" if connection is None else describe_receiver(connection.receiver)
    return f"{delivery.signal.display_name} sent by {who} to {to}"

"""Frames: what each running loop is delivering; and the limits that stop endless recursion.

A receiver may send a signal whose receiver sends another one, and so on. If two of them cause one
another, that never ends. So each running loop has a frame, which refers to the frame of the loop
that caused it. The length of this chain is limited, and the error shows the chain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from typing import Any

from aksara_signals.dispatch.adapter import get_adapter
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.delivery.delivery import AnyDelivery, Delivery, named
from aksara_signals.dispatch.receivers.naming import counted, describe_receiver, describe_sender
from aksara_signals.exceptions import SignalRecursionError

# -- limits: each stops something that would never end, or grow without end -----------------------

MAX_DEPTH = 50
"""How many deliveries may be nested. Stops receivers that send signals to one another.

Far above what sound receivers need, and low enough that the nested flushes of a synchronous
session, some twelve Python frames each, stay below Python's own limit of 1,000.
"""

MAX_GENERATIONS = 500
"""How many deliveries after a commit may have caused one another. Stops receivers that commit again
and again.

Each of these runs in a task of its own, so they don't add to one another's stack.
"""

MAX_ROUNDS = 100
"""How often pre receivers may add something new to the flush that calls them. Stops a flush that
never has everything it has to write."""

MAX_NOTES = 64
"""How many notes an exception may have. Stops the growth of an exception object that is raised
again and again: it keeps the latest notes.

Above ``MAX_DEPTH``, so that an exception that passes through nested deliveries keeps all notes.
"""


class Frame:
    """What one call of a loop is delivering.

    A task that a receiver has started keeps the frame alive, in its copy of the context, for as
    long as the task itself lives. The delivery must not live as long, so the loop empties its frame
    when it ends.

    It has no constructor, which would be a good part of what a send costs: each loop sets what is
    not as the class has it.
    """

    cause: Frame | None = None
    """The frame of the loop whose receiver called this loop, or started its task."""
    in_own_task: bool = False
    """Whether the loop runs in a task of its own, off the stack of its cause."""
    current: AnyDelivery | None = None
    """What is being delivered; None before the first delivery and once the loop has ended."""
    connection: Connection | None = None
    """The connection whose receiver runs; None before the first one and once the loop has ended."""

    @property
    def delivery(self) -> Delivery | None:
        """What is being delivered, with names for its fields."""
        return None if self.current is None else named(self.current)

    def chain(self) -> Iterator[Frame]:
        """This frame and those around it, innermost first."""
        frame: Frame | None = self
        while frame is not None:
            yield frame
            frame = frame.cause


_current: ContextVar[Frame | None] = ContextVar("aksara_signals_frame", default=None)

# Bound once: where a name is imported, Python 3.11 makes a new bound method for each call.
get_current: Callable[[], Frame | None] = _current.get
"""The frame of the loop that called the running receiver, or the receiver that started this task.
"""
set_current: Callable[[Frame | None], Token[Frame | None]] = _current.set
reset_current: Callable[[Token[Frame | None]], None] = _current.reset


def cause_of(around: Frame | None, in_own_task: bool) -> Frame | None:
    """The frame that is the cause of a loop which starts now, after a check of the limits.

    Args:
        around: The current frame: that of the loop around the new one, or of the one whose receiver
            started this task.
        in_own_task: Whether the new loop runs in a task of its own, off the stack of its cause.

    Returns:
        The innermost frame, from ``around`` outwards, whose loop hasn't ended; None if there is
        none.

    Raises:
        SignalRecursionError: Too many deliveries are nested, or after a commit have caused one
            another.
    """
    # A task that a receiver has started inherits the frame, also when the loop of the frame has
    # ended meanwhile. What the task sends then is not a recursion.
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
        problem: Which limit was exceeded, as a clause.
        steps: The chain in words, the innermost step first.
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
    """One step of a chain in words; of the columns, it shows the primary key only."""
    key = key_of(delivery.arguments.get("instance"))
    who = describe_sender(delivery.sender) + (f" {key}" if key else "")
    to = "its receivers" if connection is None else describe_receiver(connection.receiver)
    return f"{delivery.signal.display_name} sent by {who} to {to}"

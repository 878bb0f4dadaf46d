"""The depth guard: receivers that cause one another without end are stopped and shown."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

from aksara_signals.dispatch.adapter import get_adapter
from aksara_signals.dispatch.receivers.naming import counted, describe_receiver, describe_sender
from aksara_signals.exceptions import SignalRecursionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aksara_signals.dispatch.connections.connection import Connection
    from aksara_signals.dispatch.delivery.delivery import Delivery

__all__ = [
    "MAX_DEPTH",
    "MAX_GENERATIONS",
    "cause_of",
    "describe_step",
    "get_current",
    "key_of",
    "recursion_error",
    "reset_current",
    "set_current",
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

_current: ContextVar[Delivery | None] = ContextVar("aksara_signals_delivery", default=None)

# Bound once: where a name is imported, Python 3.11 makes a new bound method for each call.
get_current: Callable[[], Delivery | None] = _current.get
"""The delivery under way in this task, or the one that started this task."""
set_current: Callable[[Delivery | None], Token[Delivery | None]] = _current.set
reset_current: Callable[[Token[Delivery | None]], None] = _current.reset


def cause_of(around: Delivery | None, is_aside: bool) -> Delivery | None:
    """The delivery that causes one which starts now.

    Args:
        around: The one that stands around it, or that started its task.
        is_aside: Whether the new one runs in a task of its own, off the stack of the other.

    Raises:
        SignalRecursionError: Too many deliveries stand inside one another.
    """
    # A task started by a receiver inherits a delivery that may be over by now: what it causes
    # later is no recursion.
    while around is not None and around.connection is None:
        around = around.cause
    if around is None:
        return None
    depth = generation = 0
    is_stacked = not is_aside
    for each in around.chain():
        depth += is_stacked
        is_stacked = is_stacked and not each.is_aside
        generation += each.is_aside
    if depth >= MAX_DEPTH or generation + is_aside > MAX_GENERATIONS:
        if depth >= MAX_DEPTH:
            problem = f"{counted(depth, 'delivery', 'deliveries')} stand inside one another"
        else:
            problem = (
                f"{counted(generation, 'delivery', 'deliveries')} after the outcome of a "
                f"transaction caused one another"
            )
        raise recursion_error(
            problem, [describe_step(each, each.connection) for each in around.chain()]
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
    if instance is None:
        return None
    return get_adapter().key_of(instance)


def describe_step(delivery: Delivery, connection: Connection | None) -> str:
    """One step of a chain in words: never a column value but the primary key."""
    key = key_of(delivery.arguments.get("instance"))
    who = describe_sender(delivery.sender) + (f" {key}" if key else "")
    to = "its receivers" if connection is None else describe_receiver(connection.receiver)
    return f"{delivery.signal.display_name} sent by {who} to {to}"

"""What becomes of a receiver's exception."""

from __future__ import annotations

from aksara_signals.dispatch.connection import Connection
from aksara_signals.dispatch.envelope import Delivery, Failure
from aksara_signals.dispatch.recursion import describe_step
from aksara_signals.exceptions import SignalRecursionError

__all__ = ["judge", "log_error"]


def log_error(what: str, error: BaseException, delivery: Delivery, connection: Connection) -> None:
    """Log an exception with its traceback, and where it comes from."""
    import logging

    logger = logging.getLogger("aksara_signals")
    logger.error("%s: %s", what, describe_step(delivery, connection), exc_info=error)


def judge(
    error: BaseException,
    delivery: Delivery,
    connection: Connection,
    robust: bool,
    failures: list[Failure] | None = None,
) -> None:
    """Let an error be collected, or raise it with a note that says where it comes from."""
    from asyncio import CancelledError

    is_own = failures is not None and _is_own_cancellation(error)
    if robust and (isinstance(error, Exception) or is_own):
        log_error("a receiver failed", error, delivery, connection)
        if failures is not None:
            failures.append((error, delivery, connection))
        return
    if not isinstance(error, (CancelledError, GeneratorExit, SignalRecursionError)):
        error.add_note(f"while {describe_step(delivery, connection)}")
    raise error


def _is_own_cancellation(error: BaseException) -> bool:
    """Whether a receiver's ``CancelledError`` is of its own making: its task is not cancelled."""
    import asyncio

    if not isinstance(error, asyncio.CancelledError):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop in this thread
        return True
    return task is None or not task.cancelling()

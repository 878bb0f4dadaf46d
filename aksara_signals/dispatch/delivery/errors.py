"""Logs a receiver's exception, or annotates it before it is raised."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aksara_signals.dispatch.adapter import get_adapter
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.delivery.delivery import Delivery, Failure
from aksara_signals.dispatch.delivery.frame import MAX_NOTES, describe_step
from aksara_signals.exceptions import SignalRecursionError

if TYPE_CHECKING:
    from logging import Logger


def log_error(what: str, error: BaseException, delivery: Delivery, connection: Connection) -> None:
    """Log an exception with its traceback, and where it comes from."""
    import logging

    logger = logging.getLogger("aksara_signals")
    # As a tuple: logging tests the truth of an exception, and a user's may be false.
    exc_info = (type(error), error, error.__traceback__)
    step = describe_step(delivery, connection)
    write_log(logger, logging.ERROR, "%s: %s", what, step, exc_info=exc_info)


def write_log(logger: Logger, level: int, text: str, *values: object, **options: Any) -> None:
    """Log without raising: a logging handler that fails must not keep receivers from being called.

    What a handler or filter raises is printed to standard error, as :mod:`logging` does it for its
    own handlers, with the logged exception as its context.
    """
    try:
        logger.log(level, text, *values, **options)
    except Exception:
        import logging

        record = logging.makeLogRecord({"msg": text, "args": values})
        with suppress(Exception):  # standard error is broken too, so there is nowhere to report it
            logging.Handler().handleError(record)


_BEGINNING = "while "
"""How a note begins that says where an exception comes from."""


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception, once, if it accepts notes."""
    try:
        notes: Any = getattr(error, "__notes__", ())
        if note in notes:
            return
        error.add_note(note)
        if len(notes) > MAX_NOTES:
            notes.remove(next(each for each in notes if each.startswith(_BEGINNING)))
    except Exception:
        # The exception's class may reject notes, or store them in a tuple. It is more important
        # that the exception gets through; its traceback also shows where it comes from.
        return


def note_of(delivery: Delivery, connection: Connection) -> str:
    """The note of an exception that a receiver has raised."""
    return _BEGINNING + describe_step(delivery, connection)


def handle_error(
    error: BaseException,
    delivery: Delivery,
    connection: Connection,
    robust: bool,
    failures: list[Failure] | None = None,
    *,
    what: str = "a receiver failed",
) -> bool:
    """Log the error of a receiver, or add a note that says where it comes from.

    Args:
        error: What the receiver raised.
        delivery: What was delivered.
        connection: The connection of the receiver.
        robust: Whether an ``Exception`` is logged.
        failures: Takes what is logged. With it, so is a ``CancelledError`` that a receiver raises
            although its task isn't cancelled.
        what: What has failed, for the log.

    Returns:
        Whether the error was logged. If not, the caller must raise it. This function doesn't: the
        traceback would refer to its frame, whose argument is the error, and the cycle would keep
        the receiver's variables alive until the next garbage collection.
    """
    from asyncio import CancelledError

    advice = get_adapter().advice(error, connection)
    if advice is not None:
        add_note(error, advice)
    is_own = failures is not None and _is_own_cancellation(error)
    if robust and (isinstance(error, Exception) or is_own):
        log_error(what, error, delivery, connection)
        if failures is not None:
            failures.append(Failure(error, delivery, connection))
        return True
    if not isinstance(error, (CancelledError, GeneratorExit, SignalRecursionError)):
        add_note(error, note_of(delivery, connection))
    return False


def _is_own_cancellation(error: BaseException) -> bool:
    """Whether a receiver raised ``CancelledError`` itself: its task is not being cancelled."""
    import asyncio

    if not isinstance(error, asyncio.CancelledError):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop in this thread
        return True
    return task is None or not task.cancelling()


def raise_errors(errors: list[BaseException], whose: str) -> None:
    """Raise the errors of concurrent receivers: one as it is, several as a group.

    Args:
        errors: May be empty; then nothing is raised.
        whose: Completes the group's message, after "concurrent receivers".
    """
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup(f"{len(errors)} concurrent receivers {whose} failed", errors)

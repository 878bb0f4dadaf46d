"""What becomes of a receiver's exception."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aksara_signals.dispatch.adapter import get_adapter
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.delivery.delivery import Delivery, Failure
from aksara_signals.dispatch.delivery.frame import describe_step
from aksara_signals.exceptions import SignalRecursionError

if TYPE_CHECKING:
    from logging import Logger


def log_error(what: str, error: BaseException, delivery: Delivery, connection: Connection) -> None:
    """Log an exception with its traceback, and where it comes from."""
    import logging

    logger = logging.getLogger("aksara_signals")
    # As a tuple: logging asks an exception whether it is true, and some are not.
    exc_info = (type(error), error, error.__traceback__)
    step = describe_step(delivery, connection)
    write_log(logger, logging.ERROR, "%s: %s", what, step, exc_info=exc_info)


def write_log(logger: Logger, level: int, text: str, *values: object, **options: Any) -> None:
    """Log, whatever becomes of it: receivers must not be lost over a handler that raises.

    What a handler or filter raises is printed as :mod:`logging` prints what its own handlers fail
    over: to standard error, with what they failed over as its context.
    """
    try:
        logger.log(level, text, *values, **options)
    except Exception:
        import logging

        record = logging.makeLogRecord({"msg": text, "args": values})
        with suppress(Exception):  # standard error is broken, too: there is nowhere left to go
            logging.Handler().handleError(record)


MAX_NOTES = 64
"""How many notes an exception may have. More than deliveries may be nested, so that an exception
that passes through them keeps all their notes; one object that is raised again and again keeps the
latest."""

_BEGINNING = "while "


def add_note(error: BaseException, note: str) -> None:
    """Add a note, once; an exception that takes none goes without."""
    try:
        notes: Any = getattr(error, "__notes__", ())
        if note in notes:
            return
        error.add_note(note)
        if len(notes) > MAX_NOTES:
            notes.remove(next(each for each in notes if each.startswith(_BEGINNING)))
    except Exception:
        # A class may refuse notes, or keep them in a tuple. What its exception says matters more
        # than where it came from, which its traceback shows besides.
        return


def handle_error(
    error: BaseException,
    delivery: Delivery,
    connection: Connection,
    robust: bool,
    failures: list[Failure] | None = None,
    *,
    what: str = "a receiver failed",
) -> bool:
    """Log the error of a receiver, or give it a note that says where it comes from.

    Returns:
        Whether it was logged. If not, the caller raises it: a traceback that leads here would keep
        alive, through the argument, the error that holds the traceback, and all that the receiver
        had, until the next garbage collection.
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
        add_note(error, _BEGINNING + describe_step(delivery, connection))
    return False


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


def raise_errors(errors: list[BaseException], whose: str) -> None:
    """Raise the errors of concurrent receivers: one as itself, several as a group.

    Args:
        errors: May be empty.
        whose: Goes on after "concurrent receivers".
    """
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup(f"{len(errors)} concurrent receivers {whose} failed", errors)

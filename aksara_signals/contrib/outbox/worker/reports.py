"""How the failures of durable receivers are made known."""

from __future__ import annotations

import json
import logging
from typing import Any

from aksara_signals.contrib.outbox.message import Message
from aksara_signals.contrib.outbox.registry import ReceiverEntry, find_connection
from aksara_signals.contrib.outbox.rows.reading import Row
from aksara_signals.contrib.outbox.worker.error_texts import error_text, has_values, traceback_text
from aksara_signals.dispatch.after import on_delivery_error
from aksara_signals.dispatch.delivery.errors import write_log
from aksara_signals.failures import observers

logger: logging.Logger = logging.getLogger("aksara_signals.outbox")


def log(level: int, text: str, *values: object, error: BaseException | None = None) -> None:
    """Log without raising, with the traceback of an error, but without values of rows."""
    if error is None:
        write_log(logger, level, text, *values)
    elif has_values(error):
        # A traceback ends with the message, which has the parameters of the statement.
        write_log(logger, level, text + "\n%s", *values, traceback_text(error))
    else:
        exc_info = (type(error), error, error.__traceback__)
        write_log(logger, level, text, *values, exc_info=exc_info)


def describe_row(row: Message) -> str:
    """A row, or a message, in log messages."""
    key = row.payload.get("key")
    about = "" if key is None else f" {json.dumps(key)}"
    return f"{row.type} of {row.aggregatetype}{about}, id {row.id}"


def log_failure(row: Message, error: BaseException, delay_seconds: float, *, counts: bool) -> None:
    """Log that a call has failed, and will be repeated."""
    log(
        logging.WARNING,
        "durable receiver %s failed (%s); %s, again in %.3g seconds: %s",
        row.receiver,
        describe_row(row),
        f"attempt {row.attempts + 1}" if counts else "not counted as an attempt",
        delay_seconds,
        error_text(error),
        error=error,
    )


async def report_dead(row: Message, entry: ReceiverEntry | None, error: BaseException) -> None:
    """Make a dead letter known: in the log, and as other failures after a commit are."""
    log(
        logging.ERROR,
        "durable receiver %s has failed for good (%s)%s: %s",
        row.receiver,
        describe_row(row),
        "; see 'aksara-signals outbox dead'" if isinstance(row, Row) else "",
        error_text(error),
        error=error,
    )
    for observe in tuple(observers):
        observe(error)
    signal = connection = sender = None
    if entry is not None:
        signal, connection = find_connection(entry, row.type, row.aggregatetype)
        sender = connection.sender
    payload: dict[str, Any] = {"receiver": row.receiver, "id": row.id, "type": row.type}
    await on_delivery_error.send_robust(
        sender, error=error, connection=connection, failed_signal=signal, payload=payload
    )

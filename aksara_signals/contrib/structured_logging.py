"""One log record per receiver, with fields for machines.

::

    from aksara_signals.contrib.structured_logging import log_deliveries

    log_deliveries()

writes to the logger ``aksara_signals.deliveries``. Each record carries, as attributes and under
``extra``, ``signal``, ``sender``, ``receiver``, ``instance_key`` (the primary key or None),
``seconds`` and ``outcome`` (``ok`` or ``failed``); those of durable receivers also ``event_id`` and
``attempt``, which are None otherwise. ``provenance`` has the values of
:class:`~aksara_signals.provenance`. Never a column's value.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from aksara_signals.dispatch.delivery.errors import write_log
from aksara_signals.dispatch.delivery.tracing import (
    DeliveryStep,
    add_delivery_hook,
    remove_delivery_hook,
)
from aksara_signals.dispatch.receivers.identity import type_name
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import InvalidOptionError

__all__ = ["log_deliveries", "stop_logging_deliveries"]

logger: logging.Logger = logging.getLogger("aksara_signals.deliveries")


def log_deliveries(level: int | str = logging.INFO) -> None:
    """Log every receiver that is called, when it has returned or raised.

    Args:
        level: The level for receivers that returned, as a number or a name such as ``"DEBUG"``.
            Receivers that raised are logged as errors, without a traceback: the exception itself
            is raised or collected as usual.

    Raises:
        InvalidOptionError: The level is neither a number nor the name of one.
    """
    if isinstance(level, str):
        level = logging.getLevelNamesMapping().get(level.upper(), level)
    if type(level) is not int:
        raise InvalidOptionError(
            f"log_deliveries() was given the level {describe_sender(level)}; give a number or a "
            f"name of the logging module, such as logging.INFO"
        )
    stop_logging_deliveries()
    _current.append(_Log(level))
    add_delivery_hook(_current[0])


def stop_logging_deliveries() -> bool:
    """Undo :func:`log_deliveries`, and return whether it was on."""
    was_on = bool(_current)
    while _current:
        remove_delivery_hook(_current.pop())
    return was_on


class _Log:
    """The delivery hook."""

    def __init__(self, level: int) -> None:
        self._level = level

    @contextmanager
    def __call__(self, step: DeliveryStep) -> Iterator[None]:
        if step.is_send:
            yield
            return
        start = time.perf_counter()
        level, outcome, text = self._level, "ok", "ok"
        try:
            yield
        except BaseException as error:
            level, outcome = logging.ERROR, "failed"
            text = f"failed with {type_name(error)}"
            raise
        finally:
            fields = {
                "signal": step.signal_name,
                "sender": step.sender_name,
                "receiver": step.receiver_name,
                "instance_key": step.instance_key,
                "seconds": time.perf_counter() - start,
                "outcome": outcome,
                "event_id": None if step.event is None else str(step.event.id),
                "attempt": None if step.event is None else step.event.attempt,
                "provenance": step.provenance,
            }
            write_log(logger, level, "%r %s", step, text, extra=fields)


_current: list[_Log] = []

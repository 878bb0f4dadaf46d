"""A span per send and per receiver, and metrics of receivers, for OpenTelemetry.

::

    from aksara_signals.contrib.opentelemetry import instrument

    instrument()

Spans carry ``aksara.signal``, ``aksara.sender`` and, if there is one instance,
``aksara.instance.key`` (its primary key; never another column). Those of receivers also carry
``code.function.name``, ``code.file.path`` and ``code.line.number``. Errors are recorded on the
receiver's span and, if the send raises them, on the send's span. The metrics are
``aksara.receiver.duration`` (a histogram, in seconds) and ``aksara.receiver.failures`` (a counter).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from aksara_signals.dispatch.delivery.tracing import (
    DeliveryStep,
    add_delivery_hook,
    remove_delivery_hook,
)
from aksara_signals.dispatch.receivers.identity import type_name
from aksara_signals.dispatch.receivers.naming import receiver_place
from aksara_signals.types import Receiver

try:
    from opentelemetry import metrics, trace
except ImportError as _error:
    raise ImportError(
        "aksara_signals.contrib.opentelemetry needs the API of OpenTelemetry: "
        "pip install 'aksara-signals[opentelemetry]'"
    ) from _error

__all__ = ["instrument", "uninstrument"]

_NAME = "aksara_signals"


class _Instrumentation:
    """The delivery hook, with the tracer and the instruments that it writes to."""

    def __init__(self, tracer: trace.Tracer, meter: metrics.Meter) -> None:
        self._tracer = tracer
        self._duration = meter.create_histogram(
            "aksara.receiver.duration", unit="s", description="How long receivers run."
        )
        self._failures = meter.create_counter(
            "aksara.receiver.failures", unit="{failure}", description="Receivers that raised."
        )

    @contextmanager
    def __call__(self, step: DeliveryStep) -> Iterator[None]:
        dimensions = {"aksara.signal": step.signal_name, "aksara.sender": step.sender_name}
        attributes: dict[str, Any] = dict(dimensions)
        if step.instance_key is not None:
            attributes["aksara.instance.key"] = step.instance_key
        if step.connection is None:
            with self._tracer.start_as_current_span(
                f"{step.signal_name} send", attributes=attributes
            ):
                yield
            return
        code = _code_of(cast("Receiver", step.connection.receiver))  # not None: it is being called
        dimensions["code.function.name"] = code["code.function.name"]
        start = time.perf_counter()
        try:
            with self._tracer.start_as_current_span(
                f"{step.signal_name} receive", attributes={**attributes, **code}
            ):
                yield
        except BaseException as error:
            self._failures.add(1, {**dimensions, "error.type": type_name(error)})
            raise
        finally:
            self._duration.record(time.perf_counter() - start, dimensions)


def _code_of(receiver: Receiver) -> dict[str, Any]:
    """Where a receiver is defined, as attributes of OpenTelemetry's semantic conventions."""
    name, code = receiver_place(receiver)
    found: dict[str, Any] = {"code.function.name": name}
    if code is not None:
        found["code.file.path"] = code.co_filename
        found["code.line.number"] = code.co_firstlineno
    return found


_current: list[_Instrumentation] = []


def instrument(
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
) -> None:
    """Make spans and metrics of every delivery from now on; another call replaces the providers.

    Args:
        tracer_provider: By default, the global one.
        meter_provider: By default, the global one.
    """
    uninstrument()
    hook = _Instrumentation(
        trace.get_tracer(_NAME, tracer_provider=tracer_provider),
        metrics.get_meter(_NAME, meter_provider=meter_provider),
    )
    _current.append(hook)
    add_delivery_hook(hook)


def uninstrument() -> bool:
    """Undo :func:`instrument`, and return whether it was on."""
    was_on = bool(_current)
    while _current:
        remove_delivery_hook(_current.pop())
    return was_on

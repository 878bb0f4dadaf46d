"""A span per send and per receiver, and metrics of receivers, for OpenTelemetry.

::

    from aksara_signals.contrib.opentelemetry import instrument

    instrument()

Spans carry ``aksara.signal``, ``aksara.sender`` and, if there is one instance,
``aksara.instance.key`` (its primary key; never another column). Those of durable receivers carry
``aksara.event.id`` and ``aksara.event.attempt``. Those of receivers also carry
``code.function.name``, ``code.file.path`` and ``code.line.number``. The values of
:class:`~aksara_signals.provenance` are attributes by their names, such as
``aksara.provenance.actor``; lists and dicts are JSON as text, and None is left out.
Errors are recorded on the receiver's span and, if the send raises them, on the send's span. The
metrics are ``aksara.receiver.duration`` (a histogram, in seconds) and ``aksara.receiver.failures``
(a counter).

The trace of a send goes on in the worker that calls its durable receivers: the trace context and
the baggage are stored with each row, and the spans of the call are their children. A relay
publishes both with the event, so that the trace goes on in the consumer, too. A worker adds
the metrics ``aksara.outbox.duration`` and ``aksara.outbox.lag`` (histograms, in seconds), the
counters ``aksara.outbox.claimed``, ``.done``, ``.failed``, ``.dead``, ``.skipped``, ``.released``,
``.lost_leases`` and ``.crashes``, and the gauges ``aksara.outbox.pending``, ``.retrying``,
``.dead_letters``, ``.oldest_age`` (in seconds), ``.down`` (1 while the circuit breaker is open) and
``.unknown``; each by ``aksara.receiver``. A relay adds the same, about what it publishes. A
consumer adds ``aksara.outbox.duration``, ``.done``, ``.failed``, ``.dead``, ``.skipped`` and
``.repeated``, the messages that it has refused because they were delivered before. Give each kind
of process a ``service.name`` of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from aksara_signals.contrib.outbox.hooks import call_hooks, header_hooks, observers
from aksara_signals.dispatch.delivery.tracing import (
    DeliveryStep,
    add_delivery_hook,
    remove_delivery_hook,
)
from aksara_signals.dispatch.receivers.identity import type_name
from aksara_signals.dispatch.receivers.naming import receiver_place
from aksara_signals.types import Receiver

try:
    from opentelemetry import context, metrics, propagate, trace
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
        for name, value in step.provenance.items():
            if value is not None:
                attributes[f"aksara.provenance.{name}"] = _attribute(value)
        if step.connection is None:
            with self._tracer.start_as_current_span(
                f"{step.signal_name} send", attributes=attributes
            ):
                yield
            return
        if step.event is not None:
            attributes["aksara.event.id"] = str(step.event.id)
            attributes["aksara.event.attempt"] = step.event.attempt
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


_LARGEST = 2**63 - 1


def _attribute(value: Any) -> Any:
    """A JSON value as the value of an attribute, of which the integers have 64 bits."""
    is_long = type(value) is int and abs(value) > _LARGEST
    return json.dumps(value) if is_long or isinstance(value, (dict, list)) else value


def _code_of(receiver: Receiver) -> dict[str, Any]:
    """Where a receiver is defined, as attributes of OpenTelemetry's semantic conventions."""
    name, code = receiver_place(receiver)
    found: dict[str, Any] = {"code.function.name": name}
    if code is not None:
        found["code.file.path"] = code.co_filename
        found["code.line.number"] = code.co_firstlineno
    return found


class _OutboxInstruments:
    """Writes the measurements of the outbox to instruments, which are made at their first value."""

    def __init__(self, meter: metrics.Meter) -> None:
        self._meter = meter
        self._counters: dict[str, metrics.Counter] = {}
        self._gauges: dict[str, Any] = {}
        self._histograms = {
            name: meter.create_histogram(f"aksara.outbox.{name}", unit="s", description=text)
            for name, text in (
                ("duration", "How long durable receivers run."),
                ("lag", "The time from the write of a row to its call."),
            )
        }

    def __call__(self, name: str, receiver: str, value: float) -> None:
        dimensions = {"aksara.receiver": receiver}
        histogram = self._histograms.get(name.removesuffix("_seconds"))
        if histogram is not None:
            histogram.record(value, dimensions)
        elif name in _GAUGES:
            gauge = self._gauges.get(name)
            if gauge is None:
                unit, text = _GAUGES[name]
                gauge = self._gauges[name] = self._meter.create_gauge(
                    f"aksara.outbox.{name.removesuffix('_seconds')}", unit=unit, description=text
                )
            gauge.set(value, dimensions)
        else:
            counter = self._counters.get(name)
            if counter is None:
                counter = self._counters[name] = self._meter.create_counter(
                    f"aksara.outbox.{name}", unit="{row}"
                )
            counter.add(value, dimensions)


_GAUGES = {
    "pending": ("{row}", "Rows that are not done: fresh, leased or retrying."),
    "retrying": ("{row}", "Rows whose receiver has failed and is called again."),
    "dead_letters": ("{row}", "Rows that are given up."),
    "down": ("{receiver}", "Whether the circuit breaker of a receiver is open: 1 or 0."),
    "unknown": ("{row}", "Rows of a receiver that the worker doesn't know."),
    "oldest_age_seconds": ("s", "The age of the oldest row that is not done."),
}
"""Measurements that replace one another, with unit and description."""


@contextmanager
def _continued(headers: Mapping[str, str]) -> Iterator[None]:
    """Go on with the trace in which a row was written."""
    token = context.attach(propagate.extract(headers))
    try:
        yield
    finally:
        context.detach(token)


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
    meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
    hook = _Instrumentation(trace.get_tracer(_NAME, tracer_provider=tracer_provider), meter)
    _current.append(hook)
    add_delivery_hook(hook)
    header_hooks.append(propagate.inject)
    call_hooks.append(_continued)
    observers.append(_OutboxInstruments(meter))


def uninstrument() -> bool:
    """Undo :func:`instrument`, and return whether it was on."""
    was_on = bool(_current)
    while _current:
        remove_delivery_hook(_current.pop())
        header_hooks.remove(propagate.inject)
        call_hooks.remove(_continued)
    observers[:] = [each for each in observers if not isinstance(each, _OutboxInstruments)]
    return was_on

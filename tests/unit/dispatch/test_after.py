"""Delivery of an outcome: every receiver runs, whatever becomes of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from aksara_signals import (
    DeliveryStep,
    Signal,
    SignalRecursionError,
    add_delivery_hook,
    drain,
    on_delivery_error,
    remove_delivery_hook,
)
from aksara_signals.dispatch.after import deliver_outcome, deliver_outcome_sync
from aksara_signals.dispatch.delivery import frame
from aksara_signals.dispatch.delivery.delivery import NO_EXTRAS, Delivery
from aksara_signals.dispatch.delivery.frame import get_current


class Outcome:
    """A signal whose receivers wait, and what would be delivered to them."""

    def __init__(self) -> None:
        self.signal = Signal("happened")
        self.deliveries: list[Delivery] = []

    def connect(self, receiver: Any, **options: Any) -> Any:
        self.signal.connect(receiver, phase="after_commit", **options)
        connection = self.signal.connections[-1]
        arguments = {"signal": self.signal, "sender": int, "value": len(self.deliveries)}
        self.deliveries.append(Delivery(self.signal, int, (connection,), arguments))
        return receiver


@pytest.fixture
def outcome() -> Outcome:
    return Outcome()


@pytest.fixture
def reports() -> Iterator[list[dict[str, Any]]]:
    """What on_delivery_error sends, synchronously."""
    reports: list[dict[str, Any]] = []

    def observe(**payload: Any) -> None:
        reports.append(payload)

    on_delivery_error.connect(observe)
    yield reports
    on_delivery_error.disconnect(observe)


@pytest.fixture(params=["awaited", "synchronous"])
def deliver(request: pytest.FixtureRequest) -> Any:
    """Delivers in either way."""

    async def deliver(deliveries: list[Delivery]) -> None:
        if request.param == "awaited":
            await deliver_outcome(deliveries)
        else:
            deliver_outcome_sync(deliveries)

    return deliver


def fail(**kwargs: Any) -> None:
    raise LookupError("failed")


async def test_all_run_in_order_and_failures_are_reported_in_between(
    outcome: Outcome, reports: list[Any], deliver: Any
) -> None:
    """A failure is reported before the next receiver is called."""
    seen: list[Any] = []
    for _ in range(2):
        outcome.connect(lambda value, **kwargs: seen.append((value, len(reports))))
        outcome.connect(fail, dispatch_uid=str(_))
    await deliver(outcome.deliveries)
    assert seen == [(0, 0), (2, 1)]
    assert [(report["sender"], report["payload"]) for report in reports] == [
        (int, {"value": 1}),
        (int, {"value": 3}),
    ]
    assert {report["failed_signal"] for report in reports} == {outcome.signal}
    assert [report["connection"].receiver for report in reports] == [fail, fail]


async def test_what_was_delivered_is_released(
    outcome: Outcome, reports: list[Any], deliver: Any
) -> None:
    """By frames that live on in tasks, also of concurrent receivers and those with a time limit."""
    frames: list[Any] = []

    def look(**kwargs: Any) -> None:
        frames.append(get_current())

    outcome.connect(look)
    outcome.connect(fail)
    outcome.connect(look, dispatch_uid="concurrent", concurrent=True)
    outcome.connect(look, dispatch_uid="limited", timeout_seconds=60)
    await deliver(outcome.deliveries)
    assert len(frames) == 3
    assert all(each.delivery is each.connection is None for each in frames)
    assert all(each.extras is NO_EXTRAS for each in outcome.deliveries)


async def test_concurrent_ones_run_together_behind_the_others(
    outcome: Outcome, reports: list[Any]
) -> None:
    """And one that fails is reported, without an end of the others."""
    seen: list[str] = []
    both = asyncio.Event()

    async def first(**kwargs: Any) -> None:
        seen.append("first begins")
        await both.wait()
        seen.append("first ends")

    async def second(**kwargs: Any) -> None:
        seen.append("second")
        both.set()
        raise LookupError

    outcome.connect(first, concurrent=True)
    outcome.connect(second, concurrent=True)
    outcome.connect(lambda **kwargs: seen.append("sequential"))
    await deliver_outcome(outcome.deliveries)
    assert seen == ["sequential", "first begins", "second", "first ends"]
    assert [type(report["error"]) for report in reports] == [LookupError]


async def test_one_that_takes_too_long_is_cancelled_in_its_place(
    outcome: Outcome, reports: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The ones before and after it run once."""
    seen: list[int] = []

    async def hang(**kwargs: Any) -> None:
        await asyncio.sleep(60)

    outcome.connect(lambda value, **kwargs: seen.append(value))
    outcome.connect(hang, timeout_seconds=0.01)
    outcome.connect(lambda value, **kwargs: seen.append(value))
    await deliver_outcome(outcome.deliveries)
    assert seen == [0, 2]
    assert [type(report["error"]) for report in reports] == [TimeoutError]
    assert "a receiver was cancelled after 0.01 seconds: happened" in caplog.text


async def test_a_hook_that_raises_is_a_failure_of_its_receiver(
    outcome: Outcome, reports: list[Any], deliver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It keeps that receiver from its delivery, and no other."""
    seen: list[int] = []

    @contextmanager
    def refuse(step: DeliveryStep) -> Iterator[None]:
        if step.is_send and step.signal is outcome.signal and not seen:
            seen.append(-1)
            raise ZeroDivisionError
        yield

    for _ in range(2):
        outcome.connect(lambda value, **kwargs: seen.append(value))
    add_delivery_hook(refuse)
    try:
        await deliver(outcome.deliveries)
    finally:
        remove_delivery_hook(refuse)
    assert seen == [-1, 1]
    assert [type(report["error"]) for report in reports] == [ZeroDivisionError]
    assert "a delivery hook failed: happened" in caplog.text


async def test_a_hook_that_raises_around_the_report_is_logged(
    outcome: Outcome, reports: list[Any], deliver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The error can't be reported then; the other receivers run."""
    seen: list[int] = []

    @contextmanager
    def refuse(step: DeliveryStep) -> Iterator[None]:
        if step.signal is on_delivery_error:
            raise ZeroDivisionError
        yield

    outcome.connect(fail)
    outcome.connect(lambda value, **kwargs: seen.append(value))
    add_delivery_hook(refuse)
    try:
        await deliver(outcome.deliveries)
    finally:
        remove_delivery_hook(refuse)
    assert seen == [1]
    assert reports == []
    assert "a failure could not be reported: happened" in caplog.text


def test_deliveries_without_end_are_given_up(
    outcome: Outcome, reports: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The first one that isn't called any more is reported; the outer ones go on."""
    seen: list[int] = []

    def again(**kwargs: Any) -> None:
        seen.append(1)
        inner = [
            Delivery(outcome.signal, int, each.sequential, {"signal": outcome.signal})
            for each in outcome.deliveries
        ]
        deliver_outcome_sync(inner)

    outcome.connect(again)
    outcome.connect(lambda **kwargs: seen.append(2), created=None)
    deliver_outcome_sync([*outcome.deliveries[:1]])
    assert len([each for each in seen if each == 1]) == frame.MAX_DEPTH
    assert len([each for each in seen if each == 2]) == frame.MAX_DEPTH - 1
    assert [type(report["error"]) for report in reports] == [SignalRecursionError]
    assert "deferred receivers are not called any more" in caplog.text


async def test_drain_waits_no_longer_than_its_timeout(outcome: Outcome) -> None:
    """And says how many are still under way."""
    end = asyncio.Event()

    async def hang(**kwargs: Any) -> None:
        await end.wait()

    assert await drain() == 0
    outcome.connect(hang)
    task = asyncio.create_task(deliver_outcome(outcome.deliveries))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await drain(0) == 1
    assert await drain(0.01) == 1
    asyncio.get_running_loop().call_later(0.01, end.set)
    assert await drain(None) == 0
    assert await drain(-1) == 0
    await task


async def test_drain_in_a_receiver_doesnt_wait_for_itself(outcome: Outcome) -> None:
    """Its own delivery can't end before it does."""
    left: list[int] = []

    async def wait(**kwargs: Any) -> None:
        left.append(await drain(5))

    outcome.connect(wait)
    await deliver_outcome(outcome.deliveries)
    assert left == [0]


async def test_a_cancelled_caller_is_cancelled_at_the_end(outcome: Outcome) -> None:
    """However often it is cancelled; the receivers run to their ends."""
    seen: list[int] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(value: int, **kwargs: Any) -> None:
        begun.set()
        await go_on.wait()
        seen.append(value)

    outcome.connect(wait)
    outcome.connect(lambda value, **kwargs: seen.append(value))
    task = asyncio.create_task(deliver_outcome(outcome.deliveries))
    await begun.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0.01)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [0, 1]


async def test_a_delivery_that_the_event_loop_ends_is_no_success(outcome: Outcome) -> None:
    """As at the end of ``asyncio.run()``, which cancels every task: the caller gets the error."""
    begun = asyncio.Event()

    async def wait(**kwargs: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    outcome.connect(wait)
    before = asyncio.all_tasks()
    caller = asyncio.create_task(deliver_outcome(outcome.deliveries))
    await begun.wait()
    [delivering] = asyncio.all_tasks() - before - {caller}
    delivering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


def test_what_observers_are_sent_may_be_left_out() -> None:
    """By a test that sends it by hand: the failed signal and its payload are None then."""
    seen: list[Any] = []

    @on_delivery_error.connect
    def observe(error: Any, connection: Any, failed_signal: Any, payload: Any, **_: Any) -> None:
        seen.append((error, connection, failed_signal, payload))

    on_delivery_error.send_sync(int, error=1, connection=2)
    on_delivery_error.disconnect(observe)
    assert seen == [(1, 2, None, None)]

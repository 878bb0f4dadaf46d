"""How deep deliveries may stand inside one another, and what the error says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aksara_signals import Signal, SignalRecursionError
from aksara_signals.dispatch.after import deliver_outcome, drain
from aksara_signals.dispatch.delivery import frame
from aksara_signals.dispatch.delivery.delivery import Delivery


def deliveries_of(signal: Signal, **arguments: Any) -> list[Delivery]:
    """What a transaction's outcome would deliver."""
    return [
        Delivery(signal, None, (each,), {"signal": signal, "sender": None, **arguments})
        for each in signal.connections
    ]


def count_down(signal: Signal) -> Any:
    @signal.connect
    def receiver(left: int, **kwargs: Any) -> None:
        if left > 1:
            signal.send_sync(None, left=left - 1)

    return receiver


def test_as_deep_as_allowed() -> None:
    """The last one that is allowed is delivered, the next one is refused."""
    signal = Signal("deep", providing_args=["left"])
    count_down(signal)
    signal.send_sync(None, left=frame.MAX_DEPTH)
    with pytest.raises(SignalRecursionError, match=rf"{frame.MAX_DEPTH} deliveries are nested"):
        signal.send_sync(None, left=frame.MAX_DEPTH + 1)


async def test_as_deep_as_allowed_where_receivers_are_awaited() -> None:
    """The same for sends that are awaited."""
    signal = Signal("deep", providing_args=["left"])

    @signal.connect
    async def receiver(left: int, **kwargs: Any) -> None:
        if left > 1:
            await signal.send(None, left=left - 1)

    await signal.send(None, left=frame.MAX_DEPTH)
    with pytest.raises(SignalRecursionError):
        await signal.send(None, left=frame.MAX_DEPTH + 1)


async def test_as_many_generations_as_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliveries in tasks of their own are counted by themselves, and end at their own number."""
    monkeypatch.setattr(frame, "MAX_GENERATIONS", 60)  # more than may stand on one stack
    signal = Signal("outcome", providing_args=["left"])
    seen: list[int] = []

    @signal.connect
    async def receiver(left: int, **kwargs: Any) -> None:
        seen.append(left)
        if left > 1:
            await deliver_outcome(deliveries_of(signal, left=left - 1))

    await deliver_outcome(deliveries_of(signal, left=60))
    assert seen == list(range(60, 0, -1))
    seen.clear()
    await deliver_outcome(deliveries_of(signal, left=61))
    assert seen == list(range(61, 1, -1))  # the last one is reported instead


async def test_sends_inside_long_chains_stand_on_their_own_stack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A delivery of its own task may hold as many sends as any other one."""
    monkeypatch.setattr(frame, "MAX_DEPTH", 6)
    outcome = Signal("outcome", providing_args=["left"])
    inner = Signal("inner", providing_args=["left", "then"])
    seen: list[int] = []

    @outcome.connect
    async def start(left: int, **kwargs: Any) -> None:
        seen.append(left)
        if left > 1:
            await inner.send(None, left=5, then=left - 1)

    @inner.connect
    async def step(left: int, then: int, **kwargs: Any) -> None:
        if left > 1:
            await inner.send(None, left=left - 1, then=then)
        else:
            await deliver_outcome(deliveries_of(outcome, left=then))

    await deliver_outcome(deliveries_of(outcome, left=20))
    assert seen == list(range(20, 0, -1))
    monkeypatch.setattr(frame, "MAX_DEPTH", 5)
    seen.clear()
    await deliver_outcome(deliveries_of(outcome, left=20))
    assert seen == [20]


async def test_what_a_task_causes_later_is_no_recursion() -> None:
    """A delivery that is over doesn't count, though the task was started in it."""
    signal = Signal("later", providing_args=["left"])
    seen: list[int] = []
    tasks: list[asyncio.Task[Any]] = []

    async def send_later(left: int) -> None:
        await asyncio.sleep(0)
        await signal.send(None, left=left)

    @signal.connect
    async def receiver(left: int, **kwargs: Any) -> None:
        seen.append(left)
        if left:
            tasks.append(asyncio.create_task(send_later(left - 1)))

    await signal.send(None, left=3 * frame.MAX_DEPTH)
    while len(seen) <= 3 * frame.MAX_DEPTH:
        await asyncio.sleep(0)
    assert seen[-1] == 0
    await asyncio.gather(*tasks)
    assert await drain() == 0


def test_the_error_shows_the_innermost_steps() -> None:
    """Eight of them, innermost first, and how many more there are."""
    signal = Signal("deep", providing_args=["left"])
    count_down(signal)
    with pytest.raises(SignalRecursionError) as caught:
        signal.send_sync(None, left=frame.MAX_DEPTH + 1)
    lines = str(caught.value).splitlines()
    steps = [line for line in lines if "deep sent by" in line]
    assert len(steps) == 8
    assert steps[0].strip().startswith("deep sent by")
    assert all(line.strip().startswith("caused by deep sent by") for line in steps[1:])
    assert f"… and {frame.MAX_DEPTH - 8} more" in str(caught.value)
    short = str(frame.recursion_error("counted", [f"step {n}" for n in range(8)]))
    assert "step 7" in short
    assert "more" not in short

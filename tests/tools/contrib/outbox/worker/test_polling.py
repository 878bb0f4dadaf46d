"""When the next claim is due, and of how many rows, also while there is an outage elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from aksara_signals.contrib.outbox.worker import polling
from aksara_signals.contrib.outbox.worker.polling import Polling
from aksara_signals.contrib.outbox.worker.settings import Settings


class Found:
    """A row, as far as its receiver."""

    def __init__(self, receiver: str) -> None:
        self.receiver = receiver


def rows(**counts: int) -> Any:
    return [Found(name) for name, count in counts.items() for _ in range(count)]


class Clock:
    """The clock of an event loop, that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def polls(clock: Any) -> Polling:
    found = Polling(Settings(shortest_poll_seconds=1.0, longest_poll_seconds=4.0))
    found._loop = clock
    return found


async def test_claims_are_further_apart_while_nothing_is_found(clock: Clock) -> None:
    """Up to the longest interval; a row, or claim_now(), shortens it again."""
    plan = polls(clock)
    intervals = []
    for _ in range(5):
        plan.begin(["a"], 200)
        plan.end([])
        intervals.append(plan.due_at - clock.now)
    assert intervals == [1.0, 2.0, 4.0, 4.0, 4.0]
    plan.claim_now()
    assert plan.due_at == 0.0
    plan.begin(["a"], 200)
    plan.end(rows(a=1))
    assert plan.due_at - clock.now == 1.0


async def test_a_full_claim_is_followed_by_another_one(clock: Clock) -> None:
    """There may be more; and so after claim_now() in the middle of a claim."""
    plan = polls(clock)
    assert plan.begin(["a", "b"], 200) == {"a": 100, "b": 100}
    assert plan.end(rows(a=100)) == {"a": 100}
    assert plan.due_at == 0.0
    assert plan.begin(["a", "b"], 200) == {"a": 200, "b": 8}
    plan.claim_now()
    plan.end([])
    assert plan.due_at == 0.0


async def test_a_hold_lets_no_claim_be_due(clock: Clock) -> None:
    """Not even one that is asked for; and the next one is of a single row of each receiver."""
    plan = polls(clock)
    plan.begin(["a", "b"], 200)
    plan.end(rows(a=100))
    plan.hold(3.0)
    plan.claim_now()
    assert plan.due_at == clock.now + 3.0
    clock.now += 3.0
    assert plan.due_at <= clock.now
    assert plan.begin(["a", "b"], 200) == {"a": 1, "b": 1}


async def test_a_probe_is_given_time(clock: Clock) -> None:
    """Until it is known what becomes of it, or that takes too long, no other one is claimed."""
    plan = polls(clock)
    plan.hold(3.0)
    clock.now += 3.0
    plan.begin(["a"], 200)
    plan.end(rows(a=1))
    assert plan.due_at == clock.now + polling.PROBE_SECONDS
    clock.now += polling.PROBE_SECONDS
    assert plan.begin(["a"], 200) == {"a": 1}


async def test_a_hold_without_rows_polls_as_usual(clock: Clock) -> None:
    """A claim that finds nothing to probe with is repeated at the usual times."""
    plan = polls(clock)
    plan.hold(3.0)
    clock.now += 3.0
    plan.begin(["a"], 200)
    plan.end([])
    assert plan.due_at == clock.now + 1.0
    assert plan.begin(["a"], 200) == {"a": 1}


async def test_every_other_probe_is_of_fresh_rows(clock: Clock) -> None:
    """Those that have failed may be refused for ever."""
    plan = polls(clock)
    plan.begin(["a"], 200)
    assert not plan.prefers_fresh
    plan.end([])
    plan.hold(3.0)
    found = []
    for _ in range(4):
        plan.begin(["a"], 200)
        found.append(plan.prefers_fresh)
        plan.end(rows(a=1))
        plan.hold(3.0)
    assert found == [False, True, False, True]
    plan.go_on()
    plan.begin(["a"], 200)
    assert not plan.prefers_fresh


async def test_going_on_ends_a_hold(clock: Clock) -> None:
    """Claims are due as before, and of many rows."""
    plan = polls(clock)
    plan.hold(3.0)
    plan.go_on()
    assert plan.due_at <= clock.now
    assert plan.begin(["a"], 200) == {"a": 200}

"""Publishing: outages of a broker, messages that it refuses, and the order of lanes."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections import defaultdict, deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kit.outbox_workers import DONE, WAITING, World, connect, eventually

from aksara_signals.contrib.outbox import Durable, DurableEvent, hooks
from aksara_signals.contrib.outbox.relay import publishing
from aksara_signals.contrib.outbox.rows import claiming
from aksara_signals.contrib.outbox.worker.lanes import Leased

NOTES = Durable("test.notes", include=("text",))


class Broker:
    """Takes events, except while it is down, and except those that it refuses."""

    def __init__(self, *refused: str) -> None:
        self.refused = set(refused)
        self.is_down = False
        self.texts: list[str] = []
        """What it has taken."""
        self.failures: list[str] = []
        """What it has not."""

    async def __call__(self, event: DurableEvent) -> None:
        text = event.values["text"]
        await asyncio.sleep(0)
        if self.is_down or text in self.refused:
            self.failures.append(text)
            raise ConnectionRefusedError("no broker") if self.is_down else ValueError("too large")
        self.texts.append(text)


@pytest.fixture(autouse=True)
def connected() -> None:
    async def receiver(event: Any, **_: Any) -> None:
        raise AssertionError("a relay has called a receiver")

    connect(receiver, NOTES)


@pytest.fixture
def claimed() -> Iterator[list[float]]:
    """How many rows each claim has leased."""
    found: list[float] = []

    def observe(name: str, receiver: str, value: float) -> None:
        if name == "claimed":
            found.append(value)

    hooks.observers.append(observe)
    yield found
    hooks.observers.remove(observe)


@pytest.fixture
def publishings(monkeypatch: pytest.MonkeyPatch) -> list[publishing.Publishing]:
    """What handles the rows of the relays that run."""
    made: list[publishing.Publishing] = []

    class NotedPublishing(publishing.Publishing):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr("aksara_signals.contrib.outbox.relay.relay.Publishing", NotedPublishing)
    return made


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[float]]:
    """How long each row has to wait, after each of its failures."""
    found: dict[int, list[float]] = defaultdict(list)
    fail = claiming.fail

    def note(*positional: Any, **named: Any) -> bool:
        found[positional[3].seq].append(named["delay_seconds"])
        return fail(*positional, **named)

    monkeypatch.setattr(claiming, "fail", note)
    return found


async def is_done(world: World) -> bool:
    return set(await world.statuses()) == {DONE}


# -- outages ----------------------------------------------------------------------------------------


async def test_an_outage_of_the_broker_costs_nothing_but_time(
    world: World, claimed: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """It counts no attempt, is probed by single rows, is logged once, and ends with its cause."""
    broker = Broker()
    broker.is_down = True
    await world.write(*(str(number) for number in range(30)))
    relay = world.relay(broker)
    async with relay:
        await eventually(lambda: len(broker.failures) >= 33, 60)
        rows = await world.rows()
        assert {(row.status, row.attempts, row.crashes) for row in rows} == {(WAITING, 0, 0)}
        assert sum(row.last_error is not None for row in rows) >= 29  # one may be written just now
        assert {row.last_error for row in rows if row.last_error} == {
            "ConnectionRefusedError: no broker"
        }
        assert claimed[0] == 30
        assert set(claimed[1:]) == {1}
        broker.is_down = False
        await eventually(lambda: is_done(world), 60)
    assert sorted(broker.texts, key=int) == [str(number) for number in range(30)]
    assert {(row.attempts, row.last_error) for row in await world.rows()} == {(0, None)}
    complaints = [each for each in caplog.records if "counts no attempt" in each.message]
    assert len(complaints) == 1
    assert "no broker" in complaints[0].message
    assert relay.name in complaints[0].message
    health = relay.health()
    assert (health["dead"], health["done"]) == (0, 30)
    assert health["failed"] >= 33


async def test_in_an_outage_queued_rows_are_given_back(async_world: World) -> None:
    """Another relay may have more luck with them."""
    down, up = Broker(), Broker()
    down.is_down = True
    await async_world.write(*(str(number) for number in range(20)))
    relay = async_world.relay(down, concurrency=2)
    async with relay:
        await eventually(lambda: relay.health()["released"] >= 10)
        async with async_world.relay(up):
            await eventually(lambda: len(up.texts) >= 15, 30)
    assert down.texts == []
    assert len(set(up.texts)) == len(up.texts)


async def test_probes_are_further_and_further_apart(async_world: World, publishings: Any) -> None:
    """Each is twice as long after the one before, up to a limit; failures at once are one."""
    await async_world.write("0")
    await async_world.relay(Broker()).run_until_idle()
    [handler], clock, holds = publishings, StillClock(), []
    handler._loop = clock
    handler._desk = SimpleNamespace(hold=holds.append)
    for _ in range(9):
        handler._hold()
        clock.now += holds[-1] / 4
        handler._hold()
        clock.now += holds[-1]
    assert holds[::2] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert holds[1::2] == pytest.approx([seconds * 3 / 4 for seconds in holds[::2]])


class StillClock:
    """Stands still, as the clock of an event loop."""

    now = 1000.0

    def time(self) -> float:
        return self.now


# -- messages that a broker refuses -----------------------------------------------------------------


async def test_a_refused_message_holds_up_only_its_own_lane(
    world: World, delays: dict[int, list[float]]
) -> None:
    """The others flow; it is tried again after delays that double, and never dies."""
    broker = Broker("refused")
    [key] = await world.write("refused")
    await world.edit(key, "behind it")
    sent = 0
    async with world.relay(broker):
        for number in range(1, 5):
            await eventually(lambda number=number: len(broker.failures) >= number, 30)
            await world.write(f"beside {number}")
            sent += 1
            await eventually(lambda: len(broker.texts) == sent, 30)
            await eventually(lambda number=number: len(delays[1]) >= number)
            await world.due_now()
        assert delays[1][:4] == [1.0, 2.0, 4.0, 8.0]
        assert broker.texts == [f"beside {number}" for number in range(1, 5)]
        first, second, *_ = await world.rows()
        assert (first.status, first.attempts, first.last_error) == (
            WAITING,
            0,
            "ValueError: too large",
        )
        assert second.status == WAITING
        broker.refused.clear()

        async def is_over() -> bool:
            await world.due_now()
            return await is_done(world)

        await eventually(is_over, 30)
    assert broker.texts[4:] == ["refused", "behind it"]


async def test_delays_have_a_limit(async_world: World, publishings: Any) -> None:
    """A message is tried every few minutes at least, after how many failures ever."""
    await async_world.write("0")
    await async_world.relay(Broker()).run_until_idle()
    [row] = await async_world.leased()
    found = [publishings[0]._delay_seconds(row) for _ in range(2000)]
    assert found[:10] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0]
    assert set(found[9:]) == {300.0}


async def test_many_refused_messages_are_not_all_remembered(
    async_world: World, publishings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a number, all begin again with short delays: it isn't memory that suffers."""
    monkeypatch.setattr(publishing, "_MOST_REMEMBERED", 3)
    await async_world.write("0")
    await async_world.relay(Broker()).run_until_idle()
    [row] = await async_world.leased()
    seqs = (1, 1, 2, 1, 3, 1, 1)
    found = [publishings[0]._delay_seconds(dataclasses.replace(row, seq=seq)) for seq in seqs]
    assert found == [1.0, 2.0, 1.0, 4.0, 1.0, 1.0, 2.0]


async def test_several_refused_messages_are_not_the_only_probes(
    async_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though they are all that was there for a while, and look like an outage."""
    monkeypatch.setattr(publishing, "LONGEST_HOLD_SECONDS", 0.2)
    broker = Broker("a", "b", "c")
    await async_world.write("a", "b", "c")
    async with async_world.relay(broker):
        await eventually(lambda: len(broker.failures) >= 12, 60)
        await async_world.write("good")
        await eventually(lambda: broker.texts == ["good"], 60)


async def test_a_publish_that_raises_a_cancellation_has_failed(async_world: World) -> None:
    """As if it had raised anything else: nobody has cancelled the relay."""
    tries: list[str] = []

    async def publish(event: DurableEvent) -> None:
        tries.append(event.values["text"])
        if len(tries) == 1:
            raise asyncio.CancelledError

    await async_world.write("0")
    async with async_world.relay(publish) as relay:
        await eventually(lambda: relay.health()["failed"] == 1)
        await async_world.due_now()
        await eventually(lambda: is_done(async_world))
    assert tries == ["0", "0"]


# -- order ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
async def test_several_relays_keep_the_order_of_each_object(
    world: World, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails, before or after the broker has taken it: in order, with repeats of the last."""
    monkeypatch.setattr(publishing, "LONGEST_DELAY_SECONDS", 0.02)
    monkeypatch.setattr(publishing, "LONGEST_HOLD_SECONDS", 0.02)
    luck = random.Random(seed)
    taken: dict[int, list[str]] = defaultdict(list)
    running: set[int] = set()
    failures = 0

    async def publish(event: DurableEvent) -> None:
        nonlocal failures
        [key] = event.key
        assert key not in running, "two events of one object at once"
        running.add(key)
        try:
            await asyncio.sleep(luck.random() / 100)
            fate = luck.random()
            if fate >= 0.15:
                taken[key].append(event.values["text"])
            if fate < 0.3:
                failures += 1
                raise ConnectionResetError
        finally:
            running.discard(key)

    keys = await world.write(*["0"] * 6)
    relays = [world.relay(publish, batch_size=8) for _ in range(3)]
    runs = [asyncio.create_task(relay.run()) for relay in relays]
    for number in range(1, 9):
        for key in keys:
            await world.edit(key, str(number))
    await eventually(lambda: is_done(world), 60)
    for relay in relays:
        relay.stop()
    await asyncio.gather(*runs)
    assert failures > 0
    assert taken.keys() == set(keys)
    for texts in taken.values():
        once = [text for place, text in enumerate(texts) if texts[place - 1 : place] != [text]]
        assert once == list("012345678")
    assert {(row.attempts, row.crashes) for row in await world.rows()} == {(0, 0)}


# -- the end of the process -------------------------------------------------------------------------


async def test_an_exit_is_no_failure_of_the_broker(async_world: World, publishings: Any) -> None:
    """SystemExit ends the process; the row's lease runs out, or is given back."""
    exits: list[bool] = []

    async def publish(event: DurableEvent) -> None:
        if exits:
            raise SystemExit(7)

    await async_world.write("0")
    relay = async_world.relay(publish)
    await relay.run_until_idle()
    exits.append(True)
    [row] = await async_world.leased()
    with pytest.raises(SystemExit):
        await publishings[0].handle(Leased(row, 0.0), deque())
    assert relay.health()["failed"] == 0

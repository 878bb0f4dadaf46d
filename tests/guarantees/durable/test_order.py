"""Order, under failures at random: what has succeeded of one row has succeeded in order."""

from __future__ import annotations

import random
from collections import defaultdict
from contextlib import AsyncExitStack
from typing import Any

import pytest
from kit.effort import IS_ORDINARY, times
from kit.outbox_workers import DONE, Effect, World, connect, eventually

from aksara_signals.contrib.outbox import Durable, DurableEvent, Retry

LANES, STEPS = 20, 6
ALWAYS = Retry(attempts=10_000, first_seconds=0.01, longest_seconds=0.03)


@pytest.mark.parametrize("seed", range(times(1)))
async def test_four_workers_twenty_lanes_and_failures(world: World, seed: int) -> None:
    """Whichever calls fail, before or after their effect, each lane succeeds once each, in order."""
    chance = random.Random(seed if IS_ORDINARY else None)
    sent: dict[int, list[str]] = defaultdict(list)

    def fail_perhaps() -> None:
        if chance.random() < 0.2:
            raise RuntimeError

    async def count(event: DurableEvent, session: Any, **kwargs: Any) -> None:
        fail_perhaps()
        session.add(Effect(note_id=event.key[0], by=event.values["text"]))
        await session.flush()
        fail_perhaps()

    async def send(event: DurableEvent, **kwargs: Any) -> None:
        fail_perhaps()
        sent[event.key[0]].append(event.values["text"])

    for receiver, name in (count, "order.count"), (send, "order.send"):
        connect(receiver, Durable(name, include=("text",), retry=ALWAYS))
    async with AsyncExitStack() as workers:
        for _ in range(4):
            await workers.enter_async_context(world.worker(batch_size=10, concurrency=4))
        keys = await world.write(*["0"] * LANES)
        for step in range(1, STEPS):
            for key in chance.sample(keys, LANES):
                await world.edit(key, str(step))

        async def is_done() -> bool:
            return set(await world.statuses()) == {DONE}

        await eventually(is_done, 60)
    counted: dict[int, list[str]] = defaultdict(list)
    for key, step in await world.effects():
        counted[key].append(step)
    expected = {key: [str(step) for step in range(STEPS)] for key in keys}
    assert expected == counted
    assert expected == sent
    assert any(row.attempts for row in await world.rows())

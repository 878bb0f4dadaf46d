"""Workers and writers that are killed while everything is written and delivered."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from kit.durable import drained
from kit.durable.programs import Program, Programs
from kit.durable.verdict import changes, effects_of, judge, shipped, stale
from kit.effort import FIGURES, IS_ORDINARY, times
from sqlalchemy import Engine

pytestmark = pytest.mark.slow

KILLS = times(20)
WRITERS_KILLED = times(3)


def test_nothing_is_lost_made_up_or_delivered_twice(
    shop_engine: Engine,
    shop_programs: Programs,
    record_property: Callable[[str, object], None],
) -> None:
    """Each committed change reaches each receiver, once with ``session``, in order, and no other does."""
    seed = 15 if IS_ORDINARY else random.randrange(2**32)
    chance = random.Random(seed)
    dialect = shop_engine.dialect.name
    start = time.monotonic()

    def start_worker(number: int) -> Program:
        # One of two works with plain sessions, in threads.
        return shop_programs.worker(is_sync=number % 2 == 1, batch_size=20)

    def start_writer(number: int) -> Program:
        return shop_programs.writer(chance.randrange(2**32), is_sync=number % 2 == 1, pause=0.07)

    workers = [start_worker(number) for number in range(2)]
    writers = [start_writer(number) for number in range(2)]
    for kill in range(KILLS):
        number = kill % 2
        workers[number].wait_until_ready()
        time.sleep(chance.uniform(0, 0.5))  # what is being done then is left to chance
        workers[number].kill()
        workers[number] = start_worker(number)
        if kill % (KILLS // WRITERS_KILLED) == 1:
            writers[number].kill()
            writers[number] = start_writer(number)
    for writer in writers:
        writer.wait_until_ready()
        assert writer.end() == 0, writer.output
    requeued = drained.wait_until_drained(shop_engine)
    took = time.monotonic() - start
    assert shop_programs.end_all() == []
    committed = changes(shop_engine)
    again = {row.payload["values"]["mark"] for row in requeued}
    counted = judge("with session", committed, effects_of(shop_engine, "shop.count"), again)
    sent = judge("without session", committed, shipped(shop_programs.folder), again)
    record_property(
        FIGURES,
        f"{dialect}: {KILLS} workers and {WRITERS_KILLED} writers killed in {took:.0f} s "
        f"(seed {seed}), {len(requeued)} rows requeued after three crashes"
        f"\n  {counted}\n  {sent}",
    )
    assert counted.committed > 5 * KILLS, "too little was written to say anything"
    assert counted.wrong == sent.wrong == (0, 0, ())
    assert counted.double == 0
    assert stale(shop_engine) == 0
    indexed = [fact.mark for fact in effects_of(shop_engine, "shop.index")]
    assert len(indexed) == len(set(indexed))

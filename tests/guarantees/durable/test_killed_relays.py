"""Relays, consumers and a broker that are killed while everything is written and delivered."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from kit.brokers import NatsServer
from kit.durable import drained
from kit.durable.programs import Program, Programs
from kit.durable.verdict import changes, effects_of, judge, shipped, stale
from kit.effort import FIGURES, IS_ORDINARY, times
from sqlalchemy import Engine

pytestmark = pytest.mark.slow

ROUNDS = times(7)
KILLS = 3 * ROUNDS  # of a relay, a consumer and the broker in each


def test_nothing_is_lost_made_up_or_received_twice(
    shop_engine: Engine,
    shop_programs: Programs,
    nats: NatsServer,
    record_property: Callable[[str, object], None],
) -> None:
    """Each committed change is received, once with ``session``, in order, whatever is killed."""
    seed = 16 if IS_ORDINARY else random.randrange(2**32)
    chance = random.Random(seed)
    dialect = shop_engine.dialect.name
    start = time.monotonic()

    def start_writer(number: int) -> Program:
        return shop_programs.writer(chance.randrange(2**32), is_sync=number % 2 == 1, pause=0.1)

    def kill_broker() -> None:
        nats.kill()
        time.sleep(chance.uniform(0, 0.5))
        nats.start()

    def kill_one(programs: list[Program], start: Callable[..., Program]) -> None:
        number = chance.randrange(2)
        programs[number].wait_until_ready()
        time.sleep(chance.uniform(0, 0.5))  # what is being done then is left to chance
        programs[number].kill()
        # One of two works with plain sessions, in threads.
        programs[number] = start(is_sync=number % 2 == 1)

    consumers = [shop_programs.consumer(is_sync=number == 1) for number in range(2)]
    relays = [shop_programs.relay(is_sync=number == 1) for number in range(2)]
    writers = [start_writer(number) for number in range(2)]
    for number in range(ROUNDS):
        kill_one(relays, shop_programs.relay)
        kill_one(consumers, shop_programs.consumer)
        for consumer in consumers:  # they can't start without a broker
            consumer.wait_until_ready()
        kill_broker()
        if number % 2:
            one = number // 2 % 2
            writers[one].kill()
            writers[one] = start_writer(one)
    for writer in writers:
        writer.wait_until_ready()
        assert writer.end() == 0, writer.output
    drained.wait_until_received(shop_engine, nats)
    took = time.monotonic() - start
    assert shop_programs.end_all() == []
    committed = changes(shop_engine)
    counted = judge("with session", committed, effects_of(shop_engine, "shop.count"))
    sent = judge("without session", committed, shipped(shop_programs.folder))
    record_property(
        FIGURES,
        f"{dialect}: {ROUNDS} relays, consumers and brokers each, and {ROUNDS // 2} writers, "
        f"killed in {took:.0f} s (seed {seed})\n  {counted}\n  {sent}",
    )
    assert counted.committed > 5 * KILLS, "too little was written to say anything"
    assert counted.wrong == sent.wrong == (0, 0, ())
    assert counted.double == 0
    assert stale(shop_engine) == 0
    indexed = [fact.mark for fact in effects_of(shop_engine, "shop.index")]
    assert len(indexed) == len(set(indexed))

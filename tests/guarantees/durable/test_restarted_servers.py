"""A server that is restarted while the application writes and workers deliver."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest
from kit import databases
from kit.durable import drained
from kit.durable.programs import Programs
from kit.durable.verdict import changes, effects_of, judge, shipped
from kit.effort import times
from sqlalchemy import Engine


@pytest.fixture(scope="module")
def restartable() -> Iterator[databases.RestartableServer]:
    with databases.restartable_server() as server:
        yield server


@pytest.fixture
def database(restartable: databases.RestartableServer) -> Iterator[databases.Database]:
    with databases.postgresql_database(restartable.url) as found:
        yield found


def test_the_server_is_restarted(
    shop_engine: Engine,
    shop_programs: Programs,
    restartable: databases.RestartableServer,
) -> None:
    """Nothing is lost, made up or delivered twice; workers go on by themselves."""
    chance = random.Random(15)
    workers = [shop_programs.worker(is_sync=is_sync) for is_sync in (False, True)]
    writers = [shop_programs.writer(seed, is_sync=seed == 1, is_tolerant=True) for seed in range(2)]
    for each in [*workers, *writers]:
        each.wait_until_ready()
    modes = ["fast", "immediate"] * times(1)
    for mode in modes:
        time.sleep(chance.uniform(0.2, 0.6))  # what is being done then is left to chance
        restartable.restart(mode)
    time.sleep(0.3)
    for writer in writers:
        assert writer.end() == 0, writer.output
    shop_engine.dispose()
    requeued = drained.wait_until_drained(shop_engine)
    assert all(each.is_running() for each in workers)
    assert shop_programs.end_all() == []
    again = {row.payload["values"]["mark"] for row in requeued}
    committed = changes(shop_engine)
    counted = judge("with session", committed, effects_of(shop_engine, "shop.count"), again)
    sent = judge("without session", committed, shipped(shop_programs.folder), again)
    assert counted.wrong == sent.wrong == (0, 0, ())
    assert counted.double == 0
    # An outage of the database is no failure of a receiver, as long as the worker notices it.
    assert max(row.attempts for row in drained.rows(shop_engine)) <= len(modes)

"""Many writers of one SQLite file."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit.databases import Database, sqlite_database
from kit.durable import drained
from kit.durable.programs import Programs, wait_until
from kit.durable.verdict import changes, effects_of, judge, shipped
from kit.effort import times
from sqlalchemy import Engine


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """The file alone: PostgreSQL's writers don't wait for each other."""
    return sqlite_database(tmp_path)


def test_four_writers_and_two_workers(shop_engine: Engine, shop_programs: Programs) -> None:
    """Nobody fails because the file is locked, and nothing is lost or delivered twice."""
    writers = [shop_programs.writer(seed, pause=0.05, is_sync=seed % 2 == 0) for seed in range(4)]
    workers = [shop_programs.worker(is_sync=is_sync, lease_seconds=30) for is_sync in (False, True)]
    wait_until(lambda: len(changes(shop_engine)) > times(150), "they have written", every=0.2)
    for each in [*writers, *workers]:
        each.wait_until_ready()
    for writer in writers:
        assert writer.end() == 0, writer.output
    drained.wait_until_drained(shop_engine)
    assert shop_programs.end_all() == []
    assert not any(word in each.output for each in workers for word in ("WARNING", "ERROR"))
    for receiver, effects in (
        ("with session", effects_of(shop_engine, "shop.count")),
        ("without session", shipped(shop_programs.folder)),
    ):
        verdict = judge(receiver, changes(shop_engine), effects)
        assert verdict.wrong == (0, 0, ())
        assert verdict.double == 0
    assert not any(row.attempts or row.crashes for row in drained.rows(shop_engine))

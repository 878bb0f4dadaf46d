"""Workers that are asked to end, or killed, while a receiver runs, and those that take over."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from kit.durable import drained
from kit.durable.programs import Program, Programs, wait_until
from kit.durable.verdict import Fact, effects_of
from sqlalchemy import Engine

MODULES = ("kit.durable.slow",)


@pytest.fixture
def hold(shop_programs: Programs) -> Path:
    """While this file is there, the receiver goes on."""
    file = shop_programs.folder / "hold"
    file.touch()
    return file


def has_called(worker: Program) -> bool:
    return (worker.ready_file.parent / f"called-{worker.pid}").exists()


def start(shop_programs: Programs, wares: int = 1, **options: object) -> Program:
    """A worker that is in the middle of the receiver."""
    marks = [f"ware-{number}" for number in range(wares)]
    assert shop_programs.run("kit.durable.save", *marks, modules=MODULES).wait() == 0
    worker = shop_programs.worker(modules=MODULES, **options)
    wait_until(lambda: has_called(worker), "the receiver is called")
    return worker


def at_most(seconds: float) -> float:
    """A limit for a machine that has nothing else to do, in terms of this one."""
    return seconds * max(1.0, 2 * os.getloadavg()[0] / (os.cpu_count() or 1))


def effects(engine: Engine) -> list[Fact]:
    return effects_of(engine, "shop.slow")


def test_a_worker_is_asked_to_end_and_another_takes_over(
    shop_engine: Engine, shop_programs: Programs, hold: Path
) -> None:
    """A receiver that exceeds the grace is undone, and called by another worker within a second."""
    first = start(shop_programs, lease_seconds=60, grace_seconds=0.2)
    second = shop_programs.worker(modules=MODULES, lease_seconds=60)
    second.wait_until_ready()
    first.send()
    assert first.wait() == 0, first.output
    took = wait_until(lambda: has_called(second), "the receiver is called again")
    assert took < at_most(1)
    hold.unlink()
    drained.wait_until_drained(shop_engine)
    assert [fact.kind for fact in effects(shop_engine)] == [str(second.pid)]
    (row,) = drained.rows(shop_engine)
    assert (row.attempts, row.crashes) == (0, 0)
    assert shop_programs.end_all() == []


def test_a_worker_is_asked_to_end_and_its_receiver_finishes(
    shop_engine: Engine, shop_programs: Programs, hold: Path
) -> None:
    """Within the grace a receiver finishes, and rows that were only claimed are another's at once."""
    first = start(shop_programs, wares=5, lease_seconds=60, concurrency=1)
    second = shop_programs.worker(modules=MODULES, lease_seconds=60)
    second.wait_until_ready()
    first.send()
    assert wait_until(lambda: has_called(second), "the others are called") < at_most(1)
    assert first.is_running()
    hold.unlink()
    assert first.wait() == 0, first.output
    drained.wait_until_drained(shop_engine)
    assert sorted(fact.mark for fact in effects(shop_engine)) == [f"ware-{n}" for n in range(5)]
    assert [fact.mark for fact in effects(shop_engine) if fact.kind == str(first.pid)] == ["ware-0"]
    assert not any(row.attempts or row.crashes for row in drained.rows(shop_engine))
    assert shop_programs.end_all() == []


def test_a_killed_worker_is_replaced_when_its_lease_is_over(
    shop_engine: Engine, shop_programs: Programs, hold: Path
) -> None:
    """What a killed worker had leased comes after at most one lease, and counts as a crash."""
    first = start(shop_programs)
    second = shop_programs.worker(modules=MODULES)
    second.wait_until_ready()
    first.send(signal.SIGKILL)
    hold.unlink()
    assert drained.wait_until_drained(shop_engine) == []
    first.wait()
    assert [fact.kind for fact in effects(shop_engine)] == [str(second.pid)]
    (row,) = drained.rows(shop_engine)
    assert (row.attempts, row.crashes) == (0, 1)
    assert shop_programs.end_all() == []


def test_a_server_forks_after_it_has_made_its_worker(
    shop_engine: Engine, shop_programs: Programs
) -> None:
    """Processes with a worker made before they were forked are two workers, with different names."""
    marks = [f"ware-{number}" for number in range(40)]
    assert shop_programs.run("kit.durable.save", *marks, modules=MODULES).wait() == 0
    options = '{"batch_size": 5, "concurrency": 2, "longest_poll_seconds": 0.1}'
    ready = str(shop_programs.folder / "forked")
    server = shop_programs.run("kit.durable.forked", options, ready, modules=MODULES)
    drained.wait_until_drained(shop_engine)
    wait_until(lambda: Path(ready).exists(), "the server has forked")
    assert server.end() == 0, server.output
    names = [line.split()[1] for line in server.output.splitlines() if line.startswith("worker")]
    assert len(set(names)) == 2
    assert sorted(fact.mark for fact in effects(shop_engine)) == sorted(marks)

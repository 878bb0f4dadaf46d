"""A row that ends every worker that calls its receiver."""

from __future__ import annotations

from collections import Counter

from kit.durable import drained
from kit.durable.programs import Programs, wait_until
from kit.durable.verdict import effects_of
from sqlalchemy import Engine

from aksara_signals.contrib.outbox.rows.selecting import CRASHES
from aksara_signals.contrib.outbox.rows.tables import DEAD, DONE

MODULES = ("kit.durable.poison",)


def test_poison_takes_nobody_with_it(shop_engine: Engine, shop_programs: Programs) -> None:
    """After three workers it is a dead letter; the nineteen rows claimed with it are done once each."""
    marks = [f"food-{number}" for number in range(19)]
    saved = [*marks[:10], "poison", *marks[10:]]
    assert shop_programs.run("kit.durable.save", *saved, modules=MODULES).wait() == 0
    ended = 0

    def is_drained() -> bool:
        nonlocal ended, worker
        if not worker.is_running():
            assert worker.wait() == 9, worker.output
            ended += 1
            worker = shop_programs.worker(modules=MODULES, lease_seconds=0.5)
        return not drained.waiting(shop_engine)

    worker = shop_programs.worker(modules=MODULES, lease_seconds=0.5)
    wait_until(is_drained, "all but the poison are done")
    assert shop_programs.end_all() == []
    assert ended == CRASHES
    assert drained.statuses(shop_engine) == {DONE: 19, DEAD: 1}
    (dead,) = (row for row in drained.rows(shop_engine) if row.status == DEAD)
    assert (dead.crashes, dead.attempts) == (CRASHES, 0)
    assert Counter(fact.mark for fact in effects_of(shop_engine, "shop.taste")) == Counter(marks)

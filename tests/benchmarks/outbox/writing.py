"""What a commit costs that stores rows for durable receivers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from time import process_time
from typing import Any

from harness import Job, sampled
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from aksara_signals import post_save
from outbox.results import Result
from outbox.stage import DIALECTS, Base, Later, Stage, Stored, look, outbox, receive

BLOCKS = 10
"""How often the outbox is installed and removed again, to compare with and without it."""


def results(stage: Stage, rounds: int) -> Iterator[Result]:
    """The figures of writing."""
    for dialect in DIALECTS:
        with stage.empty(dialect) as place, asyncio.Runner() as runner:
            engine = place.engine()
            yield from _Writing(dialect, engine, runner.get_loop(), rounds).results()
            runner.run(engine.dispose())


class _Writing:
    """The figures on one database."""

    def __init__(
        self, on: str, engine: AsyncEngine, loop: asyncio.AbstractEventLoop, rounds: int
    ) -> None:
        self._on = on
        self._engine = engine
        self._loop = loop
        self._rounds = rounds

    def results(self) -> Iterator[Result]:
        with post_save.connected_to(receive, sender=Later, phase="after_commit"):
            yield self._nobody_durable()
            with _one_durable():
                commits = self._commits(Stored, 1), self._commits(Later, 1)
                yield self._compare("CPU of a commit of one row", *commits, 1.15, calls=20)
                flushes = self._flushes(Stored, 100), self._flushes(Later, 100)
                yield self._compare("CPU of a flush of 100 rows", *flushes, 1.6, calls=2)
            yield from self._statements()

    def _compare(self, what: str, ours: Job, reference: Job, goal: float, *, calls: int) -> Result:
        jobs = {"ours": ours, "reference": reference, "control": reference}
        taken = sampled(jobs, calls=calls, rounds=self._rounds, clock=process_time)
        return self._ratio(f"{what}, against an after_commit receiver", taken, goal)

    def _ratio(self, what: str, taken: dict[str, list[float]], goal: float) -> Result:
        best = {name: min(seconds) for name, seconds in taken.items()}
        middle = {name: median(seconds) for name, seconds in taken.items()}
        noise = abs(best["control"] / best["reference"] - 1)
        beside = f"median {middle['ours'] / middle['reference']:.2f}, noise {noise:.1%}"
        value = best["ours"] / best["reference"]
        return Result(what, self._on, value, goal=goal, noise=noise, beside=beside)

    def _nobody_durable(self) -> Result:
        """Commits of a class without durable receivers, while another one has some."""
        commit = self._commits(Later, 1)
        taken: dict[str, list[float]] = {"ours": [], "reference": [], "control": []}

        def measure(*names: str) -> None:
            rounds = max(2, self._rounds // BLOCKS)
            jobs = dict.fromkeys(names, commit)
            for name, seconds in sampled(jobs, calls=20, rounds=rounds, clock=process_time).items():
                taken[name] += seconds

        for _ in range(BLOCKS):
            measure("reference", "control")
            with _one_durable():
                measure("ours")
        what = "CPU of a commit of one row, another class being durable, against none"
        return self._ratio(what, taken, 1.01)

    def _statements(self) -> Iterator[Result]:
        """How many statements there are more, whatever the rows and receivers."""
        with _one_durable(), post_save.connected_to(look, sender=Stored, durable="bench.second"):
            for count in (1, 100):
                more = self._count(self._commits(Stored, count)) - self._count(
                    self._commits(Later, count)
                )
                what = f"statements more in a commit of {count} rows with 2 durable receivers"
                yield Result(what.replace("1 rows", "1 row"), self._on, more, "INSERT", goal=1)

    def _count(self, job: Job) -> int:
        statements: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if not statement.startswith("BEGIN"):
                statements.append(statement)

        job()
        event.listen(self._engine.sync_engine, "before_cursor_execute", note)
        job()
        event.remove(self._engine.sync_engine, "before_cursor_execute", note)
        return len(statements)

    def _commits(self, model: type[Base], count: int) -> Job:
        return self._job(model, count, "commit")

    def _flushes(self, model: type[Base], count: int) -> Job:
        return self._job(model, count, "rollback")

    def _job(self, model: Callable[..., Base], count: int, end: str) -> Job:
        async def once() -> None:
            async with AsyncSession(self._engine, expire_on_commit=False) as session:
                session.add_all([model(title="x") for _ in range(count)])
                await session.flush()
                await getattr(session, end)()

        return lambda: self._loop.run_until_complete(once())


@contextmanager
def _one_durable() -> Iterator[None]:
    """An installed outbox, with one durable receiver."""
    outbox.install()
    with post_save.connected_to(receive, sender=Stored, durable="bench.stored"):
        yield
    outbox.uninstall()

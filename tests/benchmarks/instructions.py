"""Instructions that a flush executes, counted by callgrind: they don't depend on what else runs.

``python instructions.py`` needs ``valgrind``. It counts a small program twice, with few rounds and
with more; the difference has no start of Python and no imports in it. With ``--write``, the table
goes into the documentation. ``python instructions.py --drive CASE VARIANT ROUNDS`` is that program.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from callgrind import counted

PAGES = Path(__file__).parents[2] / "docs" / "explanation"
HEADER = ["flush", "rows", "plain SQLAlchemy", "two receivers", "ratio", "goal", "goal is"]


class Case(NamedTuple):
    """One row of the table."""

    what: str
    rows: int
    rounds: int
    """Between the two counts."""
    goal: float


CASES = {
    "one": Case("INSERT of one row", 1, 40, 1.15),
    "one-async": Case("INSERT of one row by aiosqlite, async receivers", 1, 40, 1.06),
    "many": Case("executemany, keys given", 1_000, 2, 1.05),
    "many-async": Case("executemany by aiosqlite, keys given, async receivers", 1_000, 2, 1.08),
    "update": Case("UPDATE of loaded rows, with the SELECT", 1_000, 2, 1.25),
    "delete": Case("DELETE of loaded rows, with the SELECT", 1_000, 2, 1.25),
}
WARM_UP = {1: 30}
"""Rounds of the first count, by rows: caches are filled in them, and loops made."""


def drive(name: str, variant: str, rounds: int) -> None:
    """Be the program that is counted."""
    import models
    from changing import FUNCTIONS, changing
    from flushing import COROUTINES, Flush, flush_sync

    case = CASES[name]
    model: Any = models.Plain if variant == "plain" else models.Sending
    with ExitStack() as stack:
        stack.enter_context(models.connected(*(COROUTINES if "async" in name else FUNCTIONS)))
        job: Callable[[], object]
        if "async" in name:
            runner = stack.enter_context(asyncio.Runner())
            engine = models.make_async_engine(runner.get_loop())
            stack.callback(lambda: runner.run(engine.dispose()))
            job = Flush(runner.get_loop(), engine)(model, case.rows, keyed=case.rows > 1)
        elif name in ("one", "many"):
            job = flush_sync(models.make_engine(), model, case.rows, keyed=case.rows > 1)
        else:
            change = "UPDATE" if name == "update" else "DELETE"
            job = changing(models.make_engine(), model, change, case.rows)
        for _ in range(rounds):
            job()


def per_round(name: str, variant: str) -> float:
    """Instructions of one flush."""
    case = CASES[name]
    warm = WARM_UP.get(case.rows, 2)
    less, more = (
        counted(__file__, "--drive", name, variant, str(n)) for n in (warm, warm + case.rounds)
    )
    return (more - less) / case.rounds


def row(name: str) -> list[str]:
    """One line of the table."""
    from harness import met_or_not

    case = CASES[name]
    plain, ours = per_round(name, "plain"), per_round(name, "ours")
    ratio = ours / plain
    return [
        case.what,
        f"{case.rows:,}",
        f"{plain:,.0f}",
        f"{ours:,.0f}",
        f"{ratio:.3f}",
        f"{case.goal:.2f}",
        met_or_not(ratio <= case.goal),
    ]


def main() -> None:
    """Count case by case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update the documentation")
    parser.add_argument("--only", action="append", choices=CASES)
    parser.add_argument("--drive", nargs=3, metavar=("CASE", "VARIANT", "ROUNDS"))
    arguments = parser.parse_args()
    if arguments.drive:
        name, variant, rounds = arguments.drive
        drive(name, variant, int(rounds))
        return
    if shutil.which("valgrind") is None:
        print("no valgrind here: instructions aren't counted")
        return
    table = [HEADER]
    for name in arguments.only or CASES:
        table.append(row(name))
        print(" | ".join(table[-1]), flush=True)
    if arguments.write and not arguments.only:
        with (PAGES / "instructions.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)


if __name__ == "__main__":
    main()

"""Writing and receiving from end to end: ``python -m end_to_end.run``, in ``tests/benchmarks``.

With ``--write``, the table goes into the documentation.
"""

from __future__ import annotations

import argparse
import csv
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from harness import OwnTime, sampled
from other_process import OtherProcess

from end_to_end.library import SIZES

PAGES = Path(__file__).parents[3] / "docs" / "explanation"
HEADER = [
    "with one receiver",
    "1,000 rows, one transaction",
    "of it signals",
    "100 commits of one row",
    "of it signals",
]
LIBRARIES = {
    "SQLAlchemy and its own listener": ("sqlalchemy_alone", "sqlalchemy"),
    "aksara_signals": ("ours", "aksara_signals"),
    "aksara_signals, each row by ``save()``": ("ours_by_save", "aksara_signals"),
    "ormar": ("with_ormar", "ormar"),
    "Edgy": ("with_edgy", "edgy"),
    "Tortoise ORM": ("with_tortoise", "tortoise"),
    "Django, synchronous": ("with_django", "django"),
}
"""By name in the table: the module here, and what has to be installed for it."""

WITHOUT = "SQLAlchemy without a listener"
"""The first row: its share of what aksara_signals takes."""


def measure(rounds: int) -> list[list[str]]:
    """The lines of the table: the minimum of many rounds, in which all take turns."""
    installed = {name: module for name, (module, needs) in LIBRARIES.items() if find_spec(needs)}
    best: dict[tuple[str, str, str], float] = {}
    with ExitStack() as stack:
        processes = {}
        for name, module in installed.items():
            for variant in ("receiving", "silent"):
                process = OtherProcess(f"end_to_end.{module}", variant)
                stack.callback(process.close)
                processes[name, variant] = process
        for what in SIZES:
            jobs = {
                "|".join(key): OwnTime(lambda process=process: process.seconds(what))
                for key, process in processes.items()
            }
            for key, seconds in sampled(jobs, calls=1, rounds=rounds).items():
                name, _, variant = key.partition("|")
                best[name, variant, what] = min(seconds)
    alone = [best[next(iter(LIBRARIES)), "silent", what] for what in SIZES]
    table = [[WITHOUT, f"{alone[0] * 1e3:.1f} ms", "", f"{alone[1] * 1e3:.1f} ms", ""]]
    for name in LIBRARIES:
        if name not in installed:
            table.append([name, "not installed", "", "", ""])
            continue
        row = [name]
        for what in SIZES:
            receiving = best[name, "receiving", what]
            added = receiving - best[name, "silent", what]
            row += [f"{receiving * 1e3:.1f} ms", f"{added * 1e3:.1f} ms"]
        table.append(row)
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update the documentation")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    table = [HEADER, *measure(arguments.rounds)]
    for row in table:
        print(" | ".join(row))
    if arguments.write:
        with (PAGES / "end-to-end.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)


if __name__ == "__main__":
    main()

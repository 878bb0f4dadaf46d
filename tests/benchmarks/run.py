"""Run all comparisons and print one table: ``tox -e benchmark``.

With ``--write``, table and plots go into the documentation as well.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import itertools
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import connecting
import flushing
import growth
import sending
import statements
from harness import Comparison, Figure

HEADER = ["what", "figure", "goal", "noise", "goal is"]
WIDTHS = [78, 10, 10, 6, 0]
PAGES = Path(__file__).parents[2] / "docs" / "explanation"


def measured(loop: asyncio.AbstractEventLoop) -> Iterator[Comparison | Figure]:
    """All that is measured; each gives a row of the table or several."""
    return itertools.chain(
        sending.rows(loop), connecting.rows(), flushing.rows(loop), statements.rows()
    )


def show(cells: list[str]) -> str:
    """One line of the table."""
    return " ".join(f"{cell:{width}}" for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def main() -> None:
    """Measure and print row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update the documentation")
    arguments = parser.parse_args()
    print(f"Python {platform.python_version()}, SQLAlchemy {version('sqlalchemy')}")
    print(show(HEADER))
    table = [HEADER]
    with asyncio.Runner() as runner:
        for row in itertools.chain.from_iterable(
            each.rows() for each in measured(runner.get_loop())
        ):
            table.append(row)
            print(show(row), flush=True)
        if arguments.write:
            growth.plot(runner.get_loop(), PAGES)
    if arguments.write:
        with (PAGES / "performance.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)


if __name__ == "__main__":
    main()

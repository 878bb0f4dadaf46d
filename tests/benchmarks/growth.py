"""How cost grows: plots and a table of exponents for the documentation.

``python growth.py`` measures and prints the exponents; with ``--write``, the table and the plots go
into the documentation. ``--largest 1000`` leaves out what is larger, to try it.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import growing
from harness import met_or_not
from plotting import Series, draw

PAGES = Path(__file__).parents[2] / "docs" / "explanation"
HEADER = ["what", "over", "from 1,000 to the largest", "goal", "goal is"]

LARGE = 1_000
"""From here on the exponent is taken: below, what a flush or a session costs by itself dominates."""

SLACK = 0.1
"""By how much an exponent may exceed its goal: allocators and caches cost more for more."""


class Plot(NamedTuple):
    """One plot, and its rows of the table."""

    file: str
    title: str
    unit: str
    sizes: tuple[int, ...]
    measure: Callable[[asyncio.AbstractEventLoop, tuple[int, ...]], Series]
    goal: float
    """The exponent: 1 for what is proportional, 0 for what doesn't depend on the size."""


SIZES = (10, 100, 1_000, 10_000, 100_000)

PLOTS = (
    Plot(
        "send",
        "await send() to async receivers",
        "receivers",
        (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000),
        growing.sends,
        1,
    ),
    Plot(
        "connect", "connecting receivers to one signal", "connections", SIZES, growing.connects, 1
    ),
    Plot(
        "look-up",
        "one operation among other connections",
        "connections",
        SIZES,
        growing.single_operations,
        0,
    ),
    Plot("flush", "flush of new rows, keys given, on aiosqlite", "rows", SIZES, growing.flushes, 1),
    Plot("change", "flush of changed rows, sync engine", "rows", SIZES, growing.changes, 1),
    Plot("links", "links added to one instance", "links", SIZES, growing.links, 1),
    Plot("commit", "commit of new rows, sync engine", "rows that wait", SIZES, growing.commits, 1),
)


def exponent(points: dict[int, float]) -> float:
    """The slope of the line that fits best, both axes logarithmic.

    2 would mean that twice as many take four times as long.
    """
    large = {size: seconds for size, seconds in points.items() if size >= LARGE}
    if len(large) < 2:
        large = points
    xs = [math.log(size) for size in large]
    ys = [math.log(seconds) for seconds in large.values()]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    above = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True))
    return above / sum((a - x) ** 2 for a in xs)


def table_rows(plot: Plot, series: Series) -> Iterator[list[str]]:
    """The lines of the table; only ours have a goal."""
    for name, points in series.items():
        found = exponent(points)
        is_ours = name.startswith("aksara_signals")
        yield [
            f"{plot.title}: {name}",
            f"{plot.unit}, up to {max(points):,}",
            f"{found:.2f}",
            f"{plot.goal:.2f}" if is_ours else "",
            met_or_not(found <= plot.goal + SLACK) if is_ours else "",
        ]


def main() -> None:
    """Measure plot by plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update the documentation")
    parser.add_argument("--largest", type=int, default=SIZES[-1])
    parser.add_argument("--only", action="append", help="the file of a plot")
    arguments = parser.parse_args()
    table = [HEADER]
    with asyncio.Runner() as runner:
        for plot in PLOTS:
            if arguments.only and plot.file not in arguments.only:
                continue
            sizes = tuple(size for size in plot.sizes if size <= arguments.largest)
            series = plot.measure(runner.get_loop(), sizes)
            for row in table_rows(plot, series):
                table.append(row)
                print(" | ".join(row), flush=True)
            if arguments.write:
                draw(PAGES / f"growth-{plot.file}.svg", plot.title, plot.unit, series)
    if arguments.write and not arguments.only:
        with (PAGES / "growth.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)


if __name__ == "__main__":
    main()

"""Run all comparisons and print one table: ``tox -e benchmark``."""

from __future__ import annotations

import asyncio
import itertools
import platform
from importlib.metadata import version

import flushing
import sending
from harness import Comparison


def show(row: Comparison) -> str:
    """One line of the table."""
    goal = "" if row.goal is None else f"{row.goal:.2f}"
    peers = ", ".join(f"{name} {seconds / row.ours:.2f}" for name, seconds in row.others.items())
    met = "met" if row.is_met else "NOT MET"
    return f"{row.what:76} {row.ratio:6.2f} {goal:>5} {row.noise:6.1%}  {met:8} {peers}"


def main() -> None:
    """Measure and print row by row."""
    print(f"Python {platform.python_version()}, SQLAlchemy {version('sqlalchemy')}")
    print(
        f"{'what':76} {'ratio':>6} {'goal':>5} {'noise':>6}  {'goal is':8} peers, as multiples of ours"
    )
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        for row in itertools.chain(sending.rows(loop), flushing.rows(loop)):
            print(show(row), flush=True)


if __name__ == "__main__":
    main()

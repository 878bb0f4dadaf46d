"""Run all comparisons and print one table: ``tox -e benchmark``.

Each part runs in a process of its own, so that none has the classes, connections and imports of
another. With ``--write``, tables and plots go into the documentation as well.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import importlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from harness import MOST_ROUNDS

HEADER = ["what", "figure", "goal", "noise", "goal is"]
WIDTHS = [98, 10, 10, 6, 0]
PAGES = Path(__file__).parents[2] / "docs" / "explanation"
WITH_MOCK = "+mock"
"""Ends the name of a part that runs beside ``unittest.mock``."""

PARTS = (
    "sending",
    "sending" + WITH_MOCK,
    "mocking",
    "looking_up",
    "connecting",
    "flushing",
    "changing",
    "linking",
    "committing",
    "objects",
    "statements",
)
"""Modules; each has ``rows()``."""

TABLES = ("growth", "instructions", "end_to_end.run")
"""Modules that measure something of another form; each has ``main()``."""


def rows_of(part: str) -> Iterator[list[str]]:
    """The lines of the table that a part measures, from another process."""
    command = [sys.executable, __file__, "--part", part, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def measure(part: str) -> Iterator[list[str]]:
    """The same, in this process."""
    name = part.removesuffix(WITH_MOCK)
    if part != name:
        import unittest.mock  # noqa: F401 - that it is imported is what is measured
    module = importlib.import_module(name)
    with asyncio.Runner() as runner:
        takes_loop = bool(module.rows.__code__.co_argcount)
        for each in module.rows(*[runner.get_loop()] * takes_loop):
            yield from each.rows()
    if part == name:
        assert "unittest.mock" not in sys.modules, "something that was measured has imported it"


def show(cells: list[str]) -> str:
    """One line of the table."""
    return " ".join(f"{cell:{width}}" for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def main() -> None:
    """Measure and print row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update the documentation")
    parser.add_argument("--part", action="append", choices=PARTS, help="only these, here")
    parser.add_argument("--rounds", help="at most as many, to try the programs")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each row")
    arguments = parser.parse_args()
    if arguments.rounds:
        os.environ[MOST_ROUNDS] = arguments.rounds
    if arguments.json:
        for part in arguments.part:
            for row in measure(part):
                print(json.dumps(row), flush=True)
        return
    print(f"Python {platform.python_version()}, SQLAlchemy {version('sqlalchemy')}")
    print(show(HEADER))
    table = [HEADER]
    for part in arguments.part or PARTS:
        for row in rows_of(part):
            table.append(row)
            print(show(row), flush=True)
    if arguments.write and not arguments.part:
        with (PAGES / "performance.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)
    if arguments.part:
        return
    for name in TABLES:
        command = [sys.executable, "-m", name, *(["--write"] if arguments.write else [])]
        subprocess.run(command, check=True, cwd=Path(__file__).parent)


if __name__ == "__main__":
    main()

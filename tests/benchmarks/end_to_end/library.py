"""What each library does, and the process that does it when it is asked."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Protocol

from other_process import serve

SIZES = {"rows": 1_000, "commits": 100}

SCHEMA = """
CREATE TABLE note (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    title VARCHAR(100) NOT NULL,
    views INTEGER NOT NULL
)
"""


class Library(Protocol):
    """One way to write rows and have a receiver called for each."""

    async def open(self, path: Path, *, receiving: bool) -> None:
        """Connect to a database that has the table, and connect the receiver."""

    async def rows(self, count: int) -> None:
        """Write as many rows in one transaction."""

    async def close(self) -> None:
        """Disconnect from the database."""


calls: list[None] = []
"""One for each call of the receiver."""


async def received(sender: object, **payload: object) -> None:
    """The receiver."""
    calls.append(None)


def received_sync(sender: object, **payload: object) -> None:
    """The same as a function."""
    calls.append(None)


async def _measured(library: Library, what: str, path: Path, expected: int) -> float:
    calls.clear()
    start = process_time()
    if what == "rows":
        await library.rows(SIZES[what])
    else:
        for _ in range(SIZES[what]):
            await library.rows(1)
    taken = process_time() - start
    assert len(calls) == expected, f"{len(calls)} calls of the receiver instead of {expected}"
    with sqlite3.connect(path) as connection:
        [[present]] = connection.execute("SELECT count(*) FROM note")
        assert present == SIZES[what]
        connection.execute("DELETE FROM note")
    connection.close()
    return taken


def main(library: Library) -> None:
    """Open the library, and write rows whenever that is asked for.

    The time is that of the processor, in all threads of the process: that a disk is slow, and that
    others use the machine, isn't part of it.
    """
    receiving = sys.argv[1] == "receiving"
    with TemporaryDirectory() as folder, asyncio.Runner() as runner:
        path = Path(folder) / "notes.db"
        with sqlite3.connect(path) as connection:
            connection.execute(SCHEMA)
        connection.close()
        runner.run(library.open(path, receiving=receiving))

        def answer(what: str) -> float:
            return runner.run(_measured(library, what, path, SIZES[what] * receiving))

        serve(answer)
        runner.run(library.close())

"""Worker processes of Celery and taskiq: started, killed, and ended whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit.databases import Database
from kit.durable import places as databases
from kit.queued import places
from kit.queued.receivers import FOLDER

TESTS = Path(__file__).parents[2]


class WorkerCommand:
    """A worker, and the processes that it has forked."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        self._process: subprocess.Popen[bytes]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env={**os.environ, **environment},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The number of its first process."""
        return self._process.pid

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL, to all of its processes."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def end(self) -> int:
        """SIGTERM; its exit status."""
        self._process.terminate()
        return self._process.wait(120)


class Workers:
    """Starts workers for one database and one broker.

    Args:
        database: The database.
        folder: For what they and their receivers write.
        url: The broker.
        prefix: Of the names of what they make there.
    """

    def __init__(
        self, database: Database, folder: Path, url: str, prefix: str, *, is_sync: bool = False
    ) -> None:
        self._folder = folder
        self._environment = {
            places.DATABASE: databases.as_text(database),
            places.BROKER: url,
            places.PREFIX: prefix,
            places.SYNC: "1" if is_sync else "",
            FOLDER: str(folder),
            "PYTHONPATH": os.pathsep.join((str(TESTS.parent), str(TESTS))),
        }
        self.started: list[WorkerCommand] = []

    def celery(self, pool: str = "prefork", processes: int = 2) -> WorkerCommand:
        """The command ``celery worker``."""
        return self._start(
            "celery", "-A", "kit.queued.celery_worker", "worker", "--pool", pool,
            "--concurrency", str(processes), "--loglevel", "INFO",
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        )  # fmt: skip

    def taskiq(self, *options: str) -> WorkerCommand:
        """The command ``taskiq worker``."""
        return self._start(
            "taskiq", "worker", "kit.queued.taskiq_worker:broker", "--workers", "1",
            "--max-async-tasks", "8", "--max-prefetch", "0", *options,
        )  # fmt: skip

    def _start(self, *arguments: str) -> WorkerCommand:
        log = self._folder / f"log-{len(self.started)}"
        found = WorkerCommand(list(arguments), self._environment, log)
        self.started.append(found)
        return found


@contextmanager
def workers_of(
    database: Database, folder: Path, url: str, prefix: str, *, is_sync: bool = False
) -> Iterator[Workers]:
    """Workers, killed at the end; what they have written is shown with the test, if that fails."""
    workers = Workers(database, folder, url, prefix, is_sync=is_sync)
    try:
        yield workers
    finally:
        for worker in workers.started:
            worker.kill()
            print(worker.output)

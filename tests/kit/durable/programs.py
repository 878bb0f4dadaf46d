"""Processes of the shop: started, killed, and reaped whatever happens."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kit.databases import Database
from kit.durable import places, shop
from kit.durable.forking import Forker

LEASE_SECONDS = 1.0
REDELIVERY_SECONDS = 2.0
"""When a message that a consumer has died with is delivered to another one; by default, 30."""
PATIENCE_SECONDS = 60.0
"""How long anything may take before it counts as a hang."""
RECEIVERS = "kit.durable.receivers"


def wait_until(
    is_so: Callable[[], Any], what: str, *, seconds: float = PATIENCE_SECONDS, every: float = 0.01
) -> float:
    """Look until something is so; how many seconds that took."""
    start = time.monotonic()
    while not is_so():
        assert time.monotonic() < start + seconds, f"in {seconds} seconds not: {what}"
        time.sleep(every)
    return time.monotonic() - start


class Program:
    """A process of the shop."""

    def __init__(self, forker: Forker, pid: int, log: Path, ready_file: Path) -> None:
        self._forker = forker
        self._status: int | None = None
        self.pid = pid
        self.is_announcing = False
        """Whether it makes its file."""
        self.log = log
        self.ready_file = ready_file
        """A file that it makes when it has begun its work."""

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def is_ready(self) -> bool:
        """Whether it has begun its work; it must not have ended instead."""
        assert self.is_running(), self.output
        return self.ready_file.exists()

    def wait_until_ready(self) -> None:
        wait_until(self.is_ready, "the process has begun its work")

    def is_running(self) -> bool:
        if self._status is None:
            self._status = self._forker.status(self.pid)
        return self._status is None

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self.is_running():
            self.send(signal.SIGKILL)
        self.wait()

    def send(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal. It must not have ended."""
        assert self.is_running(), self.output
        os.kill(self.pid, number)

    def end(self) -> int:
        """Ask it to end, and return its exit status."""
        self.send()
        return self.wait()

    def wait(self) -> int:
        """Wait for its end, and return its exit status."""
        wait_until(lambda: not self.is_running(), "the process has ended")
        assert self._status is not None
        return self._status


class Programs:
    """Starts processes of one shop.

    Args:
        database: Its database.
        folder: For what they write.
        forker: Starts them.
    """

    def __init__(self, database: Database, folder: Path, forker: Forker) -> None:
        self._forker = forker
        self.database = database
        self.folder = folder
        self.environment: dict[str, str] = {}
        """What is added to the environment of each."""
        self.started: list[Program] = []

    def writer(
        self, seed: int, *, pause: float = 0.05, is_sync: bool = False, is_tolerant: bool = False
    ) -> Program:
        """A process that changes the shop until it is ended.

        Args:
            seed: Of its choices.
            pause: How many seconds it pauses between transactions.
            is_sync: Whether its sessions are plain ones.
            is_tolerant: Whether it goes on when a transaction fails.
        """
        arguments = (
            "kit.durable.write",
            str(seed),
            str(pause),
            str(self._ready_file),
            "1" * is_tolerant,
        )
        found = self.run(*arguments, is_sync=is_sync)
        found.is_announcing = True
        return found

    def worker(
        self, *, modules: Iterable[str] = (RECEIVERS,), is_sync: bool = False, **options: Any
    ) -> Program:
        """The command ``aksara-signals worker``."""
        return self._service("worker", modules, is_sync, options)

    def relay(self, *, is_sync: bool = False, **options: Any) -> Program:
        """The command ``aksara-signals relay``, to the broker of :attr:`environment`."""
        to = {"to": "kit.durable.broker:publish"}
        return self._service("relay", (RECEIVERS,), is_sync, to | options)

    def consumer(self, *, is_sync: bool = False) -> Program:
        """A process that consumes what relays publish."""
        found = self.run("kit.durable.consume", str(self._ready_file), is_sync=is_sync)
        found.is_announcing = True
        return found

    def _service(
        self, command: str, modules: Iterable[str], is_sync: bool, options: dict[str, Any]
    ) -> Program:
        given = {"lease_seconds": LEASE_SECONDS, "health_file": self._ready_file, **options}
        arguments = [
            "aksara_signals",
            command,
            "kit.durable.shop:outbox",
            "--sessions",
            f"kit.durable.shop:{'SyncSessions' if is_sync else 'Sessions'}",
        ]
        for name, value in given.items():
            arguments += [f"--{name.replace('_', '-')}", str(value)]
        found = self.run(*arguments, modules=modules, is_sync=is_sync)
        found.is_announcing = True
        return found

    def run(
        self, *arguments: str, modules: Iterable[str] = (RECEIVERS,), is_sync: bool = False
    ) -> Program:
        """Run a module with arguments."""
        number = len(self.started)
        log, ready_file = self.folder / f"log-{number}", self._ready_file
        environment = {
            shop.DATABASE: places.as_text(self.database),
            shop.MODULES: json.dumps(list(modules)),
            shop.FOLDER: str(self.folder),
            shop.SYNC: "1" if is_sync else "",
            **self.environment,
        }
        pid = self._forker.start(arguments, environment, self.folder, log)
        found = Program(self._forker, pid, log, ready_file)
        self.started.append(found)
        return found

    @property
    def _ready_file(self) -> Path:
        return self.folder / f"ready-{len(self.started)}"

    def end_all(self) -> list[str]:
        """End all that run; what went wrong in those that weren't killed."""
        running = [each for each in self.started if each.is_running()]
        for program in running:
            if program.is_announcing:
                program.wait_until_ready()  # a signal before would just kill it
            program.send()
        wrong: list[str] = []
        for program in running:
            status = program.wait()
            if status:
                wrong.append(f"{status}: {program.output[-3000:]}")
        return wrong

    def kill_all(self) -> None:
        """Kill all that run."""
        for each in self.started:
            each.kill()


@contextmanager
def programs(database: Database, folder: Path, forker: Forker) -> Iterator[Programs]:
    """Processes, of which none outlives the test."""
    found = Programs(database, folder, forker)
    try:
        yield found
    finally:
        found.kill_all()

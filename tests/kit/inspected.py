"""An application that sends a lot and serves an inspector, as a process of its own.

It reads for how many seconds to send from its standard input, and answers with what it has measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from aksara_signals import Signal
from aksara_signals.contrib.inspector import Inspector
from aksara_signals.signals import post_save
from kit.models import Base, Post

SENDS_PER_SECOND = 5_000
SENDS = 50
"""Without a pause."""
PAUSE_SECONDS = SENDS / SENDS_PER_SECOND
FLUSHES_PER_SECOND = 10
ROUNDS_PER_FLUSH = round(1 / FLUSHES_PER_SECOND / PAUSE_SECONDS)
MOST_SECONDS = 10
"""For how long it sends at most at once."""
STATUS = Path("/proc/self/statm")

ticked = Signal()


class Clock:
    """The sender."""


class Durations:
    """What a receiver has measured of itself.

    The room is taken at once, so that it doesn't look like something that grows.
    """

    def __init__(self) -> None:
        room = bytes(8 * SENDS_PER_SECOND * MOST_SECONDS)
        self._nanoseconds = {"cpu": array("q", room), "clock": array("q", room)}
        self.count = 0

    def receive(self, sender: Any, **kwargs: Any) -> None:
        """Do some work, always the same."""
        clock = time.perf_counter_ns()
        cpu = time.thread_time_ns()
        total = 0
        for number in range(1_200):
            total += number
        self._nanoseconds["cpu"][self.count] = time.thread_time_ns() - cpu
        self._nanoseconds["clock"][self.count] = time.perf_counter_ns() - clock
        self.count += 1

    def seconds(self, kind: str) -> float:
        """In all."""
        return sum(self._nanoseconds[kind][: self.count]) / 1e9

    def deciles(self, kind: str) -> list[float]:
        """In microseconds."""
        found = statistics.quantiles(self._nanoseconds[kind][: self.count], n=10)
        return [each / 1000 for each in found]


def rss_bytes() -> int:
    """How much memory this process has."""
    return int(STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Application:
    """What sends and flushes."""

    def __init__(self) -> None:
        self._engine = create_engine("sqlite://", poolclass=StaticPool)
        Base.metadata.create_all(self._engine)
        with Session(self._engine) as session, session.begin():
            session.add(Post(id=1, title="0"))
        self.durations = Durations()
        self.saves = 0
        ticked.connect(self.durations.receive)
        post_save.connect(self.note_save, sender=Post)

    def note_save(self, sender: Any, **kwargs: Any) -> None:
        """Count it."""
        self.saves += 1

    def flush(self) -> None:
        """Change a row, which is committed, and then another time, which is not."""
        with Session(self._engine) as session:
            post = session.get_one(Post, 1)
            post.title = str(1 - int(post.title))
            session.commit()
            post.title = "2"
            session.flush()

    async def send_for(self, seconds: int) -> dict[str, Any]:
        """Send on schedule: what is late is made good."""
        self.durations.count = self.saves = 0
        rounds = round(seconds / PAUSE_SECONDS)
        start, busy = time.perf_counter(), time.process_time()
        late = 0.0
        batches: list[float] = []
        for number in range(1, rounds + 1):
            begun = time.perf_counter()
            for _ in range(SENDS):
                await ticked.send(Clock)
            batches.append(time.perf_counter() - begun)
            if number % ROUNDS_PER_FLUSH == 0:
                self.flush()
            ahead = start + number * PAUSE_SECONDS - time.perf_counter()
            late = max(late, -ahead)
            await asyncio.sleep(max(0, ahead))
        return {
            "seconds": time.perf_counter() - start,
            "busy": time.process_time() - busy,
            "work": self.durations.seconds("cpu"),
            "work by clock": self.durations.seconds("clock"),
            "late": late,
            "send": statistics.median(batches) / SENDS * 1e6,
            "sends": self.durations.count,
            "saves": self.saves,
            "cpu": self.durations.deciles("cpu"),
            "clock": self.durations.deciles("clock"),
        }


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    application = Application()
    with Inspector(debug=True) as inspector, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(inspector, log_level="error", ws="none"))
        serving = asyncio.create_task(server.serve([listener]))
        _say({"address": f"http://127.0.0.1:{listener.getsockname()[1]}"})
        while command := await commands.readline():
            found = await application.send_for(int(command))
            timeline = inspector._recorder.timeline
            sizes = {
                "size_bytes": timeline.size_bytes,
                "entries": len(timeline.entries()),
                "streams": inspector._streams._open,
                "rss": rss_bytes(),
            }
            _say(found | sizes)
        inspector.close()
        server.should_exit = True
        await serving


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


class Inspected:
    """The process, as a test sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address: str = self._answer()["address"]

    def send_for(self, seconds: int) -> dict[str, Any]:
        """Have it send; what it has measured."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process is over"
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def inspected() -> Iterator[Inspected]:
    """Run the application."""
    command = [sys.executable, "-m", "kit.inspected"]
    directory = Path(__file__).parents[1]
    # Under a safe path, the current folder alone would not be enough.
    environment = {**os.environ, "PYTHONPATH": str(directory)}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Inspected(process)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(20) == 0
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(_serve())

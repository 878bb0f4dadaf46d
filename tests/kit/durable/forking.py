"""A process that starts others: it has imported everything, and is forked instead of starting Python.

It starts with a tenth of the work. Requests are lines of JSON on its standard input, answers on its
standard output. When the input ends, it ends all processes that it has started.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[2]
_IMPORTED = (
    "aiosqlite",
    "asyncpg",
    "faststream.nats",
    "logging",
    "psycopg",
    "aksara_signals.cli",
    "aksara_signals.contrib.outbox.worker.worker",
    "kit.claims",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "sqlalchemy.ext.asyncio",
)


class Forker:
    """Starts processes; itself is one that is ended by :meth:`close`.

    Args:
        command: What stands before its own command, in order to start it elsewhere.
    """

    def __init__(self, command: Sequence[str] = ()) -> None:
        # The path: a folder named "kit" elsewhere must not be found before this one.
        self._process = subprocess.Popen(
            [*command, sys.executable, "-m", "kit.durable.forking"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TESTS)},
        )
        self._lock = threading.Lock()

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
    ) -> int:
        """Run a module, and return the number of the process.

        Args:
            arguments: The module's name, and its arguments.
            environment: What is added to the environment.
            folder: The current folder, whose modules can be imported.
            log: Its output is added to this file.
        """
        request = {
            "arguments": list(arguments),
            "environment": dict(environment),
            "folder": str(folder),
            "log": str(log),
        }
        return int(self._ask(request))

    def status(self, pid: int) -> int | None:
        """The exit status; None while it runs. To be asked only until there is one."""
        found: int | None = self._ask(pid)
        return found

    def _ask(self, request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it, and all that it has started."""
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0

    def was_killed(self) -> None:
        """Note that all of them were killed."""
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def _serve() -> Any:
    """Answer requests; in a process that was forked, return what it is to do."""
    children: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        answer: int | None
        if isinstance(request, int):
            pid, status = os.waitpid(request, os.WNOHANG)
            children.discard(pid)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if not answer:
                return request
            children.add(answer)
        print(json.dumps(answer), flush=True)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return None


def _become(request: Any) -> None:
    output = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in (nothing, 0), (output, 1), (output, 2):
        os.dup2(source, target)
    os.close(output)
    os.close(nothing)
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.path.insert(0, request["folder"])
    sys.argv[1:] = request["arguments"][1:]
    warnings.simplefilter("error")
    runpy.run_module(request["arguments"][0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    for name in _IMPORTED:
        __import__(name)
    job = _serve()
    if job is not None:
        _become(job)

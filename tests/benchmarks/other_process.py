"""A process that measures whenever it is asked: for variants that can't share one.

An import can't be undone, and some libraries want the event loop, or the settings, for themselves.
So each variant has its own process, and they take turns all the same.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


class OtherProcess:
    """Runs a module of this folder, which calls :func:`serve`."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
        )

    def seconds(self, what: str = "") -> float:
        """How long the other process takes for this."""
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        assert pipe_in is not None
        assert pipe_out is not None
        pipe_in.write(what + "\n")
        pipe_in.flush()
        return float(pipe_out.readline())

    def close(self) -> None:
        """End it: its input ends."""
        self._process.communicate()


def serve(answer: Callable[[str], float]) -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        print(answer(line.strip()), flush=True)

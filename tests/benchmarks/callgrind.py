"""Counts the instructions of a program by callgrind: they don't depend on what else runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys

_COLLECTED = re.compile(r"Collected : (\d+)")


def counted(script: str, *arguments: str) -> int:
    """Instructions of a whole program in Python.

    Args:
        script: Its file.
        arguments: Of its command line.
    """
    command = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        "--fair-sched=try",  # or the threads of aiosqlite hardly ever change
        sys.executable,
        script,
        *arguments,
    ]
    # The order of sets of strings, and with it the number of collisions, is the same each time.
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found = _COLLECTED.search(run.stderr)
    assert found is not None, run.stderr
    return int(found[1])

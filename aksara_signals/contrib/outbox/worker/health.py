"""What a worker says about itself."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from aksara_signals.contrib.outbox.hooks import observers


class Health:
    """The figures of one worker.

    Args:
        health_file: Touched after each claim, and after each extension of leases.
    """

    def __init__(self, health_file: Path | None) -> None:
        self._health_file = health_file
        self.state: str = "stopped"
        """``starting``, ``running``, ``backing off`` (after an error of the database, or of the
        worker), ``stopping`` or ``stopped``."""
        self.counts: Counter[str] = Counter()
        self.unknown: dict[str, int] = {}
        """The rows of receivers that are not connected here, by name."""
        self._last_claim: float | None = None
        self.last_error: str | None = None
        """The last error of the database or the worker, without values of rows."""

    def count(self, name: str, receiver: str, value: float = 1) -> None:
        """Count something, and give it to the observers."""
        self.counts[name] += int(value)
        observe(name, receiver, value)

    def note_claim(self) -> None:
        """Note that a claim has succeeded."""
        self._last_claim = time.monotonic()
        self.note_life()

    def note_life(self) -> None:
        """Note that the worker reaches its database, and that its event loop isn't blocked."""
        if self._health_file is not None:
            self._health_file.touch()

    def as_dict(self, in_flight: int, worker: str) -> dict[str, Any]:
        """Everything, as JSON has it."""
        last = self._last_claim
        return {
            "worker": worker,
            "state": self.state,
            "last_claim_seconds_ago": None if last is None else round(time.monotonic() - last, 3),
            "in_flight": in_flight,
            **{name: self.counts[name] for name in COUNTED},
            "unknown": dict(self.unknown),
            "last_error": self.last_error,
        }


COUNTED: tuple[str, ...] = (
    "claimed",
    "done",
    "failed",
    "dead",
    "skipped",
    "released",
    "lost_leases",
    "crashes",
)
"""What is counted: rows, since the worker was made."""


def observe(name: str, receiver: str, value: float) -> None:
    """Give a measurement to the observers."""
    for observer in tuple(observers):
        observer(name, receiver, value)

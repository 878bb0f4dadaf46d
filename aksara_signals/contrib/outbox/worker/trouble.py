"""Errors of the database, or of the worker itself: it waits, and says so once."""

from __future__ import annotations

import asyncio
import logging

from aksara_signals.contrib.outbox.rows.errors import is_outage
from aksara_signals.contrib.outbox.worker.error_texts import error_text
from aksara_signals.contrib.outbox.worker.health import Health
from aksara_signals.contrib.outbox.worker.reports import log

FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 5.0
"""How long a worker waits after an error, doubling."""


class Trouble:
    """Counts the errors of a worker since its last success, and logs the first of each kind.

    Args:
        name: The name of the worker.
        health: Takes the last error, and the state.
    """

    def __init__(self, name: str, health: Health) -> None:
        self._name = name
        self._health = health
        self._loop = asyncio.get_running_loop()
        self._seconds = 0.0
        self._kinds: set[type | None] = set()
        self._text = ""
        self.until: float = 0.0
        """When the next try is due, by the clock of the event loop."""

    def note(self, error: Exception) -> None:
        """Note an error."""
        self._seconds = min(max(self._seconds * 2, FIRST_BACKOFF_SECONDS), LONGEST_BACKOFF_SECONDS)
        self.until = self._loop.time() + self._seconds
        self._text = self._health.last_error = error_text(error)
        if self._health.state != "stopping":
            self._health.state = "backing off"
        kind = None if is_outage(error) else type(error)
        if kind not in self._kinds:
            self._kinds.add(kind)
            log(
                logging.ERROR,
                "%s can't work with the outbox, and tries again: %s",
                self._name,
                self._text,
                error=None if kind is None else error,
            )

    def end(self) -> None:
        """Note a success."""
        self._seconds = 0.0
        if self._kinds:
            self._kinds.clear()
            log(logging.WARNING, "%s goes on, after: %s", self._name, self._text)
            self._health.last_error = None
        if self._health.state in ("starting", "backing off"):
            self._health.state = "running"

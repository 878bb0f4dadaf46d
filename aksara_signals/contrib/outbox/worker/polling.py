"""When a worker claims again, and how many rows of which receiver."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from itertools import cycle

from aksara_signals.contrib.outbox.rows.reading import Row
from aksara_signals.contrib.outbox.worker.settings import Settings

SMALL_SHARE = 8
"""How many rows are claimed of a receiver that had none the last time."""

PROBE_SECONDS = 5.0
"""How long single rows are given until the next ones are claimed."""


class Polling:
    """Plans the claims of a worker.

    Args:
        settings: Its options.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._interval = settings.shortest_poll_seconds
        self._is_wanted = False
        self._last: Counter[str] = Counter()
        self._limits: dict[str, int] = {}
        self._due_at = 0.0
        self._held_until: float | None = None
        self._probes = cycle((False, True))
        self.prefers_fresh: bool = False
        """Whether the claim that has begun takes fresh rows before those that are due: every other
        one does during a hold. Rows that can't succeed would be the only probes for ever."""

    @property
    def due_at(self) -> float:
        """When the next claim is due, by the clock of the event loop."""
        return self._due_at if self._held_until is None else max(self._due_at, self._held_until)

    def claim_now(self) -> None:
        """Let the next claim be due: rows may have been written."""
        self._interval = self._settings.shortest_poll_seconds
        self._is_wanted = True
        self._due_at = 0.0

    def hold(self, seconds: float) -> None:
        """Let no claim be due for a while, and then one of a single row of each receiver."""
        self._held_until = self._loop.time() + seconds

    def go_on(self) -> None:
        """End what :meth:`hold` has begun."""
        self._held_until = None
        self._probes = cycle((False, True))
        self.prefers_fresh = False

    def begin(self, names: Iterable[str], room: int) -> dict[str, int]:
        """Note that a claim begins, and return how many rows to claim, by the names of receivers.

        Those that had rows the last time share the room. The others get a small share, with which
        they show that they have some.

        Args:
            names: In the order of claiming.
            room: How many rows the worker can take.
        """
        self._is_wanted = False
        if self._held_until is not None:
            self.prefers_fresh = next(self._probes)
            self._limits = dict.fromkeys(names, 1)
            return self._limits
        names, room = tuple(names), max(1, room)
        busy = [name for name in names if self._last[name]]
        share = max(1, room // (len(busy) or len(names) or 1))
        small = min(SMALL_SHARE, room) if busy else share
        self._limits = {name: share if self._last[name] else small for name in names}
        return self._limits

    def end(self, rows: Iterable[Row]) -> Counter[str]:
        """Note which rows a claim has leased, and return how many of each receiver."""
        found = self._last = Counter(row.receiver for row in rows)
        settings = self._settings
        if found and self._held_until is not None:
            self.hold(PROBE_SECONDS)  # what becomes of these rows ends it sooner, or prolongs it
        if found:
            self._interval = settings.shortest_poll_seconds
        has_more = any(count >= self._limits[name] for name, count in found.items())
        if has_more or self._is_wanted:  # claim_now() was called while the claim was under way
            self._due_at = 0.0
            return found
        self._due_at = self._loop.time() + self._interval
        if not found:
            self._interval = min(self._interval * 2, settings.longest_poll_seconds)
        return found

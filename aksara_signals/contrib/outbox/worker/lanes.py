"""The rows that a worker has leased: which of them are queued, and which run.

Rows of one lane are called one after another, and lanes side by side. Receivers take turns, so that
one with many rows, or slow ones, doesn't keep the others from being called.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from aksara_signals.contrib.outbox.rows.reading import Row


@dataclass(slots=True, eq=False)
class Leased:
    """A row that the worker has leased."""

    row: Row
    until: float
    """When the lease runs out, by the clock of the event loop."""
    is_lost: bool = False
    """Whether another worker has it."""


Lane = deque[Leased]
"""The rows of one lane, in order."""


class Lanes:
    """The queued rows, by receiver and lane.

    Args:
        concurrency: How many lanes run at a time.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        # One receiver that is slow never occupies every place, if there are enough of them.
        self._share = concurrency - concurrency // 8
        self._ready: dict[str, deque[Lane]] = {}
        self._running: Counter[str] = Counter()
        self.queued: int = 0
        """How many rows are queued."""
        self.running: int = 0
        """How many lanes run."""

    @property
    def load(self) -> int:
        """How many rows are queued, and lanes run."""
        return self.queued + self.running

    def add(self, rows: Iterable[Leased]) -> None:
        """Queue rows, which are in order."""
        by_lane: dict[object, Lane] = {}
        for leased in rows:
            row = leased.row
            key = row.seq if row.lane is None else (row.lane,)
            lane = by_lane.get(key)
            if lane is None:
                lane = by_lane[key] = deque()
                self._ready.setdefault(row.receiver, deque()).append(lane)
            lane.append(leased)
            self.queued += 1

    def take(self) -> tuple[str, Lane] | None:
        """The next lane to run, with its receiver; None if there is none, or no place.

        It is to be given back by :meth:`release`.
        """
        if self.running >= self._concurrency:
            return None
        is_only_one = len(self._ready.keys() | +self._running) == 1
        limit = self._concurrency if is_only_one else self._share
        for receiver, lanes in self._ready.items():
            if self._running[receiver] >= limit:
                continue
            lane = lanes.popleft()
            del self._ready[receiver]  # to the end: the others come first the next time
            if lanes:
                self._ready[receiver] = lanes
            self._running[receiver] += 1
            self.running += 1
            return receiver, lane
        return None

    def release(self, receiver: str) -> None:
        """Note that a lane of a receiver has ended."""
        self._running[receiver] -= 1
        self.running -= 1

    def start_next(self, lane: Lane) -> Leased:
        """The next row of a lane that runs."""
        self.queued -= 1
        return lane.popleft()

    def drop(self, lane: Lane) -> list[Row]:
        """Empty a lane that runs, and return the rows that were left."""
        rows = [leased.row for leased in lane]
        self.queued -= len(rows)
        lane.clear()
        return rows

    def clear(self) -> list[Row]:
        """Drop the lanes that don't run, and return their rows."""
        lanes = [lane for of_receiver in self._ready.values() for lane in of_receiver]
        self._ready.clear()
        return [row for lane in lanes for row in self.drop(lane)]

"""Publishing leased rows, and waiting while the broker doesn't take them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from aksara_signals.contrib.outbox.events import DurableEvent, event_of
from aksara_signals.contrib.outbox.hooks import observers
from aksara_signals.contrib.outbox.rows.reading import Row
from aksara_signals.contrib.outbox.worker.desk import Desk
from aksara_signals.contrib.outbox.worker.error_texts import error_text
from aksara_signals.contrib.outbox.worker.health import observe
from aksara_signals.contrib.outbox.worker.lanes import Lane, Leased
from aksara_signals.contrib.outbox.worker.records import Failed
from aksara_signals.contrib.outbox.worker.running import is_being_cancelled
from aksara_signals.contrib.outbox.worker.station import Station

FAILURES_IN_A_ROW = 3
"""So many without a success between them are taken for an outage of the broker."""

FIRST_HOLD_SECONDS = 0.1
LONGEST_HOLD_SECONDS = 5.0
"""How long a relay waits between two tries in an outage, doubling."""

LONGEST_DELAY_SECONDS = 300.0
"""How long a message waits that the broker refuses while it takes others; from one second on,
doubling."""

_MOST_REMEMBERED = 10_000


class Publishing:
    """Publishes rows, and informs the desk of what has become of them.

    A row that can't be published is tried again, as often as it takes: no failure counts as an
    attempt, so no outage of a broker makes dead letters.

    Args:
        station: What the relay consists of.
        desk: Is given what becomes of the rows.
        publish: Publishes an event, and returns once the broker has it.
    """

    def __init__(
        self,
        station: Station,
        desk: Desk,
        publish: Callable[[DurableEvent], Awaitable[Any]],
    ) -> None:
        self._known = station.known
        self._lanes = station.lanes
        self._health = station.health
        self._desk = desk
        self._publish = publish
        self._timeout_seconds = station.settings.timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._failures: Counter[int] = Counter()
        self._in_a_row = 0
        self._hold_seconds = 0.0
        self._held_until = 0.0

    async def handle(self, leased: Leased, lane: Lane) -> bool:
        """Publish a row, and return whether the lane goes on."""
        row, start = leased.row, self._loop.time()
        entry = self._known.find(row.receiver)
        event = event_of(row)
        if entry is not None and entry.name != row.receiver:  # written under a former name
            event = replace(event, receiver=entry.name)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._publish(event)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            self._fail(row, event.receiver, error, lane)
            return False
        self._desk.acknowledge(leased)
        self._succeed(row)
        self._health.count("done", event.receiver)
        if observers:
            observe("duration_seconds", event.receiver, self._loop.time() - start)
            lag = row.read_at - row.created_at
            observe("lag_seconds", event.receiver, lag.total_seconds())
        return True

    def _succeed(self, row: Row) -> None:
        if self._failures:
            del self._failures[row.seq]
        if self._in_a_row:
            self._in_a_row = 0
            self._hold_seconds = 0.0
            self._desk.go_on()

    def _fail(self, row: Row, receiver: str, error: BaseException, lane: Lane) -> None:
        mates = [mate.seq for mate in self._lanes.drop(lane)]
        self._in_a_row += 1
        if self._in_a_row < FAILURES_IN_A_ROW:
            delay = self._delay_seconds(row)
        else:
            self._hold()
            delay = self._hold_seconds
        record = Failed(row, error, error_text(error), delay, receiver, lane_mates=mates)
        record.counts = record.feeds_breaker = False
        self._desk.write(record)

    def _delay_seconds(self, row: Row) -> float:
        """How long a row waits that has failed by itself."""
        if len(self._failures) >= _MOST_REMEMBERED:
            self._failures.clear()
        self._failures[row.seq] += 1
        return min(2.0 ** min(self._failures[row.seq] - 1, 30), LONGEST_DELAY_SECONDS)

    def _hold(self) -> None:
        """Wait before the next try; many rows that fail at once are one failure."""
        now = self._loop.time()
        if now >= self._held_until:
            doubled = max(self._hold_seconds * 2, FIRST_HOLD_SECONDS)
            self._hold_seconds = min(doubled, LONGEST_HOLD_SECONDS)
            self._held_until = now + self._hold_seconds
            self._desk.hold(self._hold_seconds)
        else:
            self._desk.hold(self._held_until - now)

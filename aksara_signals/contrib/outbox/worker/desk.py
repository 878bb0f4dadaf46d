"""What a worker does in the outbox's table: it claims, extends leases, and writes outcomes.

One task does all of it, one transaction after another. So a worker needs a single connection for
it, two of its own statements never wait for one another's locks, and everything that has come up
meanwhile is written at once. When the database is down, nothing is lost: what is to be written
stays here until it is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any

from sqlalchemy import Connection

from aksara_signals.contrib.outbox.rows import claiming
from aksara_signals.contrib.outbox.rows.claiming import Claim
from aksara_signals.contrib.outbox.rows.errors import is_outage
from aksara_signals.contrib.outbox.rows.reading import Row
from aksara_signals.contrib.outbox.rows.tables import Tables
from aksara_signals.contrib.outbox.worker.error_texts import error_text
from aksara_signals.contrib.outbox.worker.housekeeping import Housekeeping
from aksara_signals.contrib.outbox.worker.lanes import Leased
from aksara_signals.contrib.outbox.worker.polling import Polling
from aksara_signals.contrib.outbox.worker.records import (
    Acknowledged,
    Failed,
    Record,
    Recovered,
    Released,
    write_all,
)
from aksara_signals.contrib.outbox.worker.reports import log
from aksara_signals.contrib.outbox.worker.station import Station
from aksara_signals.contrib.outbox.worker.trouble import Trouble
from aksara_signals.contrib.outbox.worker.waking import Wake

ACKNOWLEDGE_SECONDS = 0.05
"""How long a success may stay unwritten."""


class Desk:
    """Keeps the leases of a worker, and writes what becomes of them.

    Args:
        station: What the worker consists of.
        turn: Held during each transaction; on SQLite, receivers with a session hold it, too.
        on_claimed: Called when there are new rows to run.
        on_failed: Called with each failure that was written.
    """

    def __init__(
        self,
        station: Station,
        turn: AbstractAsyncContextManager[Any],
        *,
        on_claimed: Callable[[Claim], object],
        on_failed: Callable[[Failed], object],
    ) -> None:
        self._name = station.name
        self._settings = station.settings
        self._gateway = station.gateway
        self._known = station.known
        self._lanes = station.lanes
        self._health = station.health
        self._turn = turn
        self._housekeeping = Housekeeping(station)
        self._on_claimed = on_claimed
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._polling = Polling(station.settings)
        self._trouble = Trouble(station.name, station.health)
        self.wake: Wake = Wake()
        self.leased: dict[int, Leased] = {}
        """The rows that the worker has leased, until it is written what has become of them."""
        self.is_claiming: bool = True
        """False once the worker is being stopped."""
        self.is_idle: bool = False
        """Whether the last claim has found nothing, and nothing is left to do."""
        self._failing: set[str] = set()
        """The receivers that have failed since their last success, as far as is known here."""
        self._records: list[Record] = []
        self._acknowledged: list[int] = []
        self._acknowledge_at: float | None = None
        self._alone = self._held_up = False
        self._heartbeat_at = self._loop.time() + self._settings.lease_seconds / 3
        self._heartbeats = asyncio.Condition()

    # -- what becomes of rows ------------------------------------------------------------------

    def finish(self, leased: Leased) -> None:
        """Note that a row was marked as done in the transaction of its receiver, or is lost."""
        self.leased.pop(leased.row.seq, None)
        self._look_again()

    def acknowledge(self, leased: Leased) -> None:
        """Mark a row as done, soon."""
        self._acknowledged.append(leased.row.seq)
        if len(self._acknowledged) >= self._settings.batch_size or not self._lanes.load:
            self._acknowledge_at = 0.0
            self.wake.set()
        elif self._acknowledge_at is None:
            self._acknowledge_at = self._loop.time() + ACKNOWLEDGE_SECONDS
            self._loop.call_later(ACKNOWLEDGE_SECONDS, self.wake.set)
        else:
            self._look_again()

    def note_success(self, receiver: str) -> None:
        """Close the breaker of a receiver, if it has failed before."""
        if receiver in self._failing:
            self._failing.discard(receiver)
            self.write(Recovered(receiver))

    def write(self, record: Record) -> None:
        """Write a record, soon."""
        self._records.append(record)
        self.wake.set()

    def release(self, rows: Iterable[Row], delay_seconds: float | None = None) -> None:
        """Give rows back uncalled, soon."""
        rows = list(rows)
        if rows:
            self.write(Released([row.seq for row in rows], delay_seconds))
            for row in rows:
                self._health.count("released", row.receiver)

    def release_all(self) -> None:
        """Give back every row of which nothing else is to be written."""
        known = {seq for record in self._records for seq in record.seqs}.union(self._acknowledged)
        self.release(leased.row for seq, leased in self.leased.items() if seq not in known)

    async def is_ours(self, leased: Leased) -> bool:
        """Whether the worker still has a row, which it is about to call.

        If the event loop was blocked for longer than a lease, nothing has extended it. Another
        worker may have the row then, or may not.
        """
        if self._loop.time() >= leased.until and self._settings.heartbeat and not leased.is_lost:
            self._heartbeat_at = 0.0
            self.wake.set()
            async with self._heartbeats:
                await self._heartbeats.wait()
        return self._loop.time() < leased.until and not leased.is_lost

    def _look_again(self) -> None:
        """Claim again, if there is room and it is time."""
        if self._wants_claim(self._loop.time()) or not self._lanes.load:
            self.wake.set()

    def claim_now(self) -> None:
        """Look for rows at once: some may have been written."""
        self._polling.claim_now()
        self.wake.set()

    def hold(self, seconds: float) -> None:
        """Claim nothing for a while, and then single rows, until :meth:`go_on`.

        The rows that are queued are given back: another process may have more luck with them.
        """
        self._polling.hold(seconds)
        self.release(self._lanes.clear())

    def go_on(self) -> None:
        """End what :meth:`hold` has begun."""
        self._polling.go_on()
        self.wake.set()

    # -- the task ------------------------------------------------------------------------------

    async def run(self, until: Callable[[], bool]) -> None:
        """Do all of it, until the function returns True."""
        while not until():
            # Before looking: what comes up while it looks is noticed by the wait.
            self.wake.clear()
            await self.attempt()
            if not until():
                await self.wake.pause(self.delay())

    async def attempt(self) -> bool:
        """Do what is due now, and return whether there was no error."""
        if self._loop.time() < self._trouble.until:
            return False
        try:
            await self._do()
        except Exception as error:  # noqa: BLE001 - also a mistake of ours must not end the worker
            self._trouble.note(error)
            return False
        self._trouble.end()
        return True

    @property
    def has_records(self) -> bool:
        """Whether something is still to be written."""
        return bool(self._records or self._acknowledged)

    async def _do(self) -> None:
        now = self._loop.time()
        if self._records or self._are_due(now):
            await self._write_records()
        if self._settings.heartbeat and now >= self._heartbeat_at:
            await self._extend_leases()
        if self._wants_claim(self._loop.time()):
            await self._claim()
        if self.is_claiming:
            await self._housekeeping.attempt(self._in_transaction)

    def delay(self) -> float:
        """How many seconds there is nothing to do, unless something comes up."""
        now = self._loop.time()
        if now < self._trouble.until:
            return self._trouble.until - now
        times = [now + self._settings.longest_poll_seconds]
        if self.is_claiming and not self._is_blocked():
            times.append(self._polling.due_at)
        if self._settings.heartbeat and self.leased:
            times.append(self._heartbeat_at)
        if self._acknowledged:
            times.append(self._acknowledge_at or now)
        return max(0.0, min(times) - now)

    async def _in_transaction(self, function: Callable[..., Any], *arguments: Any) -> Any:
        async with self._turn:
            return await self._gateway.run_in_transaction(function, *arguments)

    # -- writing -------------------------------------------------------------------------------

    def _are_due(self, now: float) -> bool:
        """Whether successes are to be written: also before a claim, as they hold up their lanes."""
        at = self._acknowledge_at
        return bool(self._acknowledged) and (
            at is None or now >= at or not self._lanes.load or self._wants_claim(now)
        )

    async def _write_records(self) -> None:
        records = [*self._records]
        if self._acknowledged:
            records.append(Acknowledged(self._acknowledged[:]))
        try:
            await self._in_transaction(write_all, records, self._gateway.tables, self._name)
        except Exception as error:
            if is_outage(error):
                raise  # they stay, to be written when the database is back
            for record in records:
                await self._write_alone(record)
        else:
            for record in records:
                self._note_written(record)

    async def _write_alone(self, record: Record) -> None:
        """Write a record that may be the one that can't be written."""
        try:
            await self._in_transaction(write_all, [record], self._gateway.tables, self._name)
        except Exception as error:
            if is_outage(error):
                raise
            text = "%s can't write what has become of rows %s; their lease runs out: %s"
            about = error_text(error)
            log(logging.ERROR, text, self._name, record.seqs, about, error=error)
            if isinstance(record, Failed):
                record.is_lost = True
        self._note_written(record)

    def _note_written(self, record: Record) -> None:
        if isinstance(record, Acknowledged):
            del self._acknowledged[: len(record.seqs)]  # more may have come meanwhile
            if not self._acknowledged:
                self._acknowledge_at = None
        else:
            self._records.remove(record)
        for seq in record.seqs:
            self.leased.pop(seq, None)
        if isinstance(record, Acknowledged) and record.lost:
            self._health.count("lost_leases", "", record.lost)
        elif isinstance(record, Failed):
            if record.is_lost:
                self._health.count("lost_leases", record.row.receiver)
            else:
                self._failing.add(record.receiver)
                self._on_failed(record)

    # -- leases --------------------------------------------------------------------------------

    async def _extend_leases(self) -> None:
        seconds, start = self._settings.lease_seconds, self._loop.time()
        seqs = sorted(self.leased)
        held: set[int] = set()
        if seqs:
            held.update(
                await self._in_transaction(_extend, self._gateway.tables, self._name, seqs, seconds)
            )
        for seq in seqs:
            leased = self.leased.get(seq)
            if leased is None:
                continue
            if seq in held:
                leased.until = start + seconds
            else:  # or it is done, in a transaction that was committed just now
                leased.is_lost = True
        if seqs:  # while receivers are slow, there may be no room for a claim
            self._health.note_life()
        self._heartbeat_at = start + seconds / 3
        async with self._heartbeats:
            self._heartbeats.notify_all()

    # -- claims --------------------------------------------------------------------------------

    def _is_blocked(self) -> bool:
        """Whether the next claim has to wait until all rows of the last ones are through."""
        return bool(self.leased) and (
            self._alone or self._held_up or self._lanes.load > self._settings.batch_size // 2
        )

    def _wants_claim(self, now: float) -> bool:
        return self.is_claiming and now >= self._polling.due_at and not self._is_blocked()

    async def _claim(self) -> None:
        start = self._loop.time()
        # Receivers that end while the claim is under way may have written rows that it doesn't see.
        was_busy = bool(self.leased) or self.has_records
        room = self._settings.batch_size - self._lanes.load
        limits = self._polling.begin(self._known.names(), room)
        options = {
            "worker": self._name,
            "limits": limits,
            "lease_seconds": self._settings.lease_seconds,
            "is_busy": bool(self.leased),
            "former_of": self._known.former_of,
            "counts_crashes": not self._settings.is_relay,
            "prefers_fresh": self._polling.prefers_fresh,
        }
        claim = await self._in_transaction(_claim, self._gateway.tables, options)
        self._failing.update(claim.failing)
        self._alone, self._held_up = claim.is_alone, claim.is_held_up
        rows = [Leased(row, start + self._settings.lease_seconds) for row in claim.rows]
        self.leased.update((each.row.seq, each) for each in rows)
        if self.is_claiming:
            self._lanes.add(rows)
        else:  # stopped meanwhile
            self.release(claim.rows)
        for receiver, count in self._polling.end(claim.rows).items():
            self._health.count("claimed", receiver, count)
        self._health.note_claim()
        is_busy = was_busy or bool(self.leased) or self.has_records
        self.is_idle = not (rows or claim.is_held_up or is_busy)
        if rows or claim.dead:
            self._on_claimed(claim)


def _extend(
    connection: Connection, tables: Tables, worker: str, seqs: list[int], seconds: float
) -> list[int]:
    return claiming.extend(connection, tables, worker, seqs, seconds)


def _claim(connection: Connection, tables: Tables, options: dict[str, Any]) -> Claim:
    return claiming.claim(connection, tables, **options)

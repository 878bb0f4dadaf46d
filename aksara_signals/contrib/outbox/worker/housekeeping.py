"""What a worker does once a minute: it purges old rows, and reports what is left to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import Connection

from aksara_signals.contrib.outbox.hooks import observers
from aksara_signals.contrib.outbox.rows import upkeep
from aksara_signals.contrib.outbox.worker.health import observe
from aksara_signals.contrib.outbox.worker.known import REPORT_SECONDS
from aksara_signals.contrib.outbox.worker.source import Source
from aksara_signals.contrib.outbox.worker.station import Station


class Housekeeping:
    """The regular duties of a worker.

    Args:
        station: What the worker consists of.
    """

    def __init__(self, station: Station) -> None:
        self._outbox = station.outbox
        self._known = station.known
        self._health = station.health
        self._loop = asyncio.get_running_loop()
        self._report_at = self._purge_at = 0.0
        self._measured: set[tuple[str, str]] = set()
        """The measurements that are not zero, and the receivers that they are of."""

    async def attempt(self, in_transaction: Callable[..., Awaitable[Any]]) -> None:
        """Do what is due.

        Args:
            in_transaction: Calls a function with a connection.
        """
        now = self._loop.time()
        if now >= self._report_at:
            self._report_at = now + REPORT_SECONDS
            unknown = await self._report_unknown(in_transaction)
            if observers:
                self._measure(unknown, await in_transaction(upkeep.stats, self._outbox.tables))
        if now >= self._purge_at:
            # One chunk at a time: between two of them, claims and leases have their turn.
            has_more = await in_transaction(_purge, self._outbox) >= upkeep.CHUNK
            self._purge_at = 0.0 if has_more else now + REPORT_SECONDS

    async def _report_unknown(
        self, in_transaction: Callable[..., Awaitable[Any]]
    ) -> dict[str, int]:
        tables, names = self._outbox.tables, self._known.all_names()
        found: dict[str, int] = await in_transaction(upkeep.unknown_receivers, tables, names)
        self._health.unknown = found
        for name, count in found.items():
            self._known.complain(
                f"unknown {name}",
                "%s rows wait for the durable receiver %r, which is not connected here; connect "
                "it, import its module (Outbox(modules=…)), name it in formerly= of its "
                "successor, or discard them ('aksara-signals outbox discard --receiver %s')",
                count,
                name,
                name,
            )
        return found

    def _measure(self, unknown: dict[str, int], found: list[upkeep.ReceiverStats]) -> None:
        values: dict[tuple[str, str], float] = {
            ("unknown", name): count for name, count in unknown.items()
        }
        for each in found:
            values["pending", each.receiver] = each.pending
            values["retrying", each.receiver] = each.retrying
            values["dead_letters", each.receiver] = each.dead
            values["oldest_age_seconds", each.receiver] = each.oldest_seconds or 0.0
            values["down", each.receiver] = float(each.is_down)
        # What has no rows any more is zero: a gauge would show its last value for ever.
        for measurement in self._measured - values.keys():
            observe(*measurement, 0)
        for measurement, value in values.items():
            observe(*measurement, value)
        self._measured = {measurement for measurement, value in values.items() if value}


def _purge(connection: Connection, outbox: Source) -> int:
    return upkeep.purge(
        connection,
        outbox.tables,
        done_seconds=outbox.keep_done_seconds,
        dead_seconds=outbox.keep_dead_seconds,
    )

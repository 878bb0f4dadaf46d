"""Looks up what has become of the rows of durable receivers, which workers call elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import anyio
from sqlalchemy import Connection, Row, func, select

from aksara_signals.contrib.inspector.entries import Entry, RowState
from aksara_signals.contrib.inspector.store import Store
from aksara_signals.contrib.inspector.timeline import Timeline
from aksara_signals.contrib.outbox.rows.tables import DEAD, DONE, Tables, is_in

REFRESH_SECONDS = 1.0
"""The rows are looked up at most so often, for all browsers."""

LOOKED_UP = 300
"""How many entries are looked up at once, the latest ones first."""

RECENT_ROWS = 10_000
"""Among so many latest rows a row is looked for whose number isn't known: only numbers have an
index."""


class StoredStates:
    """The states of the rows that entries of the timeline stand for.

    Args:
        timeline: What was recorded.
        store: The database of the outbox; None: nothing is looked up.
    """

    def __init__(self, timeline: Timeline, store: Store | None) -> None:
        self._timeline = timeline
        self._store = store
        self._refreshed = 0.0
        self._lock = anyio.Lock()

    async def refresh(self) -> None:
        """Look the rows up, unless that was done just now, or a look is under way.

        A database that can't be reached leaves the states as they are; the page of the outbox says
        what the matter is.
        """
        store = self._store
        is_due = time.monotonic() - self._refreshed >= REFRESH_SECONDS
        if store is None or not is_due or self._lock.locked():
            return
        async with self._lock:
            entries = self._pending()
            if entries:
                try:
                    found = await store.run(_look_up, store.outbox.tables, entries)
                except Exception:  # noqa: BLE001 - drivers pass on errors of any class
                    found = []
                self._note(entries, found)
            self._refreshed = time.monotonic()

    def _pending(self) -> list[Entry]:
        found = (
            each
            for each in reversed(self._timeline.entries())
            if each.kind == "durable" and each.group.state != "rolled back" and not _is_final(each)
        )
        return [entry for entry, _ in zip(found, range(LOOKED_UP), strict=False)]

    def _note(self, entries: list[Entry], found: Iterable[Row[Any]]) -> None:
        by_event = {each.event: each for each in entries}
        for row in found:
            entry = by_event.get(row.id)
            if entry is None:
                continue
            state = RowState(row.seq, *_words(row))
            if entry.stored.get(row.receiver) != state:
                entry.stored = {**entry.stored, row.receiver: state}
                self._timeline.note_change(entry.group)


def _is_final(entry: Entry) -> bool:
    return len(entry.stored) >= len(entry.connections) and all(
        each.state in ("done", "dead") for each in entry.stored.values()
    )


def _words(row: Row[Any]) -> tuple[str, str]:
    """The state of a row, and what more there is to say."""
    if row.status in (DONE, DEAD):
        failed = f"after {row.attempts} failed attempts" if row.attempts else ""
        return ("done" if row.status == DONE else "dead"), failed
    if row.leased_by is not None:
        return "waiting", "a worker has it"
    return "waiting", f"failed {row.attempts} times, is called again" if row.attempts else ""


def _look_up(connection: Connection, tables: Tables, entries: list[Entry]) -> list[Row[Any]]:
    outbox = tables.outbox
    columns: Any = select(
        outbox.c.seq,
        outbox.c.id,
        outbox.c.receiver,
        outbox.c.status,
        outbox.c.attempts,
        outbox.c.leased_by,
    )
    known = [state.seq for each in entries for state in each.stored.values()]
    unknown = [each.event for each in entries if len(each.stored) < len(each.connections)]
    found: list[Row[Any]] = []
    if known:
        found.extend(connection.execute(columns.where(is_in(connection, outbox.c.seq, known))))
    if unknown:
        latest = connection.execute(select(func.max(outbox.c.seq))).scalar() or 0
        is_recent = outbox.c.seq > latest - RECENT_ROWS
        is_one = is_in(connection, outbox.c.id, unknown)
        found.extend(connection.execute(columns.where(is_recent, is_one)))
    return found

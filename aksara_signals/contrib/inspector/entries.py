"""What is recorded: transactions, and what was sent, queued, silenced or stored in each.

Each is made in the middle of somebody's flush. So they hold what is at hand, and put it into words
only when it is looked at.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from aksara_signals.contrib.inspector.calls import Call
from aksara_signals.contrib.inspector.remembered import Remembered, receiver_view, remembered
from aksara_signals.contrib.inspector.views import (
    EntryKind,
    EntryView,
    GroupState,
    GroupView,
    ReceiverState,
    ReceiverView,
)
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.delivery.delivery import Source
from aksara_signals.dispatch.receivers.naming import describe_sender, printable, shortened
from aksara_signals.types import AFTER_COMMIT, AFTER_ROLLBACK, IMMEDIATE

ENTRY_BYTES = 1_500
"""About what an entry takes with a group of its own, without its calls and texts."""
CALL_BYTES = 400
"""About what the calls of a receiver take."""
ROW_BYTES = 120
"""About what a further row takes, and a further call."""
MAX_ROWS = 500
"""How many rows for which the same is sent are one entry."""

MAX_KEYS = 8
"""How many parts of a key, or keys of rows, are shown."""

_NO_VALUES: Mapping[str, str] = {}


class RowState(NamedTuple):
    """What has become of a row in the outbox."""

    seq: int
    """Its number."""
    state: Any
    """``waiting``, ``done`` or ``dead``."""
    detail: str


_NOTHING_STORED: Mapping[str, RowState] = {}


class Savepoint:
    """A savepoint of a transaction."""

    __slots__ = ("is_rolled_back", "number", "outer")

    def __init__(self, number: int, outer: Savepoint | None) -> None:
        self.number: int = number
        self.outer: Savepoint | None = outer
        self.is_rolled_back: bool = False

    @property
    def is_undone(self) -> bool:
        """Whether it was rolled back, or one around it was."""
        return self.is_rolled_back or (self.outer is not None and self.outer.is_undone)


@dataclass(slots=True)
class Flush:
    """A flush that is under way."""

    number: int
    cause: Entry | None
    """The entry whose receiver has caused it."""
    has_written: bool = False


class Group:
    """A transaction with its entries, or a send without one with what it has caused.

    Args:
        state: ``open`` for a transaction, ``none`` for anything else.
        parent: The entry whose receiver has caused it.
        connection: The connection of that receiver.
    """

    __slots__ = (
        "committed",
        "connection",
        "entries",
        "finished",
        "flushes",
        "flushes_begun",
        "number",
        "omitted",
        "parent",
        "period",
        "savepoint",
        "savepoints",
        "savepoints_begun",
        "seen",
        "session",
        "started",
        "state",
    )

    def __init__(
        self,
        state: GroupState,
        parent: Entry | None = None,
        connection: Connection | None = None,
    ) -> None:
        self.number: int = 0
        """That of its first entry; 0 before it has one."""
        self.state: GroupState = state
        self.session: type | None = None
        """The class of its session, as far as it is known."""
        self.parent: Entry | None = parent
        self.connection: Remembered | None = None if connection is None else remembered(connection)
        self.started: float = time.time()
        self.finished: float | None = None
        self.entries: list[Entry] = []
        self.omitted: int = 0
        self.flushes_begun: int = 0
        self.flushes: list[Flush] = []
        """The flushes that are under way, innermost last."""
        self.savepoint: Savepoint | None = None
        """The innermost open one, as far as it is known."""
        self.savepoints: dict[object, Savepoint] = {}
        """Those that are open and known, by SQLAlchemy's transaction."""
        self.savepoints_begun: int = 0
        self.committed: set[object] = set()
        """The transactions that were committed, or savepoints released, and are about to end."""
        self.seen: dict[object, tuple[int, int]] = {}
        """By transaction, how many entries of its queue are recorded, and rows of the last one."""
        self.period: int = 0
        """The period of the timeline in which it has changed."""

    def view(self, entries: Sequence[Entry], max_entries: int | None) -> GroupView:
        """The group as plain values.

        Args:
            entries: Its entries.
            max_entries: How many of them are given; None: all.
        """
        shown = entries if max_entries is None else entries[:max_entries]
        end = self.finished
        if self.state == "none":
            sends = [each for each in entries if each.kind == "send"]
            ends = [each.started + each.seconds for each in sends if each.seconds is not None]
            end = max(ends) if ends and len(ends) == len(sends) else None
        return GroupView(
            number=self.number,
            state=self.state,
            at=_iso(self.started),
            milliseconds=None if end is None else (end - self.started) * 1000,
            session=None if self.session is None else self.session.__name__,
            caused_by=self._cause(),
            entries=tuple(each.view() for each in shown),
            omitted=self.omitted,
            further=len(entries) - len(shown),
        )

    def _cause(self) -> tuple[int, str] | None:
        if self.parent is None or self.parent.group is self:
            return None
        name = "" if self.connection is None else receiver_view(self.connection, "ok").name
        return self.parent.group.number, name


class Entry:
    """One send, or what was queued, silenced or stored without one."""

    __slots__ = (
        "_clock",
        "_sender",
        "calls",
        "connections",
        "context",
        "depth",
        "event",
        "flush",
        "group",
        "identities",
        "kind",
        "number",
        "parent",
        "phase",
        "rows",
        "savepoint",
        "seconds",
        "signal",
        "size",
        "started",
        "stored",
        "values",
    )

    def __init__(
        self,
        kind: EntryKind,
        group: Group,
        signal: Source,
        sender: Any,
        connections: tuple[Connection, ...],
    ) -> None:
        self.number: int = 0
        self.kind: EntryKind = kind
        self.group: Group = group
        self.signal: Source = signal
        # An instance that sends may be large: it isn't held for as long as the entry.
        self._sender: Any = sender if isinstance(sender, type) else describe_sender(sender)
        self.connections: tuple[Remembered, ...] = connections
        if connections and connections[0].address is None:
            self.connections = tuple(map(remembered, connections))
        self.started: float = time.time()
        self._clock: float = time.perf_counter()
        self.flush: int | None = group.flushes[-1].number if group.flushes else None
        self.savepoint: Savepoint | None = group.savepoint
        self.parent: Entry | None = None
        self.depth: int = 0
        self.identities: list[tuple[Any, ...] | None] = []
        """The primary keys of its rows."""
        self.event: UUID | None = None
        """The id of the event that was stored, or that a durable receiver is given."""
        self.rows: int = 1
        self.phase: str = connections[0].phase if connections else IMMEDIATE
        self.values: Mapping[str, str] = _NO_VALUES
        self.calls: dict[Connection | None, Call] = {}
        """By connection; that of a callback isn't held."""
        self.context: str | None = None
        self.stored: Mapping[str, RowState] = _NOTHING_STORED
        """What is known of stored rows, by the name of the receiver."""
        self.seconds: float | None = None
        self.size: int = ENTRY_BYTES + CALL_BYTES * len(connections)

    def end(self) -> None:
        """Note that a send is over."""
        self.seconds = time.perf_counter() - self._clock
        for call in self.calls.values():
            call.receiver = call.timed = None

    def _key(self) -> str | None:
        shown = [each for each in self.identities[:MAX_KEYS] if each is not None]
        if not shown:
            return None
        texts = [", ".join(map(shortened, each)) for each in shown]
        if len(texts) == self.rows == 1:
            return texts[0]
        several = [
            text if len(each) == 1 else f"({text})" for text, each in zip(texts, shown, strict=True)
        ]
        return ", ".join(several) + (", …" if self.rows > len(shown) else "")

    def view(self) -> EntryView:
        """The entry as plain values."""
        sender = self._sender
        savepoint = self.savepoint
        seconds = self.seconds
        return EntryView(
            number=self.number,
            kind=self.kind,
            at=_iso(self.started),
            depth=self.depth,
            parent=None if self.parent is None else self.parent.number,
            flush=self.flush,
            savepoint=None if savepoint is None else savepoint.number,
            is_undone=savepoint is not None and savepoint.is_undone,
            signal=printable(self.signal.display_name),
            sender=sender if isinstance(sender, str) else describe_sender(sender),
            key=self._key(),
            rows=self.rows,
            phase=self.phase,
            values=self.values,
            receivers=tuple(self._receivers()),
            context=self.context,
            milliseconds=None if seconds is None else seconds * 1000,
        )

    def _receivers(self) -> Iterator[ReceiverView]:
        if self.kind == "send":
            for call in tuple(self.calls.values()):
                yield call.view(self.seconds is not None)
            return
        for connection in self.connections:
            if self.kind == "silenced":
                yield receiver_view(connection, "silenced")
            elif self.kind == "queued":
                yield receiver_view(connection, self._outcome_for(connection.phase))
            else:
                yield self._stored(connection)

    def _outcome_for(self, phase: str) -> ReceiverState:
        """Whether a deferred receiver was called with the outcome of the transaction."""
        is_undone = self.savepoint is not None and self.savepoint.is_undone
        if self.group.state == "open":
            return "dropped" if is_undone and phase == AFTER_COMMIT else "queued"
        is_committed = self.group.state == "committed" and not is_undone
        return (
            "delivered"
            if phase == (AFTER_COMMIT if is_committed else AFTER_ROLLBACK)
            else "dropped"
        )

    def _stored(self, connection: Remembered) -> ReceiverView:
        is_undone = self.savepoint is not None and self.savepoint.is_undone
        if is_undone or self.group.state == "rolled back":
            return receiver_view(connection, "dropped")
        known = self.stored.get(connection.durable_name or "")
        if known is None:
            return receiver_view(connection, "waiting")
        return receiver_view(connection, known.state, detail=known.detail)

    def is_same_silence(self, other: Entry) -> bool:
        """Whether both say that the same is silenced in the same flush."""
        return (self.kind, self.flush, self.signal, self._sender, self.context) == (
            other.kind,
            other.flush,
            other.signal,
            other._sender,
            other.context,
        )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")

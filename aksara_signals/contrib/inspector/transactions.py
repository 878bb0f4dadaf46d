"""Follows the transactions, savepoints and flushes of sessions, and what they have queued.

Every flush pays for what is done here.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from threading import RLock
from typing import Any

from sqlalchemy.orm import Session, SessionTransaction

from aksara_signals.contrib.inspector.entries import MAX_KEYS, Entry, Flush, Group, Savepoint
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.delivery.delivery import Source
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm.bridge.sessions import live_sessions
from aksara_signals.orm.outcome.entries import Entry as QueueEntry
from aksara_signals.orm.outcome.entries import Queued
from aksara_signals.orm.outcome.observers import SessionObserver, session_observers
from aksara_signals.orm.outcome.queue import is_committed, queued_in
from aksara_signals.orm.outcome.rows import QueuedRows

MANY_SESSIONS = 1_000
"""With so many sessions, those whose transaction has ended are forgotten."""

_current: ContextVar[Group | None] = ContextVar("aksara_signals_inspected", default=None)
"""The group whose flush is under way, or whose deferred receivers are being called."""


class Transactions(SessionObserver):
    """The groups of the transactions that are open.

    Args:
        add: Adds an entry to the timeline, below another one.
        cause: The entry whose receiver is running, and the connection of that receiver.
        note_change: Takes a group that has changed.
    """

    def __init__(
        self,
        add: Callable[[Entry, Entry | None], object],
        cause: Callable[[], tuple[Entry | None, Connection | None]],
        note_change: Callable[[Group], object],
    ) -> None:
        self._add = add
        self._cause = cause
        self._note_change = note_change
        self._lock = RLock()
        self._groups: dict[int, tuple[weakref.ref[Session], Group]] = {}
        """The latest group of each session, by the address of the session. A further attribute of
        the session would take longer: its dict would have to grow."""

    def start(self) -> None:
        """Follow all sessions."""
        session_observers.add(self)

    def stop(self) -> None:
        """Follow them no more."""
        session_observers.remove(self)

    # -- groups --------------------------------------------------------------------------------

    def group_of(self, session: Session, *, is_finished: bool = False) -> Group:
        """The group of the transaction of a session.

        Args:
            session: The session.
            is_finished: Whether the transaction that has just ended is meant.
        """
        group = self._known(session)
        if group is None or (group.finished is not None and not is_finished):
            group = self._begun(session)
        nested = session.get_nested_transaction()
        if nested is not None:
            group.savepoint = self._savepoint_of(group, nested)
        return group

    def current(self, *, is_finished: bool = False) -> Group | None:
        """The group whose flush is under way here, or whose deferred receivers are called here."""
        group = _current.get()
        is_valid = group is not None and (
            group.finished is not None if is_finished else group.flushes
        )
        return group if is_valid else None

    def _known(self, session: Session) -> Group | None:
        known = self._groups.get(id(session))
        # The address may have been that of another session.
        return known[1] if known is not None and known[0]() is session else None

    def _begun(self, session: Session) -> Group:
        with self._lock:  # a page may be read in another thread
            known = self._known(session)
            if known is not None and known.finished is None:
                return known
            if len(self._groups) >= MANY_SESSIONS:
                self._forget_finished()
            group = Group("open", *self._cause())
            self._groups[id(session)] = weakref.ref(session), group
            return group

    def _savepoint_of(self, group: Group, nested: SessionTransaction) -> Savepoint:
        """The savepoint of a nested transaction, made with those around it if it is new."""
        found = group.savepoints.get(nested)
        if found is not None:
            return found
        outer: Any = nested.parent
        while outer is not None and not outer.nested:
            outer = outer.parent
        around = None if outer is None else self._savepoint_of(group, outer)
        with self._lock:
            if nested not in group.savepoints:
                group.savepoints_begun += 1
                group.savepoints[nested] = Savepoint(group.savepoints_begun, around)
            return group.savepoints[nested]

    def _forget_finished(self) -> None:
        for address, (session, group) in list(self._groups.items()):
            if group.finished is not None or session() is None:
                self._groups.pop(address, None)

    # -- listeners -----------------------------------------------------------------------------

    def begin_flush(self, session: Session) -> None:
        """Number the flush."""
        group = self.group_of(session)
        if group.flushes:  # a receiver flushes: what was queued before it belongs to the outer one
            self._record_queue(session, group)
        group.flushes_begun += 1
        group.flushes.append(Flush(group.flushes_begun, self._cause()[0]))
        _current.set(group)

    def note_written(self, session: Session) -> None:
        """Note that the flush ends by itself."""
        group = self._known(session)
        if group is not None and group.flushes:
            group.flushes[-1].has_written = True

    def end_flush(self, session: Session) -> None:
        """Record what was queued, and go on with the flush around it."""
        group = self._known(session)
        if group is not None and group.flushes:
            self._record_queue(session, group)
            group.flushes.pop()

    def note_commit(self, session: Session) -> None:
        """Note what the transaction that is about to end was."""
        group = self._known(session)
        if group is not None and group.finished is None:
            group.committed.add(session.get_nested_transaction() or session.get_transaction())

    def end(self, session: Session, transaction: SessionTransaction) -> None:
        """Note how a transaction or a savepoint has ended."""
        group = self._known(session)
        if group is None or group.finished is not None:
            if transaction.parent is not None or not queued_in(session):
                return
            group = self.group_of(session)
        if transaction.parent is None:
            is_kept = self._is_kept(session, group, transaction)
            with self._lock:  # nothing is recorded any more, once it is finished
                self._record_queue(session, group)
                group.finished = time.time()
            group.state = "committed" if is_kept else "rolled back"
            group.flushes.clear()
            group.seen.clear()
            group.committed.clear()
            group.savepoints.clear()
            _current.set(group)
        elif transaction.nested:
            self._record_queue(session, group)
            is_kept = self._is_kept(session, group, transaction)
            savepoint = group.savepoints.pop(transaction, None)
            if savepoint is not None:
                savepoint.is_rolled_back = not is_kept
                group.savepoint = savepoint.outer
            self._expect_moved(session, group, transaction)
        else:  # that of a flush; if it has failed in the database, nobody else says that it is over
            if group.flushes and not group.flushes[-1].has_written:
                group.flushes.pop()
            return
        self._note_change(group)

    def _is_kept(self, session: Session, group: Group, transaction: SessionTransaction) -> bool:
        """Whether a transaction that ends was committed, or a savepoint released."""
        is_kept = transaction in group.committed or is_committed(session, transaction)
        group.committed.discard(transaction)
        return is_kept

    def _expect_moved(
        self, session: Session, group: Group, transaction: SessionTransaction
    ) -> None:
        """Note that what is queued in a savepoint is about to be added to the outer one's."""
        lists = dict(queued_in(session))
        moved = lists.get(transaction)
        if not moved:
            return
        outer: Any = transaction.parent
        while outer.parent is not None and not outer.nested:
            outer = outer.parent
        group.seen.pop(transaction, None)
        group.seen[outer] = len(lists.get(outer, ())) + len(moved), _seen(moved)[1]

    # -- what is queued ------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Record what sessions have queued since the end of their last flush."""
        for session in live_sessions():
            if queued_in(session):
                group = self._known(session)
                if group is None or group.finished is None:
                    self._record_queue(session, group or self.group_of(session))

    def _record_queue(self, session: Session, group: Group) -> None:
        queued = queued_in(session)
        if queued:
            with self._lock:  # a page may be read in another thread
                if group.finished is None:
                    self._record(queued, group)

    def _record(
        self, queued: list[tuple[SessionTransaction, list[QueueEntry]]], group: Group
    ) -> None:
        for key, entries in queued:
            count, rows = group.seen.get(key, (0, 0))
            if (count, rows) == _seen(entries):
                continue
            start = count - 1 if rows else count  # the last one may have got more rows
            group.seen[key] = _seen(entries)
            parent = group.flushes[-1].cause if group.flushes else self._cause()[0]
            savepoint = self._savepoint_of(group, key) if key.nested else None
            for entry in _entries_of(group, entries[max(start, 0) :], rows):
                entry.savepoint = savepoint
                self._add(entry, parent)


def _seen(entries: list[QueueEntry]) -> tuple[int, int]:
    last = entries[-1] if entries else None
    return len(entries), len(last.keys) if isinstance(last, QueuedRows) else 0


def _entries_of(group: Group, queued: list[QueueEntry], known_rows: int) -> Iterator[Entry]:
    """The entries for what is queued.

    Args:
        group: Their group.
        queued: In order.
        known_rows: How many rows of the first one are recorded already.
    """
    sent: list[Queued] = []
    for each in queued:
        if sent and not (isinstance(each, Queued) and each.sent is sent[0].sent):
            yield _entry_of(group, sent)
            sent = []
        if isinstance(each, Queued):
            if not is_own_callback(each.sent.source, (each.connection,)):
                sent.append(each)
        elif isinstance(each, QueuedRows):
            keys = each.keys[known_rows:]
            for signal, connections in each.sends if keys else ():
                entry = Entry("queued", group, signal, each.sender, connections)
                entry.rows = len(keys)
                entry.identities = [None if key is None else key[1] for key in keys[:MAX_KEYS]]
                yield entry
        known_rows = 0
    if sent:
        yield _entry_of(group, sent)


def _entry_of(group: Group, queued: list[Queued]) -> Entry:
    sent = queued[0].sent
    connections = tuple(each.connection for each in queued)
    entry = Entry("queued", group, sent.source, sent.sender, connections)
    snapshot: Any = sent.frozen.get("instance")
    key = getattr(snapshot, "key", None)
    entry.identities = [None if key is None else key[1]]
    return entry


def is_own_callback(source: Source, connections: tuple[Connection, ...]) -> bool:
    """Whether this is a callback of ``on_commit`` or ``on_rollback`` that the library has set.

    Nobody has written it, and it would be in the way of what somebody has.
    """
    if isinstance(source, Signal):
        return False
    receiver = connections[0].receiver
    return str(getattr(receiver, "__module__", "")).startswith("aksara_signals.")

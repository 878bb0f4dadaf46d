"""Follows the transactions, savepoints and flushes of sessions, and what they have queued.

Its listeners come first where a transaction ends, before deferred receivers are called, and last
everywhere else, after the library's own have done their work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from aksara_signals.contrib.inspector.entries import MAX_KEYS, Entry, Group, Savepoint
from aksara_signals.orm.bridge.sessions import live_sessions
from aksara_signals.orm.outcome.entries import Entry as QueueEntry
from aksara_signals.orm.outcome.entries import Queued
from aksara_signals.orm.outcome.queue import is_committed, queued_in
from aksara_signals.orm.outcome.rows import QueuedRows
from aksara_signals.orm.session.current import user_session

_current: ContextVar[Group | None] = ContextVar("aksara_signals_inspected", default=None)
"""The group whose flush is under way, or whose deferred receivers are being called."""


class Transactions:
    """The groups of the transactions that are open.

    Args:
        add: Adds an entry to the timeline, below another one.
        cause: The entry whose receiver is running.
        note_change: Takes a group that has changed.
        make_group: Makes a group, of this state and with the class of this session.
    """

    def __init__(
        self,
        add: Callable[[Entry, Entry | None], object],
        cause: Callable[[], Entry | None],
        note_change: Callable[[Group], object],
        make_group: Callable[..., Group],
    ) -> None:
        self._add = add
        self._cause = cause
        self._note_change = note_change
        self._make_group = make_group
        self._name = f"_aksara_signals_inspected_{id(self)}"
        """The attribute of a session that holds the group of its transaction."""
        self._listeners: tuple[tuple[str, Callable[..., object], bool], ...] = (
            ("after_transaction_create", self._begin, False),
            ("before_flush", self._begin_flush, True),
            ("after_flush_postexec", self._end_flush, False),
            ("after_commit", self._note_commit, False),
            ("after_soft_rollback", self._note_rollback, False),
            ("after_transaction_end", self._end, True),
            ("after_transaction_end", self._forget, False),
        )

    def start(self) -> None:
        """Listen to all sessions."""
        for name, listener, is_first in self._listeners:
            event.listen(Session, name, listener, insert=is_first)

    def stop(self) -> None:
        """Listen no more."""
        for name, listener, _ in self._listeners:
            event.remove(Session, name, listener)

    # -- groups --------------------------------------------------------------------------------

    def group_of(self, session: Session) -> Group:
        """The group of the transaction of a session, or of the one that has just ended."""
        group: Group | None = vars(session).get(self._name)
        if group is None:
            group = self._make_group("open", type(user_session(session)).__name__)
            vars(session)[self._name] = group
            group.savepoint = _open_savepoint(session, group)
        return group

    def current(self) -> Group | None:
        """The group whose flush is under way, or whose deferred receivers are being called."""
        group = _current.get()
        if group is None or not (group.flushes or group.ended is not None):
            return None
        return group

    # -- listeners -----------------------------------------------------------------------------

    def _begin(self, session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None:
            vars(session).pop(self._name, None)
        elif transaction.nested:
            group: Group | None = vars(session).get(self._name)
            if group is not None:
                group.savepoint = _begun(group)

    def _begin_flush(self, session: Session, *_: object) -> None:
        group = self.group_of(session)
        if group.flushes:  # a receiver flushes: what was queued before it belongs to the outer one
            self._record_queue(session, group)
        group.flushes_begun += 1
        group.flushes.append((group.flushes_begun, self._cause()))
        _current.set(group)

    def _end_flush(self, session: Session, *_: object) -> None:
        group = self.group_of(session)
        self._record_queue(session, group)
        if group.flushes:
            group.flushes.pop()

    def _note_commit(self, session: Session) -> None:
        group: Group | None = vars(session).get(self._name)
        if group is not None:
            group.committed.add(session.get_nested_transaction() or session.get_transaction())

    def _note_rollback(self, session: Session, previous: SessionTransaction) -> None:
        group: Group | None = vars(session).get(self._name)
        if group is not None and not previous.nested:
            group.flushes.clear()  # of a flush that has failed, nobody else says that it is over

    def _end(self, session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is not None and not transaction.nested:
            return  # that of a flush
        group: Group | None = vars(session).get(self._name)
        if group is None:
            if transaction.parent is not None or not queued_in(session):
                return
            group = self.group_of(session)
        self._record_queue(session, group)
        is_kept = transaction in group.committed or is_committed(session, transaction)
        group.committed.discard(transaction)
        if transaction.parent is None:
            group.flushes.clear()
            group.state = "committed" if is_kept else "rolled back"
            group.ended = time.time()
            group.seen.clear()
            _current.set(group)
        elif group.savepoint is not None:
            group.savepoint.is_rolled_back = not is_kept
            group.savepoint = group.savepoint.outer
        self._note_change(group)

    def _forget(self, session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None:
            if vars(session).pop(self._name, None) is not None:
                _current.set(None)
            return
        group: Group | None = vars(session).get(self._name) if transaction.nested else None
        if group is not None:  # what was queued in a savepoint is in another list now
            for key, entries in queued_in(session):
                group.seen[key] = _seen(entries)

    # -- what is queued ------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Record what sessions have queued since the end of their last flush."""
        for session in live_sessions():
            if queued_in(session):
                group: Group | None = vars(session).get(self._name)
                if group is None or group.ended is None:
                    self._record_queue(session, group or self.group_of(session))

    def _record_queue(self, session: Session, group: Group) -> None:
        for key, entries in queued_in(session):
            count, rows = group.seen.get(key, (0, 0))
            if (count, rows) == _seen(entries):
                continue
            start = count - 1 if rows else count  # the last one may have got more rows
            group.seen[key] = _seen(entries)
            parent = group.flushes[-1][1] if group.flushes else self._cause()
            for entry in _entries_of(group, entries[max(start, 0) :], rows):
                self._add(entry, parent)


def _open_savepoint(session: Session, group: Group) -> Savepoint | None:
    """The savepoints that were begun before anything was recorded of the transaction."""
    found: list[SessionTransaction] = []
    transaction: Any = session.get_nested_transaction()
    while transaction is not None:
        if transaction.nested:
            found.append(transaction)
        transaction = transaction.parent
    for _ in found:
        group.savepoint = _begun(group)
    return group.savepoint


def _begun(group: Group) -> Savepoint:
    group.savepoints_begun += 1
    return Savepoint(group.savepoints_begun, group.savepoint)


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

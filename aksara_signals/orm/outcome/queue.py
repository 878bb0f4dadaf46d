"""The queue of a session: signals and callbacks until the outcome of its transaction is known.

SQLAlchemy's ``after_commit`` comes too early to deliver them. It fires for a released savepoint as
well, whose changes a later rollback may undo. And at that time the connection is still in use,
while a receiver that opens a session of its own may need it, if the pool has only one.

So the queue follows savepoints. An entry belongs to the innermost open savepoint, or else to the
transaction. When a savepoint is released, its entries go to the transaction around it. When it is
rolled back, they are marked as undone, and go there, too. Everything is delivered at the end of the
outermost transaction, when its connection is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain
from typing import Any

from sqlalchemy.orm import Session, SessionTransaction

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm.bridge.aborted import require_working_transaction
from aksara_signals.orm.bridge.handover import hand_over_outcome, in_greenlet
from aksara_signals.orm.bridge.sessions import ensure_end, live_sessions, unwatch_end, watch_end
from aksara_signals.orm.bridge.shield import CommitShield
from aksara_signals.orm.bridge.states import session_of
from aksara_signals.orm.outcome.closed_session import closed_to_receivers, refusal
from aksara_signals.orm.outcome.entries import (
    Entry,
    Queued,
    SentSignal,
    Unwritten,
    abandon,
    connections_for_commit,
    drop_unwritten,
    report_unwritten,
)
from aksara_signals.orm.outcome.net import Due, due
from aksara_signals.orm.outcome.observers import session_observers
from aksara_signals.orm.outcome.rows import QueuedRows
from aksara_signals.orm.session.current import outside_of_sessions, sync_session_of
from aksara_signals.types import Receiver

_QUEUE = "_aksara_signals_queue"
"""The attribute of a session that holds its queue, so that both have the same lifetime. The
session's ``info`` belongs to the user."""


class Queue:
    """The entries that are queued in one session."""

    __slots__ = (
        "by_transaction",
        "committed",
        "deliveries",
        "has_unwritten",
        "next",
        "shields",
    )

    def __init__(self) -> None:
        self.by_transaction: dict[SessionTransaction, list[Entry]] = {}
        """The open root transactions and savepoints, with their entries."""
        self.committed: set[SessionTransaction | None] = set()
        """Transactions and savepoints that were committed or released, and are about to end. There
        is more than one only if two tasks share the session."""
        self.next: list[Entry] = []
        """The entries for the transaction that begins next."""
        self.deliveries: int = 0
        """The number of ended transactions whose receivers are being called at the moment."""
        self.has_unwritten: bool = False
        """Whether rows of durable receivers may be among the entries."""
        self.shields: list[CommitShield] = []
        """One for each greenlet with entries: a receiver that flushes runs in another greenlet."""

    def lists(self) -> list[tuple[SessionTransaction | None, list[Entry]]]:
        """The entries by transaction; None stands for the one that begins next."""
        return [*self.by_transaction.items(), (None, self.next)]

    def entries_in(self, transaction: SessionTransaction) -> list[Entry]:
        """The entries of one transaction or savepoint, for callers to add to."""
        entries = self.by_transaction.get(transaction)
        if entries is None:
            entries = self.by_transaction[transaction] = []
            ensure_end(transaction, end_transaction)
        return entries

    def protect(self, session: Session) -> None:
        """If this is a greenlet, shield its COMMIT from cancellation."""
        if in_greenlet() and not any(shield.is_here for shield in self.shields):
            self.shields = [shield for shield in self.shields if not shield.is_over]
            self.shields.append(CommitShield(session))

    def unprotect(self) -> asyncio.CancelledError | None:
        """Remove the shields, and return a cancellation that was held back."""
        held = None
        for shield in self.shields:
            shield.remove()
            held = held or shield.held
        self.shields = []
        return held


# -- enqueueing -----------------------------------------------------------------------------------


def enqueue(session: Session, sent: SentSignal, connections: Iterable[Connection]) -> None:
    """Queue a sent signal for deferred receivers.

    Raises:
        SessionInUseError: The transaction has ended, as for :func:`entries_in`.
    """
    entries_in(session).extend(Queued(sent, connection) for connection in connections)


def entries_in(session: Session) -> list[Entry]:
    """The entries of the innermost open savepoint or the transaction, for callers to add to.

    Raises:
        SessionInUseError: The transaction has ended and its receivers are being called. A new entry
            would belong to another transaction.
    """
    queue: Queue | None = vars(session).get(_QUEUE)
    if queue is None:
        queue = vars(session)[_QUEUE] = Queue()
    elif queue.deliveries:
        raise refusal("defers receivers in", session)
    transaction = session.get_nested_transaction() or session.get_transaction()
    if transaction is None:
        if not queue.next:
            entries = queue.next
            watch_end(session, partial(abandon, entries), partial(drop_unwritten, entries))
        return queue.next
    return queue.entries_in(transaction)


def defer_sent(
    signal: Signal, arguments: Mapping[str, Any], connections: tuple[Connection, ...]
) -> bool:
    """Queue a signal that was sent by hand.

    Returns:
        Whether it was queued: its session or its instance says for which transaction.
    """
    session = arguments.get("session")
    if session is None:
        session = session_of(arguments.get("instance"))
    if session is None:
        return False
    sent = SentSignal.now(signal, arguments["sender"], arguments)
    enqueue(sync_session_of(session), sent, connections)
    return True


# -- rows of durable receivers ---------------------------------------------------------------------


def enqueue_unwritten(session: Session, unwritten: Unwritten) -> None:
    """Queue rows that can't be written now.

    Raises:
        SessionInUseError: The transaction has ended, as for :func:`entries_in`.
    """
    entries_in(session).append(unwritten)
    queue: Queue = vars(session)[_QUEUE]
    queue.has_unwritten = True


def take_unwritten(session: Session) -> list[Any]:
    """Remove and return the queued rows of the innermost open savepoint, or of the transaction.

    Those of the transaction are not written inside a savepoint, which may be rolled back.
    """
    return [row for each in _take_unwritten(session) for row in each.rows]


def forget_unwritten(session: Session) -> None:
    """Drop the queued rows of a savepoint, or of a transaction, that is rolled back."""
    _take_unwritten(session)


def _take_unwritten(session: Session) -> list[Unwritten]:
    queue: Queue | None = vars(session).get(_QUEUE)
    if queue is None or not queue.has_unwritten:
        return []
    transaction = session.get_nested_transaction() or session.get_transaction()
    entries = queue.next if transaction is None else queue.by_transaction.get(transaction, [])
    found = [each for each in entries if isinstance(each, Unwritten)]
    drop_unwritten(entries)
    return [each for each in found if each.undone_by is None]


def _write_unwritten(session: Session) -> None:
    found = _take_unwritten(session)
    if found:
        found[0].write(session, [row for each in found for row in each.rows])


# -- following transactions ------------------------------------------------------------------------


def begin_transaction(session: Session, transaction: SessionTransaction) -> None:
    """Take over the entries for the transaction that begins next."""
    queue: Queue | None = vars(session).get(_QUEUE)
    if queue is None:
        return
    if queue.deliveries:
        # A deferred receiver uses the session, which would begin a transaction silently. The new
        # transaction has to be closed first, or it would stay open in the session.
        transaction.close()
        raise refusal("used", session)
    if queue.next and transaction.parent is None:
        unwatch_end(session)
        queue.entries_in(transaction).extend(queue.next)
        queue.next.clear()


def refuse_what_is_lost(session: Session) -> None:
    """Raise before a COMMIT that the database would turn into a ROLLBACK."""
    queue: Queue | None = vars(session).get(_QUEUE)
    if queue is not None and queue.by_transaction:
        require_working_transaction(session)


def prepare_commit(session: Session, *_: object) -> None:
    """Prepare a COMMIT, or the release of a savepoint, for which anything is queued.

    Rows of durable receivers are written, and the COMMIT is shielded from cancellation.
    """
    queue: Queue | None = vars(session).get(_QUEUE)
    if queue is None:
        return
    if queue.has_unwritten:
        _write_unwritten(session)
    if queue.by_transaction:
        queue.protect(session)


def note_commit(session: Session) -> None:
    """Note that a transaction or a savepoint is about to end without a rollback."""
    for each in session_observers.all:
        each.note_commit(session)
    queue: Queue | None = vars(session).get(_QUEUE)
    if queue is not None:
        # Not delivered yet: SQLAlchemy fires after_commit for the release of a savepoint, too.
        queue.committed.add(session.get_nested_transaction() or session.get_transaction())


def undo_entries(session: Session, _: BaseException) -> None:
    """Note that the database has rolled back all that a session has written in its transaction.

    What it writes from now on may still be committed.
    """
    queue: Queue | None = vars(session).get(_QUEUE)
    if queue is not None:
        for each in chain.from_iterable(queue.by_transaction.values()):
            each.undone_by = each.undone_by or session.get_transaction()


def end_transaction(session: Session, transaction: SessionTransaction) -> None:
    """Deliver the entries of a transaction, or pass those of a savepoint on to the outer one."""
    for observer in session_observers.all:
        observer.end(session, transaction)
    queue: Queue | None = vars(session).get(_QUEUE)
    if queue is None:
        return
    is_committed = transaction in queue.committed
    queue.committed.discard(transaction)
    entries = queue.by_transaction.pop(transaction, [])
    outer = transaction.parent
    if outer is None:
        held = queue.unprotect()
        if queue.has_unwritten:
            queue.has_unwritten = False
            report_unwritten([each for each in entries if each.undone_by is None])
        _deliver(session, queue, due(entries, is_committed=is_committed))
        if held is not None:
            raise held
        return
    if not entries:
        return
    if not is_committed:
        for each in entries:
            each.undone_by = each.undone_by or transaction
    while outer.parent is not None and not outer.nested:
        outer = outer.parent  # a flush has a subtransaction in between, which has no entries
    queue.entries_in(outer).extend(entries)


Checkpoint = dict[SessionTransaction | None, int]
"""The number of entries in each transaction."""


def checkpoint(session: Session) -> Checkpoint:
    """The number of entries in a session now, to distinguish them from later ones."""
    queue: Queue | None = vars(session).get(_QUEUE)
    if queue is None:
        return {}
    lists = queue.lists()
    for _, entries in lists:
        if entries and isinstance(entries[-1], QueuedRows):
            entries[-1].is_closed = True  # later rows are distinguished from these by their entry
    return {key: len(entries) for key, entries in lists}


def queued_in(session: Session) -> list[tuple[SessionTransaction, list[Entry]]]:
    """What is queued in a session, by open transaction and savepoint, outermost first."""
    queue: Queue | None = vars(session).get(_QUEUE)
    return [] if queue is None or not queue.by_transaction else list(queue.by_transaction.items())


def is_committed(session: Session, transaction: SessionTransaction) -> bool:
    """Whether a transaction that is about to end was committed, or a savepoint released.

    Known only of those in which anything is queued.
    """
    queue: Queue | None = vars(session).get(_QUEUE)
    return queue is not None and transaction in queue.committed


def queued_for_commit() -> list[Receiver]:
    """The receivers that a commit of any session would call, one for each delivery."""
    queues: list[Queue | None] = [vars(each).get(_QUEUE) for each in live_sessions()]
    connections = [
        connection
        for queue in queues
        if queue is not None
        for _, entries in queue.lists()
        for each in entries
        for connection in connections_for_commit(each)
    ]
    return [found for each in connections if (found := each.receiver) is not None]


def deliver_since(session: Session, before: Checkpoint) -> None:
    """Deliver what was queued since a checkpoint, as if the transaction had been committed.

    Entries of a savepoint that was rolled back in the meantime are delivered as rolled back.
    """
    queue: Queue | None = vars(session).get(_QUEUE)
    if queue is None:
        return
    since: list[Entry] = []
    for key, entries in queue.lists():
        start = before.get(key, 0)
        since += entries[start:]
        del entries[start:]
    _deliver(session, queue, due(since, is_committed=True))


def _deliver(session: Session, queue: Queue, found: list[Due]) -> None:
    if not found:
        return
    queue.deliveries += 1
    try:
        with outside_of_sessions(), closed_to_receivers(session):
            hand_over_outcome(chain.from_iterable(found))
    finally:
        queue.deliveries -= 1

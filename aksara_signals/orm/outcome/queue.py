"""What waits for the outcome of a transaction: a queue per session, aware of savepoints.

Whatever is sent or registered belongs to the innermost savepoint that is open, else to the
transaction. A released savepoint hands it on to what it stands in; a rolled-back one decides it.
Everything is delivered when the outermost transaction has ended and its connection is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy.orm import Session, SessionTransaction

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm.bridge.aborted import require_working_transaction
from aksara_signals.orm.bridge.handover import hand_over_outcome, in_greenlet
from aksara_signals.orm.bridge.sessions import ensure_end, live_sessions, unwatch_close, watch_close
from aksara_signals.orm.bridge.shield import CommitShield
from aksara_signals.orm.bridge.states import session_of
from aksara_signals.orm.outcome.closed_session import closed_to_receivers, refusal
from aksara_signals.orm.outcome.entries import Entry, Told, Waiting
from aksara_signals.orm.outcome.net import due
from aksara_signals.orm.session.current import outside_of_sessions, sync_session_of
from aksara_signals.types import Receiver

__all__ = [
    "Mark",
    "deliver_since",
    "mark",
    "queued_for_commit",
    "wait",
    "waiting_in",
]

_QUEUE = "_aksara_signals_queue"
"""Under which name a session keeps what waits, so that the two go together; not in its ``info``,
which belongs to the user."""


class Queue:
    """What waits in one session."""

    __slots__ = ("by_transaction", "committed", "deliveries", "next", "shields")

    def __init__(self) -> None:
        self.by_transaction: dict[SessionTransaction, list[Entry]] = {}
        """Root transactions and savepoints that are open, with what was sent inside."""
        self.committed: set[SessionTransaction | None] = set()
        """Those that have just been committed or released, and are about to end: two only where
        two tasks share a session."""
        self.next: list[Entry] = []
        """What waits for the transaction that begins next."""
        self.deliveries: int = 0
        """How many outcomes are being delivered at the moment."""
        self.shields: list[CommitShield] = []
        """One for each greenlet that something was sent in: a receiver that flushes has its own."""

    def lists(self) -> list[tuple[SessionTransaction | None, list[Entry]]]:
        """What waits, by transaction; None stands for the one that begins next."""
        return [*self.by_transaction.items(), (None, self.next)]

    def waiting_in(self, transaction: SessionTransaction) -> list[Entry]:
        """What waits in one transaction or savepoint; to be added to."""
        waiting = self.by_transaction.get(transaction)
        if waiting is None:
            waiting = self.by_transaction[transaction] = []
            ensure_end(transaction, end_transaction)
        return waiting

    def protect(self, session: Session) -> None:
        """Keep a COMMIT in this greenlet, if it is one, from being torn."""
        if in_greenlet() and not any(shield.is_here for shield in self.shields):
            self.shields = [shield for shield in self.shields if not shield.is_over]
            self.shields.append(CommitShield(session))

    def unprotect(self) -> asyncio.CancelledError | None:
        """The transaction is over; what was held back meanwhile."""
        held = None
        for shield in self.shields:
            shield.remove()
            held = held or shield.held
        self.shields = []
        return held


# -- what waits -----------------------------------------------------------------------------------


def wait(session: Session, told: Told, connections: Iterable[Connection]) -> None:
    """Keep something that was sent for receivers that wait for the outcome.

    Raises:
        SessionInUseError: As :func:`waiting_in`.
    """
    waiting_in(session).extend(Waiting(told, connection) for connection in connections)


def waiting_in(session: Session) -> list[Entry]:
    """What waits in the innermost savepoint that is open, or in the transaction; to be added to.

    Raises:
        SessionInUseError: The transaction has ended, and its outcome is being told: what is added
            would wait for another one.
    """
    queue: Queue | None = vars(session).get(_QUEUE)
    if queue is None:
        queue = vars(session)[_QUEUE] = Queue()
    elif queue.deliveries:
        raise refusal("lets others wait in", session)
    transaction = session.get_nested_transaction() or session.get_transaction()
    if transaction is None:
        if not queue.next:
            watch_close(session, queue.next.clear)
        return queue.next
    return queue.waiting_in(transaction)


def keep_sent(
    signal: Signal, arguments: Mapping[str, Any], connections: tuple[Connection, ...]
) -> bool:
    """Keep a hand-sent signal, if its session or its instance says for which transaction."""
    session = arguments.get("session")
    if session is None:
        session = session_of(arguments.get("instance"))
    if session is None:
        return False
    told = Told.now(signal, arguments["sender"], arguments)
    wait(sync_session_of(session), told, connections)
    return True


# -- what becomes of it ---------------------------------------------------------------------------


def begin_transaction(session: Session, transaction: SessionTransaction) -> None:
    queue: Queue | None = vars(session).get(_QUEUE)
    if queue is None:
        return
    if queue.deliveries:
        transaction.close()
        raise refusal("used", session)
    if queue.next and transaction.parent is None:
        unwatch_close(session)
        queue.waiting_in(transaction).extend(queue.next)
        queue.next.clear()


def refuse_what_is_lost(session: Session) -> None:
    queue: Queue | None = vars(session).get(_QUEUE)
    if queue is not None and queue.by_transaction:
        require_working_transaction(session)


def protect_commit(session: Session, *_: object) -> None:
    queue: Queue | None = vars(session).get(_QUEUE)
    if queue is not None and queue.by_transaction:
        queue.protect(session)


def note_commit(session: Session) -> None:
    queue: Queue | None = vars(session).get(_QUEUE)
    if queue is not None:
        # Nothing is decided yet: this is sent for the release of a savepoint, too.
        queue.committed.add(session.get_nested_transaction() or session.get_transaction())


def end_transaction(session: Session, transaction: SessionTransaction) -> None:
    queue: Queue | None = vars(session).get(_QUEUE)
    if queue is None:
        return
    is_committed = transaction in queue.committed
    queue.committed.discard(transaction)
    waiting = queue.by_transaction.pop(transaction, [])
    outer = transaction.parent
    if outer is None:
        held = queue.unprotect()
        _deliver(session, queue, due(waiting, is_committed=is_committed))
        if held is not None:
            raise held
        return
    if not waiting:
        return
    if not is_committed:
        for each in waiting:
            each.undone_by = each.undone_by or transaction
    while outer.parent is not None and not outer.nested:
        outer = outer.parent  # a flush has a transaction in between
    queue.waiting_in(outer).extend(waiting)


Mark = dict[SessionTransaction | None, int]
"""How much was waiting in each transaction."""


def mark(session: Session) -> Mark:
    """Remember what waits in a session, to tell it from what will wait there."""
    queue: Queue | None = vars(session).get(_QUEUE)
    return {} if queue is None else {key: len(waiting) for key, waiting in queue.lists()}


def queued_for_commit() -> list[Receiver]:
    """The receivers of what is queued for a commit in any session, one for each delivery."""
    queues: list[Queue | None] = [vars(each).get(_QUEUE) for each in live_sessions()]
    return [
        receiver
        for queue in queues
        if queue is not None
        for _, queued in queue.lists()
        for each in queued
        if isinstance(each, Waiting)
        and each.is_due(is_committed=True)
        and (receiver := each.connection.receiver) is not None
    ]


def deliver_since(session: Session, before: Mark) -> None:
    """Deliver what has begun to wait in a session as if its transaction had been committed.

    What was rolled back to a savepoint in the meantime is then told as rolled back.
    """
    queue: Queue | None = vars(session).get(_QUEUE)
    if queue is None:
        return
    since: list[Entry] = []
    for key, waiting in queue.lists():
        start = before.get(key, 0)
        since += waiting[start:]
        del waiting[start:]
    _deliver(session, queue, due(since, is_committed=True))


def _deliver(session: Session, queue: Queue, found: list[tuple[Told, Connection]]) -> None:
    if not found:
        return
    queue.deliveries += 1
    try:
        with outside_of_sessions(), closed_to_receivers(session):
            hand_over_outcome(told.delivery(connection) for told, connection in found)
    finally:
        queue.deliveries -= 1

"""From the layer that knows sessions to receivers: what they may do, and the hand-over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

from sqlalchemy.orm import Session, SessionTransaction

from aksara_signals.dispatch.connections.routing import Plan
from aksara_signals.dispatch.delivery.delivery import Delivery
from aksara_signals.dispatch.receivers.identity import SenderGroup
from aksara_signals.dispatch.signal import Signal
from aksara_signals.exceptions import SessionInUseError
from aksara_signals.orm.bridge.aborted import connections_in_doubt, require_working_transaction
from aksara_signals.orm.bridge.handover import hand_over
from aksara_signals.orm.bridge.shadowing import (
    CONNECT,
    beneath,
    is_connected,
    restore,
    shadow,
    shadows_of,
)
from aksara_signals.orm.outcome.entries import SentSignal
from aksara_signals.orm.outcome.queue import enqueue
from aksara_signals.orm.session.current import (
    ActiveSession,
    AnySession,
    in_receiver_of,
    other_task,
)
from aksara_signals.types import Sender

Run = tuple[bool, Iterable[Delivery]]
"""Successive deliveries, with whether their receivers are async."""


class ForbiddenMethods:
    """The methods that receivers may not call of the session that writes.

    Args:
        names: Of the methods.
        remedy: How to do without them: goes on after "commit() was called by a receiver".
    """

    __slots__ = ("names", "refusals", "remedy")

    def __init__(self, names: tuple[str, ...], remedy: str) -> None:
        self.names: tuple[str, ...] = names
        self.remedy: str = remedy
        self.refusals: dict[str, Any] = {name: self._refusal(name) for name in names}
        """What stands in the place of the methods."""

    def _refusal(self, name: str) -> Callable[..., Any]:
        def forbidden(*_: object, **__: object) -> None:
            if in_receiver_of():
                raise self.error(name)
            raise _shared(f"{name}() was called", other_task())

        return forbidden

    def error(self, name: str) -> SessionInUseError:
        """The error for a receiver that calls a method."""
        return SessionInUseError(f"{name}() was called by a receiver {self.remedy}")


def _shared(what: str, by: str) -> SessionInUseError:
    """The error for a session that two tasks use at once.

    Args:
        what: What was done.
        by: The other task or thread.
    """
    return SessionInUseError(
        f"{what} by {by} while receivers of a flush of this session ran; a session is not "
        f"for two tasks or threads at once: open one for each"
    )


AFTER_WRITING = ForbiddenMethods(
    ("commit", "rollback", "close", "reset", "invalidate", "prepare"),
    "inside a flush, whose transaction is not the receiver's to end; raise an exception to roll "
    "back, or do it after the flush",
)
BEFORE_A_FLUSH = ForbiddenMethods(
    ("begin", "begin_nested", *AFTER_WRITING.names),
    "before a flush, which would lose the rows about to be written; do it in a post_ receiver "
    "(savepoints) or after the flush (all else)",
)


class _ReceiverScope:
    """The time in which receivers of a session are called.

    Args:
        session: Writes.
        forbidden: What its receivers may not do.
    """

    __slots__ = ("_forbidden", "_session", "ended_by", "methods")

    def __init__(self, session: Session, forbidden: ForbiddenMethods) -> None:
        self._session = session
        self._forbidden = forbidden
        self.ended_by: str | None = None
        """Which other task has ended the transaction meanwhile."""
        # Others may close the session: the task that has opened it may be cancelled, and leave its
        # block while the receivers of a second task run.
        self.methods: dict[str, Any] = {
            **forbidden.refusals,
            "close": self._close,
            CONNECT: self._connect,
        }

    def _close(self) -> None:
        if in_receiver_of(self._session):
            raise self._forbidden.error("close")
        beneath(self._session, self, "close")()

    def _connect(self, engine: Any, *positional: Any, **keywords: Any) -> Any:
        # While another task waits for a new connection, SQLAlchemy would fail the write, and the
        # session would be of no use to any task when that one is through.
        if not in_receiver_of(self._session) and not is_connected(self._session, engine):
            raise _shared("a connection was asked for", other_task())
        return beneath(self._session, self, CONNECT)(engine, *positional, **keywords)


def send_within(
    session: Session,
    owner: AnySession,
    forbidden: ForbiddenMethods,
    runs: Iterable[Run],
) -> None:
    """Deliver while the session is the active one for receivers, which can't end its transaction.

    Args:
        session: Writes.
        owner: The session that receivers are given.
        forbidden: What its receivers may not do.
        runs: What is delivered.

    Raises:
        SessionInUseError: A receiver ended the transaction.
        sqlalchemy.exc.DBAPIError: A receiver caught an error of the database, which then commits
            nothing any more.
        BaseException: What a receiver raised.
    """
    transaction = session.get_transaction()
    active = ActiveSession(owner)
    scope = _ReceiverScope(session, forbidden)
    shadow(session, scope)
    try:
        send(runs)
    finally:
        restore(session, scope)
        scope.methods = {}  # a circle that only the garbage collector would end
        active.end()
    if transaction is not None and session.get_transaction() is not transaction:
        if scope.ended_by is not None:
            raise _shared("the transaction of a write was ended", scope.ended_by)
        raise SessionInUseError(
            "a receiver ended the transaction of the write that called it; raise an exception to "
            "roll back, and commit after the write"
        )
    if connections_in_doubt:
        require_working_transaction(session)


def require_own_flush(session: Session) -> None:
    """Refuse a flush to another task than the one in which receivers of the session run.

    Raises:
        SessionInUseError: This is another one.
    """
    if shadows_of(session) and not in_receiver_of(session):
        raise _shared("a flush was asked for", other_task())


def note_end(session: Session, transaction: SessionTransaction) -> None:
    """Note, for the receivers that run, that another task ends the transaction meanwhile."""
    if transaction.parent is None:
        for each in shadows_of(session):
            if not in_receiver_of(session):
                each.ended_by = other_task()


def send(runs: Iterable[Run]) -> None:
    """Deliver; successive runs of async receivers are one hand-over."""
    for is_async, alike in groupby(runs, itemgetter(0)):
        hand_over(chain.from_iterable(deliveries for _, deliveries in alike), is_async)


def needs_columns(plan: Plan) -> bool:
    """Whether any receiver is given columns that it can't load by reading them.

    Those are async receivers, and deferred ones, which are given copies.
    """
    return bool(plan.deferred) or any(each.is_async for each in plan.segments)


def defer_signal(
    session: Session,
    signal: Signal,
    sender: Sender,
    payload: dict[str, Any],
    *,
    group: SenderGroup | None = None,
) -> None:
    """Queue one signal for its deferred receivers until the session's transaction has ended.

    Args:
        session: Whose transaction it is.
        signal: What is sent.
        sender: What receivers get as the sender.
        payload: All of it but ``signal`` and ``sender``.
        group: The senders that receivers may have been connected to instead of the sender.
    """
    plan = signal.plan_for(sender if group is None else group)
    if plan.deferred:
        enqueue(session, SentSignal.now(signal, sender, payload), plan.deferred)


def runs_of_signal(
    signal: Signal, sender: Sender, payload: dict[str, Any], *, group: SenderGroup | None = None
) -> Iterator[Run]:
    """The deliveries of one signal from one sender.

    Args:
        signal: What is sent.
        sender: What receivers get as the sender.
        payload: All of it but ``signal`` and ``sender``.
        group: The senders that receivers may have been connected to instead of the sender.
    """
    plan = signal.plan_for(sender if group is None else group)
    if plan:
        arguments = {"signal": signal, "sender": sender, **payload}
        for each in plan.segments:
            delivery = Delivery(signal, sender, each.sequential, arguments, each.concurrent)
            yield each.is_async, (delivery,)

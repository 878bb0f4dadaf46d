"""Calling receivers from a flush: what they may do with its session, and the hand-over to them.

A receiver that ends the transaction of the flush would break the write in progress. Another task
that uses the session meanwhile, which it shouldn't, would do the same. Both get an error while
receivers run. The messages differ, because the ways out do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy.orm import Session, SessionTransaction

from aksara_signals.dispatch.connections.matching import changes_sent
from aksara_signals.dispatch.connections.routing import Plan
from aksara_signals.dispatch.delivery.delivery import AnyDelivery, Delivery
from aksara_signals.dispatch.delivery.specialized import GENERIC, Loops, Names, loops_for
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
from aksara_signals.orm.outcome.durable import DurableSend
from aksara_signals.orm.outcome.entries import SentSignal
from aksara_signals.orm.outcome.queue import enqueue
from aksara_signals.orm.session.current import (
    ActiveSession,
    AnySession,
    in_receiver_of,
    other_task,
)
from aksara_signals.types import Drive, Sender


class Run(NamedTuple):
    """Deliveries to receivers that are called in the same way."""

    is_async: bool
    deliveries: Iterable[AnyDelivery]
    names: Names = ()
    """The names of the arguments of each delivery, if all have the same."""
    length: int = 1
    """How many deliveries there are."""


_alike = attrgetter("is_async", "names")


class ForbiddenMethods:
    """Methods of the flushing session that its receivers may not call.

    Args:
        names: The names of the methods.
        remedy: The end of the error message, after "commit() was called by a receiver".
    """

    __slots__ = ("names", "refusals", "remedy")

    def __init__(self, names: tuple[str, ...], remedy: str) -> None:
        self.names: tuple[str, ...] = names
        self.remedy: str = remedy
        self.refusals: dict[str, Any] = {name: self._refusal(name) for name in names}
        """Functions that raise, in the place of the methods."""

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
        what: What the other task did.
        by: "another task" or "another thread".
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
    """The period in which receivers of a session are called.

    Args:
        session: The flushing session.
        forbidden: The methods that its receivers may not call.
    """

    __slots__ = ("_forbidden", "_session", "ended_by", "lost_by", "methods")

    def __init__(self, session: Session, forbidden: ForbiddenMethods) -> None:
        self._session = session
        self._forbidden = forbidden
        self.ended_by: str | None = None
        """The other task or thread that has ended the transaction meanwhile, if any."""
        self.lost_by: BaseException | None = None
        """The error after which the database has rolled back the transaction, if any."""
        # Another task may close the session: the one that has opened it may be cancelled, and leave
        # its ``async with`` block while receivers run.
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
        # If another task opened a connection now, SQLAlchemy would fail the write while it waits,
        # and leave the session unusable for either task.
        if not in_receiver_of(self._session) and not is_connected(self._session, engine):
            raise _shared("a connection was requested", other_task())
        return beneath(self._session, self, CONNECT)(engine, *positional, **keywords)


def send_within(
    session: Session,
    owner: AnySession,
    forbidden: ForbiddenMethods,
    runs: Iterable[Run],
    drive: Drive | None = None,
) -> None:
    """Deliver to receivers that find the session as the active one and can't end its transaction.

    Args:
        session: The flushing session.
        owner: The session that receivers are given.
        forbidden: The methods that they may not call.
        runs: The deliveries.
        drive: Runs what async receivers return, if this is not a greenlet; else they can't wait.

    Raises:
        SessionInUseError: A receiver ended the transaction.
        sqlalchemy.exc.DBAPIError: A receiver caught an error of the database, which can't commit
            the transaction any more.
        BaseException: Any other exception that a receiver raised.
    """
    transaction = session.get_transaction()
    active = ActiveSession(owner)
    scope = _ReceiverScope(session, forbidden)
    shadow(session, scope)
    try:
        send(runs, drive)
    finally:
        restore(session, scope)
        scope.methods = {}  # a reference cycle, left to the garbage collector otherwise
        active.end()
    if transaction is not None and session.get_transaction() is not transaction:
        if scope.ended_by is not None:
            raise _shared("the transaction of a write was ended", scope.ended_by)
        raise SessionInUseError(
            "a receiver ended the transaction of the write that called it; raise an exception to "
            "roll back, and commit after the write"
        )
    if scope.lost_by is not None:
        raise scope.lost_by
    if connections_in_doubt:
        require_working_transaction(session)


def require_own_flush(session: Session) -> None:
    """Allow a flush only to the receivers that run, if receivers of the session run.

    Raises:
        SessionInUseError: Another task or thread flushes the session.
    """
    if shadows_of(session) and not in_receiver_of(session):
        raise _shared("a flush was requested", other_task())


def note_end(session: Session, transaction: SessionTransaction) -> None:
    """Note, for the receivers that run, that another task ends their transaction."""
    if transaction.parent is None:
        for each in shadows_of(session):
            if not in_receiver_of(session):
                each.ended_by = other_task()


def note_loss(session: Session, error: BaseException) -> None:
    """Note, for the writes whose receivers run, that the database has rolled them back."""
    for each in shadows_of(session):
        each.lost_by = error


def send(runs: Iterable[Run], drive: Drive | None = None) -> None:
    """Deliver. Successive runs that are alike are handed over at once."""
    if isinstance(runs, list) and len(runs) == 1:
        [run] = runs
        hand_over(run.deliveries, run.is_async, drive, _loops_of(run))
        return
    for _, alike in groupby(runs, _alike):
        _send_alike(alike, drive)


def _send_alike(runs: Iterator[Run], drive: Drive | None) -> None:
    first = next(runs)
    rest = chain.from_iterable(each.deliveries for each in runs)
    hand_over(chain(first.deliveries, rest), first.is_async, drive, _loops_of(first))


def _loops_of(run: Run) -> Loops:
    return loops_for(run.names, run.length) if run.names else GENERIC


def needs_columns(plan: Plan) -> bool:
    """Whether any receiver is given columns that it can't load by reading them.

    Async receivers can't, and neither can deferred ones, which are given copies, and durable ones
    whose rows include values.
    """
    return (
        bool(plan.deferred) or plan.includes_values or any(each.is_async for each in plan.segments)
    )


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
        session: The session of the transaction.
        signal: The signal to send.
        sender: The sender that receivers are given.
        payload: All arguments but ``signal`` and ``sender``.
        group: The senders that receivers may have been connected to instead of the sender.
    """
    plan = _plan(signal, sender, payload, group)
    if plan.deferred:
        enqueue(session, SentSignal.now(signal, sender, payload), plan.deferred)


def _plan(
    signal: Signal, sender: Sender, payload: dict[str, Any], group: SenderGroup | None
) -> Plan:
    plan = signal.plan_for(sender if group is None else group)
    return plan.judged(changes_sent(sender, payload)) if plan.is_judged else plan


def durable_send(
    signal: Signal,
    sender: Sender,
    payload: dict[str, Any],
    *,
    group: SenderGroup | None = None,
) -> list[DurableSend]:
    """What one signal sends to its durable receivers: one element, or none without receivers.

    Args:
        signal: The signal to send.
        sender: The sender that receivers are given.
        payload: All arguments but ``signal`` and ``sender``.
        group: The senders that receivers may have been connected to instead of the sender.
    """
    plan = _plan(signal, sender, payload, group)
    return [DurableSend(signal, sender, plan.durable, payload)] if plan.durable else []


def runs_of_signal(
    signal: Signal, sender: Sender, payload: dict[str, Any], *, group: SenderGroup | None = None
) -> Iterator[Run]:
    """The deliveries of one signal from one sender.

    Args:
        signal: The signal to send.
        sender: The sender that receivers are given.
        payload: All arguments but ``signal`` and ``sender``.
        group: The senders that receivers may have been connected to instead of the sender.
    """
    plan = _plan(signal, sender, payload, group)
    if plan:
        arguments = {"signal": signal, "sender": sender, **payload}
        for each in plan.segments:
            delivery = Delivery(signal, sender, each.sequential, arguments, each.concurrent)
            yield Run(each.is_async, (delivery,), tuple(arguments))

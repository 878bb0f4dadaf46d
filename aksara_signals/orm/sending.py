"""From synchronous code to receivers, in few hand-overs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

from sqlalchemy.orm import Session

from aksara_signals.dispatch.connections.routing import Plan
from aksara_signals.dispatch.delivery.delivery import Delivery, delivery_of
from aksara_signals.dispatch.receivers.identity import SenderGroup
from aksara_signals.dispatch.signal import Signal
from aksara_signals.exceptions import SessionInUseError
from aksara_signals.orm.bridge.aborted import require_working_transaction
from aksara_signals.orm.bridge.handover import hand_over
from aksara_signals.orm.bridge.sessions import (
    CONNECT,
    beneath,
    is_connected,
    permit,
    refuse,
    refusing_of,
)
from aksara_signals.orm.outcome.entries import Told
from aksara_signals.orm.outcome.queue import wait
from aksara_signals.orm.session.current import AnySession, Work, another, is_at_work
from aksara_signals.types import Sender

__all__ = [
    "AFTER_WRITING",
    "BEFORE_A_FLUSH",
    "Receiving",
    "Rules",
    "Steps",
    "keep",
    "needs_columns",
    "note_end",
    "require_own_flush",
    "send",
    "steps_of",
]

Steps = Iterator[tuple[bool, Iterable[Delivery]]]
"""Runs of deliveries, each with whether its receivers are async."""


class Rules:
    """What receivers may not do with the session that writes.

    Args:
        refused: Methods of the session.
        remedy: How to do without them: goes on after "commit() was called by a receiver".
    """

    __slots__ = ("refusals", "refused", "remedy")

    def __init__(self, refused: tuple[str, ...], remedy: str) -> None:
        self.refused: tuple[str, ...] = refused
        self.remedy: str = remedy
        self.refusals: dict[str, Any] = {name: self._refusal(name) for name in refused}

    def _refusal(self, name: str) -> Callable[..., Any]:
        def refused(*_: object, **__: object) -> None:
            raise self.error(name) if is_at_work() else _shared(f"{name}() was called", another())

        return refused

    def error(self, name: str) -> SessionInUseError:
        """The error for a receiver that calls a method."""
        return SessionInUseError(f"{name}() was called by a receiver {self.remedy}")


def _shared(what: str, who: str) -> SessionInUseError:
    """The error for a session that two tasks use at once.

    Args:
        what: Goes on with who it was.
        who: The other task or thread.
    """
    return SessionInUseError(
        f"{what} by {who} while receivers of a flush of this session ran; a session is not "
        f"for two tasks or threads at once: open one for each"
    )


AFTER_WRITING = Rules(
    ("commit", "rollback", "close", "reset", "invalidate", "prepare"),
    "inside a flush, whose transaction is not the receiver's to end; raise an exception to roll "
    "back, or do it after the flush",
)
BEFORE_A_FLUSH = Rules(
    ("begin", "begin_nested", *AFTER_WRITING.refused),
    "before a flush, which would lose the rows about to be written; do it in a post_ receiver "
    "(savepoints) or after the flush (all else)",
)


class Receiving:
    """Makes a session the one at work for the receivers called inside, and keeps it whole.

    For ``with``. A generator would be shorter, and would cost each flush twice as much.

    Args:
        session: Writes.
        owner: The session that receivers are given.
        rules: What its receivers may not do.

    Raises:
        SessionInUseError: At the end: a receiver ended the transaction.
        sqlalchemy.exc.DBAPIError: At the end: a receiver caught an error of the database, which
            then commits nothing any more.
    """

    __slots__ = (
        "_owner",
        "_rules",
        "_session",
        "_transaction",
        "_work",
        "ended_by",
        "methods",
    )

    def __init__(self, session: Session, owner: AnySession, rules: Rules) -> None:
        self._session = session
        self._owner = owner
        self._rules = rules
        self.ended_by: str | None = None
        """Who has ended the transaction meanwhile, if it wasn't a receiver."""

    def __enter__(self) -> None:
        self._transaction = self._session.get_transaction()
        self._work = Work(self._owner)
        # Others may close the session: whoever has opened it may be cancelled, and leave its block
        # while the receivers of a second task run.
        self.methods: dict[str, Any] = {**self._rules.refusals, "close": self._close}
        self.methods[CONNECT] = self._connect
        refuse(self._session, self)

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        permit(self._session, self)
        self.methods = {}  # a circle that only the garbage collector would end
        self._work.end()
        is_ended = self._session.get_transaction() is not self._transaction
        if exc_type is None and self._transaction is not None and is_ended:
            if self.ended_by is not None:
                raise _shared("the transaction of a write was ended", self.ended_by)
            raise SessionInUseError(
                "a receiver ended the transaction of the write that called it; raise an exception "
                "to roll back, and commit after the write"
            )
        if exc_type is None:
            require_working_transaction(self._session)

    def _close(self) -> None:
        if is_at_work(self._session):
            raise self._rules.error("close")
        beneath(self._session, self, "close")()

    def _connect(self, engine: Any, *positional: Any, **keywords: Any) -> Any:
        # While another task waits for a new connection, SQLAlchemy would fail the write, and the
        # session would be of no use to anybody when that task is through.
        if not is_at_work(self._session) and not is_connected(self._session, engine):
            raise _shared("a connection was asked for", another())
        connect = beneath(self._session, self, CONNECT)
        return connect(engine, *positional, **keywords)


def require_own_flush(session: Session) -> None:
    """Refuse a flush to another task than the one in which receivers of the session run.

    Raises:
        SessionInUseError: This is another one.
    """
    if refusing_of(session) and not is_at_work(session):
        raise _shared("a flush was asked for", another())


def note_end(session: Session) -> None:
    """Note for whoever has receivers run that another task ends the transaction meanwhile."""
    refusing = refusing_of(session)
    if refusing and not is_at_work(session):
        for each in refusing:
            each.ended_by = another()


def send(steps: Iterable[tuple[bool, Iterable[Delivery]]]) -> None:
    """Deliver; neighbouring runs of async receivers are one hand-over."""
    for is_async, run in groupby(steps, itemgetter(0)):
        hand_over(chain.from_iterable(deliveries for _, deliveries in run), is_async)


def needs_columns(plan: Plan) -> bool:
    """Whether any receiver is given columns that it can't load by reading them.

    Those are async receivers, and copies are all that receivers are given which wait.
    """
    return bool(plan.waiting) or any(each.is_async for each in plan.segments)


def keep(
    session: Session,
    signal: Signal,
    sender: Sender,
    payload: dict[str, Any],
    *,
    heard_as: SenderGroup | None = None,
) -> None:
    """Keep one signal for the receivers that wait for the outcome of the session's transaction.

    Args:
        session: Whose transaction it is.
        signal: What is sent.
        sender: What receivers get as the sender.
        payload: All of it but ``signal`` and ``sender``.
        heard_as: Whom receivers may have been connected to instead of the sender.
    """
    plan = signal.plan_for(sender if heard_as is None else heard_as)
    if plan.waiting:
        wait(session, Told.now(signal, sender, payload), plan.waiting)


def steps_of(
    signal: Signal, sender: Sender, payload: dict[str, Any], *, heard_as: SenderGroup | None = None
) -> Steps:
    """One signal from one sender, as steps.

    Args:
        signal: What is sent.
        sender: What receivers get as the sender.
        payload: All of it but ``signal`` and ``sender``.
        heard_as: Whom receivers may have been connected to instead of the sender.
    """
    plan = signal.plan_for(sender if heard_as is None else heard_as)
    if not plan:
        return
    arguments = {"signal": signal, "sender": sender, **payload}
    for segment in plan.segments:
        delivery = delivery_of(
            signal, sender, segment.sequential, arguments, concurrent=segment.concurrent
        )
        yield segment.is_async, [delivery]
        delivery.let_go()

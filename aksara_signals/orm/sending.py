"""From synchronous code to receivers, in few hand-overs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

from sqlalchemy.orm import Session

from aksara_signals.dispatch.envelope import Delivery, delivery_of
from aksara_signals.dispatch.identity import SenderGroup
from aksara_signals.dispatch.plan import Plan
from aksara_signals.dispatch.signal import Signal
from aksara_signals.exceptions import SessionInUseError
from aksara_signals.orm import bridge
from aksara_signals.orm.sessions import AnySession, Work
from aksara_signals.orm.told import Told
from aksara_signals.orm.transactions import wait
from aksara_signals.types import Sender

__all__ = [
    "AFTER_WRITING",
    "BEFORE_A_FLUSH",
    "Receiving",
    "Rules",
    "Steps",
    "keep",
    "needs_columns",
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

    __slots__ = ("refusals", "refused")

    def __init__(self, refused: tuple[str, ...], remedy: str) -> None:
        self.refused: tuple[str, ...] = refused
        self.refusals: dict[str, Any] = bridge.refusals(refused, remedy)


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

    __slots__ = ("_before", "_owner", "_rules", "_session", "_transaction", "_work")

    def __init__(self, session: Session, owner: AnySession, rules: Rules) -> None:
        self._session = session
        self._owner = owner
        self._rules = rules

    def __enter__(self) -> None:
        self._transaction = self._session.get_transaction()
        self._work = Work(self._owner)
        self._before = bridge.refuse(self._session, self._rules.refusals)

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        bridge.permit(self._session, self._rules.refusals, self._before)
        self._work.end()
        is_ended = self._session.get_transaction() is not self._transaction
        if exc_type is None and self._transaction is not None and is_ended:
            raise SessionInUseError(
                "a receiver ended the transaction of the write that called it; raise an exception "
                "to roll back, and commit after the write"
            )
        if exc_type is None:
            bridge.require_working_transaction(self._session)


def send(steps: Iterable[tuple[bool, Iterable[Delivery]]]) -> None:
    """Deliver; neighbouring runs of async receivers are one hand-over."""
    for is_async, run in groupby(steps, itemgetter(0)):
        bridge.hand_over(chain.from_iterable(deliveries for _, deliveries in run), is_async)


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

"""The listeners on SQLAlchemy's sessions and mappers, installed once."""

from __future__ import annotations

import weakref
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Mapper, Session, UOWTransaction

from aksara_signals.dispatch.recursion import MAX_DEPTH, describe_key, recursion_error
from aksara_signals.dispatch.registry import class_sources, senders_changed
from aksara_signals.dispatch.signal import is_any_connected
from aksara_signals.dispatch.silence import sender_problems
from aksara_signals.exceptions import AksaraSignalsError
from aksara_signals.orm import bridge, construction, partial, silence, touches, transactions
from aksara_signals.orm.audience import LIFE_CYCLE
from aksara_signals.orm.sessions import is_at_work
from aksara_signals.orm.touches import RELATIONS
from aksara_signals.orm.unit_of_work import FlushRun

__all__ = ["install"]

_RUN = "aksara_signals.run"
"""Where a flush context keeps what is known about its flush."""


class CommitFlushes:
    """The flushes of one commit, counted: SQLAlchemy repeats them until nothing is left to do."""

    __slots__ = ("count", "transaction")

    def __init__(self, transaction: Any) -> None:
        self.transaction: weakref.ref[Any] = weakref.ref(transaction)
        self.count: int = 0


_commits: weakref.WeakKeyDictionary[Session, CommitFlushes] = weakref.WeakKeyDictionary()


def install() -> None:
    """Listen to every session there is and will be, and to mapped classes as they come."""
    if event.contains(Session, "before_flush", _before_flush):
        return
    event.listen(Session, "before_commit", _before_commit)
    event.listen(Session, "before_flush", _before_flush)
    event.listen(Session, "after_flush", _after_flush)
    event.listen(Session, "after_flush_postexec", _after_flush_postexec)
    event.listen(Mapper, "after_mapper_constructed", _after_mapper_constructed)
    class_sources.append(bridge.mapped_classes)
    describe_key.append(bridge.identity_of)
    sender_problems.append(silence.problem_of)
    construction.install()
    touches.install()
    transactions.install()


_SENT = LIFE_CYCLE + RELATIONS


def is_anybody_listening() -> bool:
    """Whether anything that a flush sends is connected."""
    return is_any_connected(_SENT)


def _before_commit(session: Session) -> None:
    if is_anybody_listening():
        transaction = session.get_nested_transaction() or session.get_transaction()
        _commits[session] = CommitFlushes(transaction)


def _before_flush(
    session: Session, flush_context: UOWTransaction, instances: list[object] | None
) -> None:
    if is_anybody_listening():
        run = FlushRun(session, instances)
        try:
            run.before()
        except AksaraSignalsError:
            raise
        except BaseException:
            if not run.is_sending:  # SQLAlchemy's own error, which its flush would have met
                bridge.fail_flush(session)
            raise
        if run.has_told:
            _count(session, run)
        flush_context.attributes[_RUN] = run
    partial.reveal_touched(session)


def _after_flush(_: Session, flush_context: UOWTransaction) -> None:
    run = flush_context.attributes.get(_RUN)
    if run is not None:
        run.record(flush_context)


def _after_flush_postexec(_: Session, flush_context: UOWTransaction) -> None:
    run = flush_context.attributes.pop(_RUN, None)
    if run is not None:
        run.after()


def _after_mapper_constructed(_: Mapper[Any], cls: type) -> None:
    senders_changed()
    construction.class_mapped(cls)


def _count(session: Session, run: FlushRun) -> None:
    """Stop receivers that make every flush of a commit cause the next one."""
    commit = _commits.get(session)
    if commit is None or is_at_work(session):
        return  # a receiver's own flush stands inside a delivery, where depth is counted
    current = session.get_nested_transaction() or session.get_transaction()
    if commit.transaction() is not current:
        del _commits[session]
        return
    commit.count += 1
    if commit.count > MAX_DEPTH:
        raise recursion_error(
            f"every one of {MAX_DEPTH} successive flushes of one commit left something to flush",
            run.steps(),
        )

"""The listeners on SQLAlchemy's sessions and mappers, installed once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Mapper, Session, SessionTransaction, UOWTransaction

from aksara_signals.dispatch.judging import advisers
from aksara_signals.dispatch.recursion import describe_key
from aksara_signals.dispatch.registry import class_sources, senders_changed
from aksara_signals.dispatch.signal import is_any_connected
from aksara_signals.dispatch.silence import sender_problems
from aksara_signals.exceptions import AksaraSignalsError
from aksara_signals.orm import (
    bridge,
    construction,
    partial,
    senders,
    silence,
    touches,
    transactions,
)
from aksara_signals.orm.advice import advise
from aksara_signals.orm.audience import LIFE_CYCLE
from aksara_signals.orm.requested import forget_requests, keep_marked
from aksara_signals.orm.sending import note_end, require_own_flush
from aksara_signals.orm.touches import RELATIONS
from aksara_signals.orm.unit_of_work import FlushRun

__all__ = ["install"]

_RUN = "aksara_signals.run"
"""Where a flush context keeps what is known about its flush."""


def install() -> None:
    """Listen to every session there is and will be, and to mapped classes as they come."""
    if event.contains(Session, "before_flush", _before_flush):
        return
    event.listen(Session, "before_flush", _before_flush)
    event.listen(Session, "after_transaction_end", _note_end)
    event.listen(Session, "after_flush", _after_flush)
    event.listen(Session, "after_flush_postexec", _after_flush_postexec)
    event.listen(Mapper, "after_mapper_constructed", _after_mapper_constructed)
    class_sources.append(bridge.mapped_classes)
    describe_key.append(bridge.identity_of)
    sender_problems.append(silence.problem_of)
    advisers.append(advise)
    senders.install()
    construction.install()
    touches.install()
    transactions.install()


_SENT = LIFE_CYCLE + RELATIONS


def is_anybody_listening() -> bool:
    """Whether anything that a flush sends is connected."""
    return is_any_connected(_SENT)


def _note_end(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        note_end(session)


def _before_flush(
    session: Session, flush_context: UOWTransaction, instances: list[object] | None
) -> None:
    require_own_flush(session)
    if senders.is_check_due():
        senders.check_unwired()
    if is_anybody_listening():
        run = FlushRun(session, instances)
        try:
            run.before()
            keep_marked(session)
        except AksaraSignalsError:
            raise
        except BaseException:
            if not run.is_sending:  # SQLAlchemy's own error, which its flush would have met
                bridge.fail_flush(session)
            raise
        finally:
            forget_requests(session)
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

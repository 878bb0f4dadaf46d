"""Every listener on SQLAlchemy's sessions and mappers, in the order they fire; installed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Mapper, Session, SessionTransaction, UOWTransaction

from aksara_signals.dispatch.adapter import install_adapter
from aksara_signals.dispatch.registry import senders_changed
from aksara_signals.dispatch.signal import is_any_connected
from aksara_signals.exceptions import AksaraSignalsError
from aksara_signals.orm.adapter.adapter import sqlalchemy_adapter
from aksara_signals.orm.adapter.senders import check_unwired, is_check_due
from aksara_signals.orm.bridge.aborted import notice_errors
from aksara_signals.orm.bridge.hidden_history import reveal_touched
from aksara_signals.orm.bridge.sessions import fail_flush
from aksara_signals.orm.construction import wrap_constructor, wrap_constructors
from aksara_signals.orm.flush.recipients import LIFE_CYCLE
from aksara_signals.orm.flush.requested import forget_requests, keep_marked
from aksara_signals.orm.flush.run import FlushRun
from aksara_signals.orm.outcome.queue import (
    begin_transaction,
    end_transaction,
    note_commit,
    protect_commit,
    refuse_what_is_lost,
)
from aksara_signals.orm.relations.origins import RELATIONS, attach_listeners
from aksara_signals.orm.sending import note_end, require_own_flush

__all__ = ["install_listeners"]

_RUN = "aksara_signals.run"
"""Where a flush context keeps what is known about its flush."""


def install_listeners() -> None:
    """Listen to every session there is and will be, and to mapped classes as they come."""
    if event.contains(Session, "before_flush", _before_flush):
        return
    for target, name, listener in _LISTENERS:
        event.listen(target, name, listener)
    install_adapter(sqlalchemy_adapter)
    wrap_constructors()  # receivers may be connected already


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
    if is_check_due():
        check_unwired()
    if is_anybody_listening():
        run = FlushRun(session, instances)
        try:
            run.before()
            keep_marked(session)
        except AksaraSignalsError:
            raise
        except BaseException:
            if not run.is_sending:  # SQLAlchemy's own error, which its flush would have met
                fail_flush(session)
            raise
        finally:
            forget_requests(session)
        flush_context.attributes[_RUN] = run
    reveal_touched(session)


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
    wrap_constructor(cls)


_LISTENERS: tuple[tuple[Any, str, Callable[..., object]], ...] = (
    (Mapper, "after_mapper_constructed", _after_mapper_constructed),
    (Mapper, "after_configured", check_unwired),
    (Mapper, "after_configured", attach_listeners),
    (Session, "after_transaction_create", begin_transaction),
    (Session, "after_begin", notice_errors),
    (Session, "before_flush", _before_flush),
    (Session, "after_flush", _after_flush),
    (Session, "after_flush_postexec", _after_flush_postexec),
    # A commit flushes: what async receivers leave here, outside of its greenlet, counts as well.
    (Session, "after_flush_postexec", protect_commit),
    (Session, "before_commit", refuse_what_is_lost),
    (Session, "before_commit", protect_commit),
    (Session, "after_commit", note_commit),
    (Session, "after_transaction_end", _note_end),
    (Session, "after_transaction_end", end_transaction),
)

"""Every listener on SQLAlchemy's sessions and mappers, in the order in which they fire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Mapper, Session

from aksara_signals.dispatch.adapter import install_adapter
from aksara_signals.dispatch.registry import senders_changed
from aksara_signals.orm.adapter.adapter import sqlalchemy_adapter
from aksara_signals.orm.bridge.aborted import loss_listeners, notice_errors
from aksara_signals.orm.construction import wrap_constructor, wrap_constructors
from aksara_signals.orm.flush.recipients import forget_recipients
from aksara_signals.orm.flush.run import after_flush, after_flush_postexec, before_flush
from aksara_signals.orm.mapping.unwired import check_unwired
from aksara_signals.orm.outcome.queue import (
    begin_transaction,
    end_transaction,
    forget_unwritten,
    note_commit,
    prepare_commit,
    refuse_what_is_lost,
    undo_entries,
)
from aksara_signals.orm.relations.origins import attach_listeners
from aksara_signals.orm.sending import note_end, note_loss
from aksara_signals.orm.statements.execute import attach_execute


def install_listeners() -> None:
    """Listen to all sessions and mappers, existing and future ones. A second call does nothing."""
    if event.contains(Session, "before_flush", before_flush):
        return
    for target, name, listener in _LISTENERS:
        event.listen(target, name, listener)
    loss_listeners.extend((undo_entries, note_loss))
    install_adapter(sqlalchemy_adapter)
    for follow in (wrap_constructors, attach_listeners, forget_recipients, attach_execute):
        follow()  # receivers may have been connected before


def _after_mapper_constructed(_: Mapper[Any], cls: type) -> None:
    senders_changed()
    forget_recipients()
    wrap_constructor(cls)


_LISTENERS: tuple[tuple[Any, str, Callable[..., object]], ...] = (
    (Mapper, "after_mapper_constructed", _after_mapper_constructed),
    (Mapper, "after_configured", check_unwired),
    (Mapper, "after_configured", attach_listeners),
    (Session, "after_transaction_create", begin_transaction),
    (Session, "after_begin", notice_errors),
    (Session, "before_flush", before_flush),
    (Session, "after_flush", after_flush),
    (Session, "after_flush_postexec", after_flush_postexec),
    # A commit flushes, and only then deferred receivers may be queued; so once more after a flush.
    (Session, "after_flush_postexec", prepare_commit),
    (Session, "before_commit", refuse_what_is_lost),
    (Session, "before_commit", prepare_commit),
    (Session, "after_rollback", forget_unwritten),
    (Session, "after_commit", note_commit),
    (Session, "after_transaction_end", note_end),
    (Session, "after_transaction_end", end_transaction),
)

"""Sessions: what they have to write, what they are doing, and when they end."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.orm import (
    Session,
    SessionTransaction,
    UOWTransaction,
)
from sqlalchemy.orm.session import (
    SessionTransactionState,
    _sessions,
)

from aksara_signals.orm.bridge.states import State


def live_sessions() -> list[Session]:
    """Every session of this process that somebody still refers to, oldest first."""
    return [session for _, session in sorted(_sessions.items())]


def is_flushing(session: Session) -> bool:
    """Whether a flush is under way that another one can't join."""
    return bool(session._flushing)


def is_marked_deleted(session: Session, state: State) -> bool:
    """Whether the next flush deletes the row of an instance, as far as was asked for."""
    return state in session._deleted


_COMMITTING = (SessionTransactionState.PREPARED, SessionTransactionState.COMMITTED)


def is_committing(session: Session) -> bool | None:
    """Whether COMMIT is being sent for the session's outermost transaction, or has been.

    None if there is no transaction.
    """
    transaction = session.get_transaction()
    return None if transaction is None else transaction._state in _COMMITTING


def ensure_end(
    transaction: SessionTransaction, end: Callable[[Session, SessionTransaction], None]
) -> None:
    """Have ``after_transaction_end`` of one transaction made up for if SQLAlchemy skips it.

    It is sent behind the ROLLBACK of ``close()``, which raises if the connection is lost. By then
    the session has let go of the transaction, which nothing will ever end again.

    Args:
        transaction: A root transaction or a savepoint.
        end: The listener; called although it was called already if something else has raised.
    """
    session, close = transaction.session, transaction.close

    def close_to_the_end(invalidate: bool = False) -> None:
        try:
            close(invalidate)
        except BaseException:
            if not _is_open(session, transaction):  # else close() was refused
                del namespace["close"]
                end(session, transaction)
            raise
        del namespace["close"]  # a circle that only the garbage collector would end

    namespace = vars(transaction)
    namespace["close"] = close_to_the_end


def _is_open(session: Session, transaction: SessionTransaction) -> bool:
    current = session._transaction
    return current is not None and transaction in current._iterate_self_and_parents()


@contextmanager
def flushable(session: Session, is_receiver: Callable[[], bool]) -> Iterator[None]:
    """Let receivers flush although the flush that sends to them is not quite over.

    At ``after_flush_postexec`` everything is written and the instances are clean; SQLAlchemy's
    flag against re-entrance is all that stands in the way of a nested flush.

    Args:
        session: Flushing.
        is_receiver: Whether the code that asks is one of those receivers. To another task the
            session goes on flushing, and SQLAlchemy answers it as ever.
    """
    before = session._flushing
    lifted: Any = _LiftedFlag(is_receiver)
    session._flushing = lifted
    try:
        yield
    finally:
        session._flushing = before


def fail_flush(session: Session) -> None:
    """Leave a session as an error in the middle of its flush does, not one before it.

    The transaction, or the savepoint, is rolled back, and ``rollback()`` has to be called before
    the session is used again.

    Raises:
        sqlalchemy.exc.PendingRollbackError: It should have been called before this flush.
    """
    session._autobegin_t()._begin().rollback(_capture_exception=True)


class _LiftedFlag:
    """Whether a session is flushing, as seen by whoever asks."""

    __slots__ = ("_is_receiver",)

    def __init__(self, is_receiver: Callable[[], bool]) -> None:
        self._is_receiver = is_receiver

    def __bool__(self) -> bool:
        return not self._is_receiver()


_CLOSE = "_close_impl"
"""What ``close()``, ``reset()`` and ``invalidate()`` of a session come to."""


def watch_close(session: Session, closed: Callable[[], None]) -> None:
    """Have something called once when a session is closed, reset or invalidated.

    There is no event for it.
    """
    reference = weakref.ref(session)  # else a circle that only the garbage collector would end

    def close(*positional: Any, **keywords: Any) -> None:
        closed()
        session = reference()
        if session is not None:
            unwatch_close(session)
            type(session)._close_impl(session, *positional, **keywords)

    vars(session)[_CLOSE] = close


def unwatch_close(session: Session) -> None:
    """Undo :func:`watch_close`."""
    vars(session).pop(_CLOSE, None)


def pending_states(
    session: Session,
) -> tuple[list[tuple[State, object]], list[State], dict[State, object]]:
    """What a session has to write.

    Returns:
        The new states with their instances, in the order they were added; the persistent states
        that were modified, without those that will be deleted; and the states that were marked as
        deleted, with their instances.
    """
    deleted = session._deleted
    modified = [state for state in session._dirty_states if state not in deleted]
    return list(session._new.items()), modified, dict(deleted)


def has_nothing_but(session: Session, states: dict[State, Any]) -> bool:
    """Whether all that a session has to write are new and modified states among these."""
    known = states.keys()
    return (
        not session._deleted
        and session._new.keys() <= known
        and known >= set(session._dirty_states)
    )


def written_states(flush_context: UOWTransaction) -> tuple[dict[State, bool], set[Any]]:
    """What a flush has written.

    Returns:
        The states, each with whether it was a DELETE; and the identity keys of deleted objects
        whose rows the flush has kept for new objects.
    """
    written: dict[State, bool] = {}
    taken_over: set[Any] = set()
    for state, (is_delete, list_only) in flush_context.states.items():
        # A row switch turns the deleted half into list-only: its row is gone all the same.
        if is_delete or not list_only:
            written[state] = is_delete
            if list_only:
                taken_over.add(state.key)
    return written, taken_over

"""What a session has to write, what it is doing, and when it is closed."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
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
    """Every live session of this process, oldest first."""
    # The references are copied at once: other threads open and close sessions meanwhile.
    references: list[Any] = sorted(_sessions.valuerefs(), key=lambda each: each.key)
    return [session for each in references if (session := each()) is not None]


def is_flushing(session: Session) -> bool:
    """Whether a flush is under way, so that another one would raise."""
    return bool(session._flushing)


def is_marked_deleted(session: Session, state: State) -> bool:
    """Whether an instance was given to ``session.delete()``, or reached by its cascade."""
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
    """Call an ``after_transaction_end`` listener for a transaction, even if SQLAlchemy skips it.

    ``close()`` fires that event after its ROLLBACK, which raises if the connection is lost. By then
    the session has detached the transaction, so the event would never come.

    Args:
        transaction: A root transaction or a savepoint.
        end: The listener. It is called twice if the error comes from something after the event.
    """
    session, close = transaction.session, transaction.close

    def close_to_the_end(invalidate: bool = False) -> None:
        try:
            close(invalidate)
        except BaseException:
            if not _is_open(session, transaction):  # otherwise close() was refused
                del namespace["close"]
                end(session, transaction)
            raise
        del namespace["close"]  # a reference cycle, left to the garbage collector otherwise

    namespace = vars(transaction)
    namespace["close"] = close_to_the_end


def _is_open(session: Session, transaction: SessionTransaction) -> bool:
    current = session._transaction
    return current is not None and transaction in current._iterate_self_and_parents()


class flushable:  # noqa: N801 - used like a function; @contextmanager is felt in each flush
    """Allow post receivers to flush, although the flush that calls them is not quite over.

    At ``after_flush_postexec`` everything is written and the instances are clean. Only SQLAlchemy's
    flag against re-entrance prevents a nested flush.

    Args:
        session: The flushing session.
        is_receiver: Returns whether the current code is one of the receivers. To any other task the
            session is still flushing.
    """

    __slots__ = ("_before", "_is_receiver", "_session")

    def __init__(self, session: Session, is_receiver: Callable[[], bool]) -> None:
        self._session = session
        self._is_receiver = is_receiver

    def __enter__(self) -> None:
        self._before = self._session._flushing
        lifted: Any = _LiftedFlag(self._is_receiver)
        self._session._flushing = lifted

    def __exit__(self, *_: object) -> None:
        self._session._flushing = self._before


def fail_flush(session: Session) -> None:
    """Put a session in the state in which an error in the middle of a flush leaves it.

    An error in ``before_flush`` would leave it usable. Here the transaction, or the savepoint, is
    rolled back, and ``rollback()`` has to be called before the session is used again.

    Raises:
        sqlalchemy.exc.PendingRollbackError: ``rollback()`` was due before this flush already.
    """
    session._autobegin_t()._begin().rollback(_capture_exception=True)


class _LiftedFlag:
    """The value of a session's flag against nested flushes: false inside its receivers only."""

    __slots__ = ("_is_receiver",)

    def __init__(self, is_receiver: Callable[[], bool]) -> None:
        self._is_receiver = is_receiver

    def __bool__(self) -> bool:
        return not self._is_receiver()


_CLOSE = "_close_impl"
"""The method that ``close()``, ``reset()`` and ``invalidate()`` of a session call."""
_ROLLBACK = "rollback"


def watch_end(
    session: Session, closed: Callable[[], object], rolled_back: Callable[[], bool]
) -> None:
    """Call a function when a session that has no transaction is closed or rolled back.

    SQLAlchemy has no event for it: there is nothing that ends.

    Args:
        session: The session.
        closed: Called once, when the session is closed, reset or invalidated.
        rolled_back: Called by each ``rollback()``; returns whether to go on watching.
    """
    reference = weakref.ref(session)  # a strong one would be a cycle for the garbage collector

    def close(*positional: Any, **keywords: Any) -> None:
        closed()
        session = reference()
        if session is not None:
            unwatch_end(session)
            type(session)._close_impl(session, *positional, **keywords)

    namespace = vars(session)
    namespace[_CLOSE] = close
    # There may be a mock of the user's, or the method that receivers get instead.
    namespace.setdefault(_ROLLBACK, _WatchedRollback(reference, rolled_back))


def unwatch_end(session: Session) -> None:
    """Undo :func:`watch_end`."""
    namespace = vars(session)
    namespace.pop(_CLOSE, None)
    if isinstance(namespace.get(_ROLLBACK), _WatchedRollback):
        del namespace[_ROLLBACK]


class _WatchedRollback:
    """Stands for ``rollback()`` of a session that has no transaction."""

    __slots__ = ("_reference", "_rolled_back")

    def __init__(
        self, reference: Callable[[], Session | None], rolled_back: Callable[[], bool]
    ) -> None:
        self._reference = reference
        self._rolled_back = rolled_back

    def __call__(self) -> None:
        is_watched = self._rolled_back()
        session = self._reference()
        if session is not None:
            if not is_watched:
                unwatch_end(session)
            type(session).rollback(session)


def pending_states(
    session: Session,
) -> tuple[list[tuple[State, object]], list[State], dict[State, object]]:
    """The instances that a session has to write.

    Returns:
        The new states with their instances, in the order they were added. The modified persistent
        states, without deleted ones. And the deleted states, with their instances.
    """
    deleted = session._deleted
    modified = [state for state in session._dirty_states if state not in deleted]
    return list(session._new.items()), modified, dict(deleted)


def only_new(session: Session) -> dict[State, object] | None:
    """The new states with their instances, if a session has nothing else to write; else None."""
    if session._deleted or session.identity_map._modified:
        return None
    return dict(session._new)


def has_nothing_but(
    session: Session, states: Mapping[State, Any], is_delete: Callable[[State], bool] | None = None
) -> bool:
    """Whether a session has nothing to write but these states.

    Args:
        session: The session.
        states: The new, modified and deleted states.
        is_delete: Whether one of them is deleted; without it, none is.
    """
    known = states.keys()
    deleted = session._deleted
    if deleted and not (is_delete and deleted.keys() <= known and all(map(is_delete, deleted))):
        return False
    return session._new.keys() <= known and known >= session.identity_map._modified


def written_all(flush_context: UOWTransaction, new: Mapping[State, object]) -> bool:
    """Whether a flush has inserted the rows of these states, and has written nothing else."""
    written = flush_context.states
    if len(written) != len(new):
        return False
    inserted = (False, False)  # not deleted, and not only listed
    return all(written.get(state) == inserted and state.key is None for state in new)


def written_states(flush_context: UOWTransaction) -> tuple[dict[State, bool], set[Any]]:
    """The rows that a flush has written, as its own record has them.

    Returns:
        The states, each with whether it was a DELETE. And the identity keys of deleted objects
        whose rows the flush has kept for new objects with the same key (row switches).
    """
    written: dict[State, bool] = {}
    taken_over: set[Any] = set()
    for state, (is_delete, list_only) in flush_context.states.items():
        # After a row switch, the deleted object is only listed: its row was updated for the new
        # one. For receivers it is deleted.
        if is_delete or not list_only:
            written[state] = is_delete
            if list_only:
                taken_over.add(state.key)
    return written, taken_over

"""Sessions: what they are at, and what receivers may not do with them."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

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

from aksara_signals.exceptions import SessionInUseError
from aksara_signals.orm.bridge.states import State

__all__ = [
    "deleted_states",
    "dirty_states",
    "ensure_end",
    "fail_flush",
    "flushable",
    "has_nothing_but",
    "is_committing",
    "is_flushing",
    "live_sessions",
    "new_states",
    "permit",
    "refusals",
    "refuse",
    "row_count",
    "taken_over_rows",
    "written_states",
]


Namespace = dict[str, Any]


def live_sessions() -> list[Session]:
    """Every session of this process that somebody still refers to, oldest first."""
    return [session for _, session in sorted(_sessions.items())]


def is_flushing(session: Session) -> bool:
    """Whether a flush is under way that another one can't join."""
    return session._flushing


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
def flushable(session: Session) -> Iterator[None]:
    """Let receivers flush although the flush that sends to them is not quite over.

    At ``after_flush_postexec`` everything is written and the instances are clean; SQLAlchemy's
    flag against re-entrance is all that stands in the way of a nested flush.
    """
    before = session._flushing
    session._flushing = False
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


def refusals(methods: tuple[str, ...], remedy: str) -> Namespace:
    """What :func:`refuse` puts in the place of methods of a session."""
    return {name: _refusal(name, remedy) for name in methods}


def refuse(session: Session, methods: Namespace) -> Namespace:
    """Refuse methods of a session while its receivers run, before they can do any harm.

    The methods are shadowed on the session itself: an event would come too late for ``rollback()``
    and ``close()``. AsyncSession and scoped sessions call the same ones.

    Returns:
        What has to be given to :func:`permit`.
    """
    namespace = vars(session)
    before = {}
    if not namespace.keys().isdisjoint(methods):
        before = {name: namespace[name] for name in methods if name in namespace}
    namespace.update(methods)
    return before


def permit(session: Session, methods: Namespace, before: Namespace) -> None:
    """Undo :func:`refuse`."""
    namespace = vars(session)
    for name in methods:
        namespace.pop(name, None)
    namespace.update(before)


def _refusal(name: str, remedy: str) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> None:
        raise SessionInUseError(f"{name}() was called by a receiver {remedy}")

    return refuse


def row_count(session: Session, statement: Any) -> int:
    """Execute one UPDATE or DELETE, and count the rows that it matched."""
    result: Any = session.execute(statement)
    return int(result.rowcount)


def new_states(session: Session) -> list[tuple[State, object]]:
    """The states that will be inserted with their instances, in the order they were added."""
    return list(session._new.items())


def dirty_states(session: Session) -> list[State]:
    """The persistent states that were modified, without those that will be deleted."""
    deleted = session._deleted
    return [state for state in session._dirty_states if state not in deleted]


def deleted_states(session: Session) -> dict[State, object]:
    """The states that were marked as deleted, with their instances."""
    return dict(session._deleted)


def has_nothing_but(session: Session, states: dict[State, Any]) -> bool:
    """Whether all that a session has to write are new and modified states among these."""
    known = states.keys()
    return (
        not session._deleted
        and session._new.keys() <= known
        and known >= set(session._dirty_states)
    )


def taken_over_rows(flush_context: UOWTransaction) -> set[Any]:
    """The identity keys of deleted objects whose rows a flush has kept for new objects."""
    return {
        state.key
        for state, (is_delete, list_only) in flush_context.states.items()
        if is_delete and list_only
    }


def written_states(flush_context: UOWTransaction) -> Iterator[tuple[State, bool]]:
    """The states that a flush has written, and whether each was a DELETE."""
    # A row switch turns the deleted half into list-only: its row is gone all the same.
    return (
        (state, is_delete)
        for state, (is_delete, list_only) in flush_context.states.items()
        if is_delete or not list_only
    )

"""Sessions: what they are at, and what receivers may not do with them."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

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

__all__ = [
    "CONNECT",
    "beneath",
    "deleted_states",
    "dirty_states",
    "ensure_end",
    "fail_flush",
    "flushable",
    "has_nothing_but",
    "is_committing",
    "is_connected",
    "is_flushing",
    "is_marked_deleted",
    "live_sessions",
    "new_states",
    "permit",
    "refuse",
    "refusing_of",
    "row_count",
    "taken_over_rows",
    "unwatch_close",
    "watch_close",
    "written_states",
]


Namespace = dict[str, Any]


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


class Refusing(Protocol):
    """Whoever has methods of a session refused for a time."""

    @property
    def methods(self) -> Namespace:
        """What stands in the place of the session's methods."""
        ...

    ended_by: str | None
    """Who has ended the session's transaction meanwhile, if that was another task."""


_REFUSING = "_aksara_signals_refusing"
"""Under which name a session keeps who refuses methods of it at the moment, in order."""
_HIDDEN = "_aksara_signals_hidden"
"""Where it keeps attributes of the user's own that refused methods hide, a mock for example."""


def refuse(session: Session, refusing: Refusing) -> None:
    """Refuse methods of a session while its receivers run, before they can do any harm.

    The methods are shadowed on the session itself: an event would come too late for ``rollback()``
    and ``close()``. AsyncSession and scoped sessions call the same ones.

    Two tasks that share a session, which they shouldn't, may refuse its methods at the same time,
    and permit them in any order.
    """
    namespace = vars(session)
    methods = refusing.methods
    active = namespace.get(_REFUSING)
    if not namespace.keys().isdisjoint(methods):
        own = {
            name: namespace[name]
            for name in methods
            if name in namespace and not any(name in each.methods for each in active or ())
        }
        if own:
            namespace.setdefault(_HIDDEN, {}).update(own)
    if active is None:
        namespace[_REFUSING] = [refusing]
    else:
        active.append(refusing)
    namespace.update(methods)


def permit(session: Session, refusing: Refusing) -> None:
    """Undo :func:`refuse`."""
    namespace = vars(session)
    active = namespace[_REFUSING]
    active.remove(refusing)
    methods = refusing.methods
    for name in methods:
        namespace.pop(name, None)
    if _HIDDEN in namespace:
        namespace.update({name: own for name, own in namespace[_HIDDEN].items() if name in methods})
    for each in active:
        namespace.update({name: method for name, method in each.methods.items() if name in methods})
    if not active:
        del namespace[_REFUSING]
        namespace.pop(_HIDDEN, None)


def refusing_of(session: Session) -> list[Refusing]:
    """Who refuses methods of a session at the moment."""
    found: list[Refusing] = vars(session).get(_REFUSING, [])
    return found


def beneath(session: Session, refusing: Refusing, name: str) -> Callable[..., Any]:
    """The method of a session that would be there if one of those who refuse it didn't."""
    found: Callable[..., Any]
    active = refusing_of(session)
    if refusing not in active:  # it was, when another thread looked the method up
        found = getattr(session, name)
        return found
    for each in reversed(active[: active.index(refusing)]):
        if name in each.methods:
            found = each.methods[name]
            return found
    own = vars(session).get(_HIDDEN, {})
    found = own[name] if name in own else getattr(type(session), name).__get__(session)
    return found


CONNECT = "_connection_for_bind"
"""The method of a session by which statements get their connection."""


def is_connected(session: Session, engine: Any) -> bool:
    """Whether the session's transaction has its connection to an engine already."""
    transaction = session._transaction
    return transaction is not None and engine in transaction._connections


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

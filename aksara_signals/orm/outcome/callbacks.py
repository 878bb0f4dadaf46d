"""Functions that are called once the outcome of a transaction is known."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, overload

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.receivers.identity import is_class, sender_key
from aksara_signals.dispatch.receivers.naming import describe_receiver, describe_sender
from aksara_signals.dispatch.receivers.payload import CallShape
from aksara_signals.dispatch.receivers.signature import (
    is_async_receiver,
    problem_of_generators,
    problem_of_kind,
    problem_without_arguments,
)
from aksara_signals.exceptions import InvalidReceiverError
from aksara_signals.orm.mapping.registered import is_model
from aksara_signals.orm.outcome.entries import SentSignal
from aksara_signals.orm.outcome.queue import enqueue
from aksara_signals.orm.session.current import (
    AnySession,
    active_session,
    is_session,
    sync_session_of,
    user_session,
)
from aksara_signals.types import AFTER_COMMIT, AFTER_ROLLBACK


@overload
def on_commit(session: AnySession | None, callback: Callable[[], Any]) -> None: ...
@overload
def on_commit(session: Callable[[], Any], /) -> None: ...
@overload
def on_commit(*, callback: Callable[[], Any]) -> None: ...
def on_commit(session: Any = None, callback: Any = None) -> None:
    """Call a function once the transaction of a session is committed.

    The callback belongs to the innermost open savepoint. If that is rolled back, the callback is
    dropped. It is called when the outermost transaction has been committed and its connection is
    free, in order with the receivers with ``phase="after_commit"``.

    Args:
        session: If it is idle, the callback belongs to the transaction that it begins next, and is
            dropped if the session is closed, reset or invalidated before. The session may be left
            out, as in ``on_commit(callback)``, or None. Then it is the session of the receiver that
            is running, or else that of :func:`session_scope`.
        callback: A function without parameters, sync or async. An exception that it raises is
            logged and sent to :data:`on_delivery_error <aksara_signals.on_delivery_error>`, and
            isn't raised anywhere else.

    Raises:
        InvalidReceiverError: The callback can't be called, or not without arguments, or calling it
            does nothing: a generator function, a mapped class, a signal.
        InvalidOptionError: ``session`` is not a session.
        NoSessionError: No session was given, and there is none to be found.
        SessionInUseError: The session's transaction has ended, and the call comes from one of its
            deferred receivers.

    Source: Django's ``transaction.on_commit``, which on an idle session calls the function at once.
    """
    _call_back(session, callback, AFTER_COMMIT)


@overload
def on_rollback(session: AnySession | None, callback: Callable[[], Any]) -> None: ...
@overload
def on_rollback(session: Callable[[], Any], /) -> None: ...
@overload
def on_rollback(*, callback: Callable[[], Any]) -> None: ...
def on_rollback(session: Any = None, callback: Any = None) -> None:
    """Call a function once the transaction of a session is known not to be committed.

    It is called when the transaction was rolled back, or when its session was closed without a
    commit (unless it was idle: then it had no transaction). If the callback belongs to a savepoint
    that was rolled back, it is called when the outermost transaction ends, with whichever outcome.
    Everything else is as for :func:`on_commit`.
    """
    _call_back(session, callback, AFTER_ROLLBACK)


class _Registered:
    """The source of a callback's delivery, where receivers have a signal."""

    def __init__(self, display_name: str) -> None:
        self.display_name = display_name


_REGISTERED = {
    AFTER_COMMIT: _Registered("on_commit"),
    AFTER_ROLLBACK: _Registered("on_rollback"),
}


def _call_back(session: Any, callback: Any, phase: str) -> None:
    registered = _REGISTERED[phase]
    if callback is None and not is_session(session):
        session, callback = None, session
    if not callable(callback):
        raise InvalidReceiverError(
            f"{registered.display_name}() was given {describe_sender(callback)}, which can't be "
            f"called; give a function without parameters, such as "
            f"{registered.display_name}(session, lambda: notify(post.id))"
        )
    problem = (
        problem_of_generators(callback)
        or _problem_of_what_does_nothing(callback)
        or problem_without_arguments(callback)
    )
    if problem:
        raise InvalidReceiverError(
            f"{registered.display_name}() was given {describe_receiver(callback)}, which {problem}"
        )
    name = f"{registered.display_name}()"
    plain = active_session(name) if session is None else sync_session_of(session)
    connection = Connection(
        address=None,
        reference=lambda: callback,
        sender_key=sender_key(None),
        shape=CallShape(),
        phase=phase,
        is_async=is_async_receiver(callback),
    )
    enqueue(plain, SentSignal(registered, type(user_session(plain)), {}), [connection])


def _problem_of_what_does_nothing(callback: Any) -> str | None:
    """Why calling a callable would have no effect, in words that go on after "which"."""
    if type(callback) is FunctionType:
        return None
    if is_class(callback) and is_model(callback):
        return "is a mapped class, and would make an instance that is never added; give a function"
    return problem_of_kind(callback)

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
    """Have a callback called once the transaction of a session is committed.

    It belongs to the innermost savepoint that is open: rolled back, the callback is forgotten. It
    is called when the outermost transaction has been committed and its connection is free, among
    the receivers that wait with ``phase="after_commit"``, in order.

    Args:
        session: If it is idle, the transaction that it begins next is meant; the callback is
            forgotten if the session is closed, reset or invalidated before. It may be left out, as
            in ``on_commit(callback)``, or None: then it is the one at work in the receiver that is
            under way, else that of :func:`session_scope`.
        callback: Without parameters, sync or async. What it raises is logged, and reaches nobody
            but :data:`on_delivery_error <aksara_signals.on_delivery_error>`.

    Raises:
        InvalidReceiverError: The callback can't be called, or not without arguments, or does
            nothing when it is: a generator function, a mapped class, a signal.
        InvalidOptionError: What was given is no session.
        NoSessionError: It was left out, and there is none.
        SessionInUseError: A receiver that waited for the outcome of the session's transaction asks
            for it, after its end.

    Source: Django's ``transaction.on_commit``; on an idle session, that one calls back at once.
    """
    _call_back(session, callback, AFTER_COMMIT)


@overload
def on_rollback(session: AnySession | None, callback: Callable[[], Any]) -> None: ...
@overload
def on_rollback(session: Callable[[], Any], /) -> None: ...
@overload
def on_rollback(*, callback: Callable[[], Any]) -> None: ...
def on_rollback(session: Any = None, callback: Any = None) -> None:
    """Have a callback called once the transaction of a session is known not to be committed.

    That is, when it was rolled back, or its session was closed without a commit (not one that was
    idle: it had no transaction); and for what belongs to a savepoint that was rolled back, when the
    outermost transaction ends, however it does. Otherwise as :func:`on_commit`.
    """
    _call_back(session, callback, AFTER_ROLLBACK)


class _Registered:
    """What calls a callback."""

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
    """What is wrong with something that can be called, and then only makes something."""
    if type(callback) is FunctionType:
        return None
    if is_class(callback) and is_model(callback):
        return "is a mapped class, and would make an instance that nobody adds; give a function"
    return problem_of_kind(callback)

"""The session of a transaction that has ended, while its deferred receivers are called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from aksara_signals.exceptions import SessionInUseError
from aksara_signals.orm.bridge.shadowing import beneath, restore, shadow
from aksara_signals.orm.session.current import other_task

_FORBIDDEN = ("commit", "rollback", "close", "reset", "invalidate", "expunge_all")
"""What would end a session or empty it, and begin no transaction, which is refused anyway."""


class _Delivering:
    """The time in which the deferred receivers of one transaction are called."""

    __slots__ = ("ended_by", "methods", "session")

    def __init__(self, session: Session) -> None:
        self.session: Session | None = session
        """None once the time is over."""
        self.methods: dict[str, Any] = {
            name: partial(self._call, session, name) for name in _FORBIDDEN
        }
        self.ended_by: str | None = None

    def _call(self, session: Session, name: str, *positional: Any, **keywords: Any) -> Any:
        if self in _around.get():
            raise refusal(f"{name}() was called by {_RECEIVER}, on")
        return beneath(session, self, name)(*positional, **keywords)


_around: ContextVar[tuple[_Delivering, ...]] = ContextVar("aksara_signals_outcomes", default=())
"""Whose receivers run here: a receiver may commit, which has receivers in turn."""


def refusal(what: str, session: Session | None = None) -> SessionInUseError:
    """The error for whoever doesn't leave the ended session alone.

    Args:
        what: Was done; goes on with the session of the transaction that has ended.
        session: That session, if it may be another task that has done it.
    """
    if session is not None and not any(each.session is session for each in _around.get()):
        return SessionInUseError(
            f"{other_task()} {what} a session while the deferred receivers of its transaction ran; "
            f"a session is not for two tasks or threads at once: open one for each"
        )
    if session is not None:
        what = f"{_RECEIVER} {what}"
    return SessionInUseError(
        f"{what} the session of that transaction, which has ended; open a session of its own "
        f"(async with sessionmaker.begin() as session), or write through Model.objects with "
        f"bind_sessions()"
    )


_RECEIVER = "a receiver that waited for the outcome of a transaction"


@contextmanager
def closed_to_receivers(session: Session) -> Iterator[None]:
    """Refuse to receivers what would end or empty the session of whoever has committed.

    Others may do it: whoever has committed may be cancelled, and close the session while the
    receivers are called in a task of their own.
    """
    own = _Delivering(session)
    # A task that a receiver has started sees those around it as well, long after their end.
    token = _around.set((*(each for each in _around.get() if each.session is not None), own))
    shadow(session, own)
    try:
        yield
    finally:
        restore(session, own)
        own.session, own.methods = None, {}
        _around.reset(token)

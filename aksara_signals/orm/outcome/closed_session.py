"""The session of a transaction that has ended, while its deferred receivers are called.

Those receivers run inside ``commit()`` or ``rollback()`` of that session. If they used it, it would
begin a new transaction; if they ended or emptied it, the code that has committed would go on with
another session than it had.
"""

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
"""Methods that end or empty a session without beginning a transaction, which would be refused."""


class _Delivering:
    """The period in which the deferred receivers of one transaction are called."""

    __slots__ = ("ended_by", "lost_by", "methods", "session")

    def __init__(self, session: Session) -> None:
        self.session: Session | None = session
        """None after the period."""
        self.methods: dict[str, Any] = {
            name: partial(self._call, session, name) for name in _FORBIDDEN
        }
        self.ended_by: str | None = None
        self.lost_by: BaseException | None = None

    def _call(self, session: Session, name: str, *positional: Any, **keywords: Any) -> Any:
        if self in _around.get():
            raise refusal(f"{name}() was called by {_RECEIVER}, on")
        return beneath(session, self, name)(*positional, **keywords)


_around: ContextVar[tuple[_Delivering, ...]] = ContextVar("aksara_signals_outcomes", default=())
"""The periods around the current code: a receiver may commit, which calls receivers in turn."""


def refusal(what: str, session: Session | None = None) -> SessionInUseError:
    """The error for using the session of a transaction that has ended.

    Args:
        what: The beginning of the message, up to "the session of that transaction".
        session: That session, if another task may have used it; None if it was a receiver.
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


_RECEIVER = "a deferred receiver of a transaction"


@contextmanager
def closed_to_receivers(session: Session) -> Iterator[None]:
    """Make methods raise that end or empty a session, if deferred receivers call them.

    Any other code may call them. The task that has committed may be cancelled, and close the
    session while the receivers are called in a task of their own.
    """
    own = _Delivering(session)
    # The context of a task that a receiver has started may hold periods that are long over.
    token = _around.set((*(each for each in _around.get() if each.session is not None), own))
    shadow(session, own)
    try:
        yield
    finally:
        restore(session, own)
        own.session, own.methods = None, {}
        _around.reset(token)

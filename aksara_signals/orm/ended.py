"""The session of a transaction that has ended, while receivers are told of its outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy.orm import Session

from aksara_signals.exceptions import SessionInUseError
from aksara_signals.orm import bridge

__all__ = ["closed_to_receivers", "refusal"]

_REFUSED = ("commit", "rollback", "close", "reset", "invalidate", "expunge_all")
"""What would end a session or empty it, and begin no transaction, which is refused anyway."""


class _Telling:
    """The time in which receivers are told of one outcome."""

    __slots__ = ("is_over",)

    def __init__(self) -> None:
        self.is_over: bool = False


_around: ContextVar[tuple[_Telling, ...]] = ContextVar("aksara_signals_telling", default=())
"""Whose receivers run here: a receiver may commit, which has receivers in turn."""


def refusal(what: str) -> SessionInUseError:
    """The error for a receiver that doesn't leave the ended session alone.

    Args:
        what: Goes on with the session of the transaction that has ended.
    """
    return SessionInUseError(
        f"{what} the session of that transaction, which has ended; open a session of its own "
        f"(async with sessionmaker.begin() as session), or write through Model.objects with "
        f"bind_sessions()"
    )


@contextmanager
def closed_to_receivers(session: Session) -> Iterator[None]:
    """Refuse to receivers what would end or empty the session of whoever has committed.

    Others may do it: whoever has committed may be cancelled, and close the session while the
    receivers are called in a task of their own.
    """
    own = _Telling()
    # A task that a receiver has started sees those around it as well, long after their end.
    token = _around.set((*(each for each in _around.get() if not each.is_over), own))
    methods = {name: _guarded(name, getattr(session, name), own) for name in _REFUSED}
    before = bridge.refuse(session, methods)
    try:
        yield
    finally:
        bridge.permit(session, methods, before)
        own.is_over = True
        _around.reset(token)


def _guarded(name: str, proceed: Callable[..., Any], telling: _Telling) -> Callable[..., Any]:
    def guarded(*positional: Any, **keywords: Any) -> Any:
        if telling in _around.get():
            who = "a receiver that waited for the outcome of a transaction"
            raise refusal(f"{name}() was called by {who}, on")
        return proceed(*positional, **keywords)

    return guarded

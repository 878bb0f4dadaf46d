"""Which session a write goes through."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_session
from sqlalchemy.orm import Session, object_session, scoped_session

from aksara_signals.dispatch.identity import describe_sender
from aksara_signals.exceptions import InvalidOptionError, NoSessionError
from aksara_signals.orm import bridge

__all__ = [
    "AnySession",
    "at_work",
    "bind_sessions",
    "delete",
    "flush",
    "is_at_work",
    "session_scope",
    "sync_session_of",
    "user_session",
    "writing",
]

AnySession = AsyncSession | Session
"""What the user works with."""


class Work:
    """A session whose flush is delivering, in one task, for as long as it does."""

    __slots__ = ("is_over", "session", "task", "thread")

    def __init__(self, session: AnySession) -> None:
        self.session = session
        self.task = _current_task()
        self.thread = threading.get_ident()
        self.is_over = False

    @property
    def is_here(self) -> bool:
        """Whether this code runs in the receiver itself: a session is not for two tasks."""
        return (
            not self.is_over
            and self.thread == threading.get_ident()
            and self.task is _current_task()
        )


_work: ContextVar[Work | None] = ContextVar("aksara_signals_work", default=None)
_scope: ContextVar[AnySession | None] = ContextVar("aksara_signals_scope", default=None)
_factories: weakref.WeakKeyDictionary[type, Callable[..., AnySession]] = weakref.WeakKeyDictionary()


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop in this thread
        return None


def user_session(session: Session) -> AnySession:
    """The AsyncSession that a session belongs to, else the session itself."""
    return async_session(session) or session


def sync_session_of(session: Any) -> Session:
    """The plain session that does the work of any kind of session.

    Raises:
        InvalidOptionError: What was given is no session.
    """
    if isinstance(session, (async_scoped_session, scoped_session)):
        session = session()
    if isinstance(session, AsyncSession):
        return session.sync_session
    if isinstance(session, Session):
        return session
    raise InvalidOptionError(
        f"session= was given {describe_sender(session)}; it takes a Session or an AsyncSession"
    )


@contextmanager
def at_work(session: AnySession) -> Iterator[None]:
    """Make a session the one at work, for the receivers that are called inside."""
    work = Work(session)
    token = _work.set(work)
    try:
        yield
    finally:
        work.is_over = True  # a task that a receiver has started sees this one as well
        _work.reset(token)


def is_at_work(session: Session) -> bool:
    """Whether a flush of this session is delivering to the code that asks."""
    work = _work.get()
    return work is not None and not work.is_over and sync_session_of(work.session) is session


@asynccontextmanager
async def session_scope(session: AnySession) -> AsyncIterator[AnySession]:
    """Make a session the one that writes go through unless another one is given.

    Args:
        session: Stays the caller's: it is neither committed nor closed.
    """
    sync_session_of(session)
    token = _scope.set(session)
    try:
        yield session
    finally:
        _scope.reset(token)


def bind_sessions(cls: type, factory: Callable[..., AnySession]) -> None:
    """Give a class and its subclasses a factory of sessions, for writes that find no other."""
    _factories[cls] = factory


@asynccontextmanager
async def writing(instance: object, given: Any) -> AsyncIterator[Session]:
    """The session for a write of an instance.

    In this order: the one given, the instance's own, the one at work in the receiver under way,
    the one of :func:`session_scope`, one from the factory bound to the class. Only the last is
    the library's own: it is committed and closed at the end.

    Raises:
        NoSessionError: There is none.
    """
    if given is not None:
        yield sync_session_of(given)
        return
    own = object_session(instance)
    if own is not None:
        yield own
        return
    work, scope = _work.get(), _scope.get()
    if work is not None and work.is_here:
        yield sync_session_of(work.session)
        return
    if scope is not None:
        yield sync_session_of(scope)
        return
    factory = next((f for cls in type(instance).__mro__ if (f := _factories.get(cls))), None)
    if factory is None:
        raise NoSessionError(
            f"no session for an instance of {describe_sender(type(instance))}: pass session=, add "
            f"the instance to a session, write from a receiver that is under way, enter 'async "
            f"with session_scope(session)', or give the models a factory once with "
            f"{type(instance).__name__}.bind_sessions(async_sessionmaker(engine))"
        )
    session = factory(expire_on_commit=False)
    if isinstance(session, AsyncSession):
        async with session, session.begin():
            yield session.sync_session
    else:
        with session, session.begin():
            yield session


async def flush(session: Session) -> None:
    """Flush a session, or leave it to the flush that is under way."""
    if bridge.is_flushing(session):
        return  # a pre receiver writes: what it adds joins the flush that called it
    owner = user_session(session)
    if isinstance(owner, AsyncSession):
        await owner.flush()
    else:
        owner.flush()


async def delete(session: Session, instance: object) -> None:
    """Mark an instance as deleted; its cascades may have to load."""
    owner = user_session(session)
    if isinstance(owner, AsyncSession):
        await owner.delete(instance)
    else:
        owner.delete(instance)

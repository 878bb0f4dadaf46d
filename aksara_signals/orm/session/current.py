"""Which session a write goes through."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import inspect
import threading
import weakref
from asyncio import _get_running_loop
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar, Token
from types import CoroutineType
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_session
from sqlalchemy.orm import Session, object_session, scoped_session

from aksara_signals.dispatch.blocks import block
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import InvalidOptionError, NoSessionError
from aksara_signals.orm.bridge.sessions import is_flushing

AnySession = AsyncSession | Session
"""The kinds of session that users work with."""

ResultT = TypeVar("ResultT")


class ActiveSession:
    """The session whose receivers are being called in this task, until :meth:`end`.

    Operations in a receiver use it if they are given no other session.
    """

    __slots__ = ("_token", "is_over", "outer", "session", "task", "thread")

    def __init__(self, session: AnySession | None) -> None:
        self.session: AnySession | None = session
        self.task: asyncio.Task[Any] | None = _current_task()
        self.thread: int = threading.get_ident()
        self.is_over: bool = False
        self.outer: ActiveSession | None = _active_session.get()
        """The active session of the receiver that this code runs in, if any."""
        self._token: Token[ActiveSession | None] = _active_session.set(self)

    def end(self) -> None:
        """Note that the receivers have been called. To be called once."""
        self.is_over = True  # a task that a receiver has started has this object in its context
        token = self._token
        # That task may run for a long time, and its context would keep the session alive.
        self.session = self.task = self.outer = None
        del self._token
        _active_session.reset(token)

    @property
    def is_here(self) -> bool:
        """Whether this code runs in the receiver's own task: two tasks can't share a session."""
        return (
            not self.is_over
            and self.thread == threading.get_ident()
            and self.task is _current_task()
        )


_active_session: ContextVar[ActiveSession | None] = ContextVar(
    "aksara_signals_active", default=None
)

_scope: ContextVar[AnySession | None] = ContextVar("aksara_signals_scope", default=None)
_factories: weakref.WeakKeyDictionary[type, Callable[..., AnySession]] = weakref.WeakKeyDictionary()


def _current_task() -> asyncio.Task[Any] | None:
    # In a thread without an event loop, current_task() raises, which takes ten times as long.
    loop = _get_running_loop()
    return None if loop is None else asyncio.current_task(loop)


def user_session(session: Session) -> AnySession:
    """The AsyncSession that a session belongs to, else the session itself."""
    return async_session(session) or session


def is_session(given: Any) -> bool:
    """Whether a value is a session of any kind."""
    return isinstance(given, (AsyncSession, Session, async_scoped_session, scoped_session))


def sync_session_of(session: Any) -> Session:
    """The synchronous session behind any kind of session.

    Raises:
        InvalidOptionError: The value is not a session.
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
def outside_of_sessions() -> Iterator[None]:
    """Hide the active session and that of :func:`session_scope` from the code inside."""
    active, scope = ActiveSession(None), _scope.set(None)
    try:
        yield
    finally:
        _scope.reset(scope)
        active.end()


def in_receiver_of(session: Session | None = None) -> bool:
    """Whether this code runs in a receiver of a session's flush, or in a task that one started.

    Args:
        session: The session; None means any session.
    """
    active = _active_session.get()
    while active is not None:
        if active.session is not None and session in (None, sync_session_of(active.session)):
            return True
        active = active.outer
    return False


def other_task() -> str:
    """The current task or thread, in the error messages of another one."""
    return "another thread" if _current_task() is None else "another task"


@block
def session_scope(session: AnySession) -> Iterator[AnySession]:
    """Use a session for all operations inside that are given no other one.

    For a ``with`` or an ``async with`` block, or as a decorator of a sync or async function.

    Args:
        session: The session. It is neither committed nor closed.
    """
    sync_session_of(session)
    token = _scope.set(session)
    try:
        yield session
    finally:
        _scope.reset(token)


def bind_sessions(cls: type, factory: Callable[..., AnySession] | None) -> None:
    """Give a class and its subclasses a factory of sessions; None removes it."""
    if factory is None:
        _factories.pop(cls, None)
        return
    problem = _problem_of_factory(factory)
    if problem:
        raise InvalidOptionError(
            f"{cls.__name__}.bind_sessions() was given {describe_sender(factory)}, which "
            f"{problem}; give it an async_sessionmaker or a sessionmaker"
        )
    _factories[cls] = factory


def _problem_of_factory(factory: object) -> str | None:
    """Why a value can't make sessions, in words that go on after "which"."""
    if not callable(factory):
        return "makes no sessions"
    try:
        inspect.signature(factory).bind(expire_on_commit=False)
    except TypeError:
        return "can't be called with expire_on_commit=False, as it will be"
    except ValueError:  # written in C: its parameters are unknown
        return None
    return None


def session_for(
    model: type, given: Any = None, *, instance: object = None
) -> AbstractAsyncContextManager[Session]:
    """The session for an operation on a model.

    It is, in this order: the one given, the instance's own, the active session of the receiver that
    is running, the one of :func:`session_scope`, a new one from the factory bound to the class.
    Only a new one is committed and closed at the end.

    Args:
        model: The class whose rows are read or written.
        given: The ``session=`` argument of the operation.
        instance: The instance that the operation is about, if there is one.

    Raises:
        NoSessionError: There is no session.
        InvalidOptionError: ``given`` is not a session, or the factory doesn't make one.
    """
    found = _existing_session(given, instance)
    return _new_session(model) if found is None else nullcontext(found)


@asynccontextmanager
async def _new_session(model: type) -> AsyncIterator[Session]:
    """A session from the factory that is bound to a model, committed and closed at the end."""
    factory = next((f for cls in model.__mro__ if (f := _factories.get(cls))), None)
    if factory is None:
        raise NoSessionError(
            f"no session for {describe_sender(model)}: pass session=, add the instance to a "
            f"session, write from a receiver that runs inside the transaction, enter 'async with "
            f"session_scope(session)', or give the models a factory once with "
            f"{model.__name__}.bind_sessions(async_sessionmaker(engine))"
        )
    session: Any = factory(expire_on_commit=False)
    if not isinstance(session, (AsyncSession, Session)):
        if isinstance(session, CoroutineType):
            session.close()
        raise InvalidOptionError(
            f"the factory given to bind_sessions() for {describe_sender(model)} has made "
            f"{describe_sender(session)}; it must make a Session or an AsyncSession, as an "
            f"async_sessionmaker does"
        )
    if isinstance(session, AsyncSession):
        async with session, session.begin():
            yield session.sync_session
    else:
        with session, session.begin():
            yield session


def _existing_session(given: Any, instance: object) -> Session | None:
    if given is not None:
        return sync_session_of(given)
    own = None if instance is None else object_session(instance)
    if own is not None:
        return own
    active = _active_session.get()
    if active is not None and active.session is not None and active.is_here:
        return sync_session_of(active.session)
    scope = _scope.get()
    return None if scope is None else sync_session_of(scope)


def active_session(operation: str) -> Session:
    """The session of the receiver that is running, else that of :func:`session_scope`.

    Args:
        operation: The operation that needs it, for the error message.

    Raises:
        NoSessionError: There is no session.
    """
    found = _existing_session(None, None)
    if found is None:
        raise NoSessionError(
            f"{operation} was given no session, and none is active: pass the session first, "
            f"or call it in a receiver that runs inside the transaction (neither after its end nor "
            f"concurrently, and in no task of its own), or within 'async with "
            f"session_scope(session)'"
        )
    return found


async def run_sync(session: Session, function: Callable[[Session], ResultT]) -> ResultT:
    """Call a function with a session, in a greenlet if it belongs to an AsyncSession."""
    owner = user_session(session)
    if isinstance(owner, AsyncSession):
        return await owner.run_sync(function)
    return function(session)


def flush(session: Session) -> None:
    """Flush a session, or leave it to the flush that is under way."""
    if not is_flushing(session):  # otherwise this is a pre receiver, whose writes join its flush
        session.flush()

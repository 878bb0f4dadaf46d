"""What the tests of this folder throw at the library: misbehaving receivers, and where to put them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from greenlet import GreenletExit
from sqlalchemy import Column, ForeignKey, Table
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from aksara_signals import SessionInUseError, Signal, m2m_changed, post_save, pre_save, signals
from aksara_signals.dispatch.context import get_active_contexts
from aksara_signals.dispatch.delivery.frame import get_current
from aksara_signals.orm import SignalMixin, on_commit, on_rollback

SECRET = "hunter2-swordfish"

WAYS = ["send", "send_robust", "send_sync", "send_robust_sync"]


async def send(signal: Signal, way: str, sender: Any = None, **payload: Any) -> Any:
    """Send in one of the four ways."""
    sent = getattr(signal, way)(sender, **payload)
    return await sent if inspect.isawaitable(sent) else sent


class Base(SignalMixin, DeclarativeBase):
    pass


membership = Table(
    "membership",
    Base.metadata,
    Column("account_id", ForeignKey("account.id"), primary_key=True),
    Column("team_id", ForeignKey("team.id"), primary_key=True),
)


class Account(Base):
    """Shows its secrets in its ``repr``."""

    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    password: Mapped[str] = mapped_column(default=SECRET)
    token: Mapped[str] = mapped_column(default=SECRET)
    teams: Mapped[list[Team]] = relationship(secondary=membership, back_populates="accounts")

    def __repr__(self) -> str:
        return f"<Account {self.name} {self.password} {self.token}>"

    __str__ = __repr__


class Team(Base):
    __tablename__ = "team"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    accounts: Mapped[list[Account]] = relationship(secondary=membership, back_populates="teams")


# -- exceptions -----------------------------------------------------------------------------------


class Own(BaseException):
    """No Exception, and the receiver's own."""


class WithoutNotes(Exception):  # noqa: N818 - named by what is odd about it
    def add_note(self, note: str) -> None:
        raise RuntimeError("this class takes no notes")


class NotesInATuple(Exception):  # noqa: N818 - named by what is odd about it
    __notes__ = ("mine",)


class Unspeakable(Exception):  # noqa: N818 - named by what is odd about it
    """Says nothing about itself, and is neither true nor false."""

    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        raise RuntimeError("no representation")

    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")


class Empty(Exception):  # noqa: N818 - named by what is odd about it
    """False, as an empty list is."""

    def __len__(self) -> int:
        return 0


SINGLETON = ValueError("one object, raised again and again")

EXCEPTIONS: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("x"),
    "StopIteration": lambda: StopIteration("x"),
    "StopAsyncIteration": lambda: StopAsyncIteration("x"),
    "ExceptionGroup": lambda: ExceptionGroup("several", [ValueError("x")]),
    "WithoutNotes": WithoutNotes,
    "NotesInATuple": NotesInATuple,
    "Unspeakable": Unspeakable,
    "Empty": Empty,
    "a singleton": lambda: SINGLETON,
    "CancelledError": asyncio.CancelledError,
    "GeneratorExit": GeneratorExit,
    "Own": lambda: Own("x"),
    "GreenletExit": GreenletExit,
    "BaseExceptionGroup": lambda: BaseExceptionGroup("several", [Own("x")]),
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": lambda: SystemExit(3),
}

ENDS_THE_LOOP = ("KeyboardInterrupt", "SystemExit")
"""Raised in a task, these end the event loop itself: that is asyncio's rule."""


def is_same(raised: BaseException, thrown: BaseException) -> bool:
    """Whether this is what was thrown: two can't leave a coroutine or a greenlet as they are."""
    if raised is thrown:
        return True
    turned_into = {StopIteration: RuntimeError, GreenletExit: SessionInUseError}.get(type(thrown))
    return type(raised) is turned_into and raised.__cause__ is thrown


# -- places in the unit of work -------------------------------------------------------------------

Place = Callable[[Any, Any], None]
"""Connects a receiver: given the receiver and the session."""

IMMEDIATE: dict[str, Place] = {
    "pre_save": lambda bad, _: pre_save.connect(bad, sender=Account),
    "post_save": lambda bad, _: post_save.connect(bad, sender=Account),
    "concurrent": lambda bad, _: post_save.connect(bad, sender=Account, concurrent=True),
    "m2m_changed": lambda bad, _: m2m_changed.connect(bad, sender=Account.teams),
    "relation_add": lambda bad, _: signals.post_relation_add.connect(bad, sender=Account),
    "post_init": lambda bad, _: signals.post_init.connect(bad, sender=Team),
    "pre_bulk_create": lambda bad, _: signals.pre_bulk_create.connect(bad, sender=Team),
    "post_bulk_create": lambda bad, _: signals.post_bulk_create.connect(bad, sender=Team),
}
AFTER_COMMIT: dict[str, Place] = {
    "after_commit": lambda bad, _: post_save.connect(bad, sender=Account, phase="after_commit"),
    "concurrent after_commit": lambda bad, _: post_save.connect(
        bad, sender=Account, phase="after_commit", concurrent=True
    ),
    "m2m after_commit": lambda bad, _: m2m_changed.connect(
        bad, sender=Account.teams, phase="after_commit"
    ),
    "bulk after_commit": lambda bad, _: signals.post_bulk_create.connect(
        bad, sender=Team, phase="after_commit"
    ),
    "on_commit": lambda bad, session: on_commit(session, bad),
}
AFTER_ROLLBACK: dict[str, Place] = {
    "after_rollback": lambda bad, _: post_save.connect(bad, sender=Account, phase="after_rollback"),
    "on_rollback": lambda bad, session: on_rollback(session, bad),
}
IN_TASKS = ("concurrent", *AFTER_COMMIT, *AFTER_ROLLBACK)
"""Where a receiver of an AsyncSession runs in a task of the library's own."""


async def write(session: AsyncSession | Session, name: str) -> None:
    """An account in a team, and teams in bulk: every place above is reached."""

    def work(plain: Session) -> None:
        plain.add(Account(name=name, teams=[Team(name=name)]))
        plain.flush()

    if isinstance(session, AsyncSession):
        await session.run_sync(work)
    else:
        work(session)
    await Team.objects.bulk_create([Team(name=f"{name} in bulk")], session=session)


async def do(session: AsyncSession | Session, method: str) -> Any:
    """Call a method of either kind of session."""
    done = getattr(session, method)()
    return await done if inspect.isawaitable(done) else done


def assert_nothing_is_left(session: AsyncSession | Session) -> None:
    """Nothing of a delivery outlives it: no context, no refusal, no flag."""
    plain = session.sync_session if isinstance(session, AsyncSession) else session
    assert get_current() is None
    assert get_active_contexts() == ()
    assert not plain._flushing
    refused = {"commit", "rollback", "close", "reset", "invalidate", "expunge_all", "begin_nested"}
    assert not refused & vars(plain).keys()


def raising(make: Callable[[], BaseException], is_async: bool, thrown: list[BaseException]) -> Any:
    """A receiver, sync or async, that raises what ``make`` gives, and notes it."""

    def fail() -> None:
        error = make()
        thrown.append(error)
        raise error

    if is_async:

        async def failing_async(**kwargs: Any) -> None:
            fail()

        return failing_async

    def failing(**kwargs: Any) -> None:
        fail()

    return failing

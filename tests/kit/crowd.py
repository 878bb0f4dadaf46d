"""What the tests of endurance share: models, and many threads at once."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Column, ForeignKey, Integer, Table
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from aksara_signals.orm import SignalMixin
from aksara_signals.orm.outcome.queue import _QUEUE

PATIENCE_SECONDS = 60.0
"""How long anybody waits for something that must happen."""


class Base(SignalMixin, DeclarativeBase):
    pass


entry_label = Table(
    "endured_entry_label",
    Base.metadata,
    Column("entry_id", ForeignKey("endured_entry.id"), primary_key=True),
    Column("label_id", ForeignKey("endured_label.id"), primary_key=True),
)


class Entry(Base):
    __tablename__ = "endured_entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(default="")
    labels: Mapped[list[Label]] = relationship(secondary=entry_label, back_populates="entries")


class Label(Base):
    __tablename__ = "endured_label"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)
    entries: Mapped[list[Entry]] = relationship(
        secondary=entry_label, back_populates="labels", passive_deletes=True
    )


def new_base() -> type[Any]:
    """A declarative base of its own registry."""
    return type("Base", (SignalMixin, DeclarativeBase), {"__module__": __name__})


def new_class(name: str, base: type[Any] = Base) -> Any:
    """A new mapped class."""
    columns = {"id": Column(Integer, primary_key=True), "text": Column(Integer)}
    return type(name, (base,), {"__module__": __name__, "__tablename__": name.lower(), **columns})


def at_once(functions: list[Callable[[], Any]]) -> list[Any]:
    """Call each in a thread of its own, all at the same moment; what they return, in order.

    Threads take turns as often as the interpreter can.

    Raises:
        BaseExceptionGroup: What they raised.
    """
    barrier = threading.Barrier(len(functions))
    results: list[Any] = [None] * len(functions)
    errors: list[BaseException] = []

    def run(place: int) -> None:
        try:
            barrier.wait(PATIENCE_SECONDS)
            results[place] = functions[place]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(each,)) for each in range(len(functions))]
    with switching_often():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_SECONDS * 10)
    assert not any(thread.is_alive() for thread in threads), "threads wait for each other"
    if errors:
        raise BaseExceptionGroup("in threads", errors)
    return results


@contextmanager
def switching_often() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def queued(session: AsyncSession | Session) -> list[Any]:
    """Whatever a session still keeps for an outcome."""
    plain = session.sync_session if isinstance(session, AsyncSession) else session
    queue = vars(plain).get(_QUEUE)
    if queue is None:
        return []
    return [
        *queue.by_transaction,
        *queue.next,
        *queue.shields,
        *queue.committed,
        *(["delivering"] if queue.deliveries else []),
    ]


def writers() -> list[asyncio.Task[Any]]:
    """The other tasks of this event loop, such as those in which SQLAlchemy closes sessions."""
    own = asyncio.current_task()
    return [each for each in asyncio.all_tasks() if each is not own]

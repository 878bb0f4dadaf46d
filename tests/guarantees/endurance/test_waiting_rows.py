"""What rows cost that wait for the outcome of their transaction: memory for each, and steps."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

from aksara_signals import post_save
from aksara_signals.orm import SignalMixin

ROWS = 2_000
MAX_BYTES = 400
"""For each waiting row of three short columns, its values and its key included."""
MAX_STEPS = 45
"""How many more calls of functions a waiting row takes than one whose receiver is called at once: to
be taken, and to make its copy. It is 32, or 37 in a process that has run certain other tests; with
an entry for each row it was 59."""


class OwnBase(SignalMixin, DeclarativeBase):
    pass


class Columns:
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    views: Mapped[int] = mapped_column(default=0)


class Quiet(Columns, OwnBase):
    __tablename__ = "quiet"


class Waiting(Columns, OwnBase):
    __tablename__ = "waiting"


class Called(Columns, OwnBase):
    __tablename__ = "called"


def in_one_flush(session: Session, cls: Any, count: int) -> None:
    session.add_all([cls(title=f"title {each}") for each in range(count)])
    session.flush()


def in_many_flushes(session: Session, cls: Any, count: int) -> None:
    for each in range(count):
        session.add(cls(title=f"title {each}"))
        session.flush()


def by_a_statement(session: Session, cls: Any, count: int) -> None:
    rows = [{"title": f"title {each}", "views": 0} for each in range(count)]
    session.execute(insert(cls), rows)


def _receive(**kwargs: Any) -> None: ...


@pytest.fixture
def session() -> Any:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    OwnBase.metadata.create_all(engine)
    post_save.connect(_receive, sender=Waiting, phase="after_commit", statements=True)
    post_save.connect(_receive, sender=Called, statements=True)
    with Session(engine, expire_on_commit=False) as session:
        yield session
    engine.dispose()


def bytes_kept(write: Callable[..., None], session: Session, cls: type) -> int:
    """What the transaction keeps of rows whose instances are not referenced any more."""
    write(session, cls, 10)
    gc.collect()
    tracemalloc.start()
    try:
        write(session, cls, ROWS)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    session.rollback()
    return kept


@pytest.mark.parametrize("write", [in_one_flush, in_many_flushes, by_a_statement])
def test_a_waiting_row_takes_little_memory(write: Any, session: Session) -> None:
    """Its key, its values and two places in lists; everything else stands once for all rows."""
    own = bytes_kept(write, session, Waiting) - bytes_kept(write, session, Quiet)
    assert own / ROWS <= MAX_BYTES


def steps_for(session: Session, cls: type, count: int) -> int:
    """How many functions are called, of Python and of C, from the flush to the last receiver."""
    steps = 0

    def note(frame: Any, event: str, arg: Any) -> None:
        nonlocal steps
        steps += event in {"call", "c_call"}

    before = sys.getprofile()
    gc.collect()
    gc.disable()  # it would call what SQLAlchemy does when an instance goes
    sys.setprofile(note)
    try:
        in_one_flush(session, cls, count)
        session.commit()
    finally:
        sys.setprofile(before)
        gc.enable()
    return steps


def test_waiting_rows_take_the_same_steps_however_many_there_are(session: Session) -> None:
    """A few more for each than a row whose receiver is called at once: for its copy."""
    own: list[float] = []
    for cls in (Waiting, Called):
        steps_for(session, cls, 1_000)  # compiles statements, and the loops for these arguments
        few, more, most = (steps_for(session, cls, count) for count in (250, 500, 1_000))
        assert (most - more) / (more - few) == pytest.approx(2, rel=0.02)
        own.append((most - more) / 500)
    assert own[0] - own[1] <= MAX_STEPS, own

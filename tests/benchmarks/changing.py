"""UPDATE and DELETE of rows that are loaded, against plain SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator
from time import process_time
from typing import Any, Literal

from harness import Comparison, OwnTime, compare
from models import Plain, Sending, connected, look_sync, make_engine
from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from aksara_signals import post_delete, post_save, pre_delete, pre_save

ROWS = 3_000

Change = Literal["UPDATE", "DELETE"]

FUNCTIONS = (
    (pre_save, look_sync),
    (post_save, look_sync),
    (pre_delete, look_sync),
    (post_delete, look_sync),
)


def rows() -> Iterator[Comparison]:
    """One comparison each."""
    engine = make_engine()
    with connected(*FUNCTIONS):
        changes: tuple[Change, ...] = ("UPDATE", "DELETE")
        for change in changes:
            yield compare(
                f"{change} of 3,000 loaded rows, two functions, against plain SQLAlchemy",
                1.25,
                ours=changing(engine, Sending, change),
                reference=changing(engine, Plain, change),
                rounds=20,
            )
    engine.dispose()


def changing(engine: Engine, model: Any, change: Change, count: int = ROWS) -> OwnTime:
    """A job of which the change and the flush count, but not how the rows got there."""

    def once() -> float:
        with Session(engine) as session:
            written = [{"title": "x", "views": 0} for _ in range(count)]
            session.execute(insert(model.__table__), written)
            instances = session.scalars(select(model)).all()
            start = process_time()
            for instance in instances:
                if change == "UPDATE":
                    instance.title = "y"
                else:
                    session.delete(instance)
            session.flush()
            taken = process_time() - start
            session.rollback()
        return taken

    return OwnTime(once)

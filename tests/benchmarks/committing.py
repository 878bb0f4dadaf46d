"""Receivers after the commit: their time, and the memory of what is queued for them."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from time import process_time
from typing import Any

from flushing import ROWS, new
from harness import Comparison, Figure, OwnTime, compare
from models import Late, Plain, Sending, connected, look_sync, make_engine
from sqlalchemy import Engine, delete
from sqlalchemy.orm import Session

from aksara_signals import post_save


def rows() -> Iterator[Comparison | Figure]:
    """The comparison and the figure."""
    engine = make_engine()
    with (
        connected((post_save, look_sync)),
        connected((post_save, look_sync), sender=Late, phase="after_commit"),
    ):
        yield compare(
            "a commit of 10,000 rows, one function after it, against plain SQLAlchemy",
            1.2,
            ours=committing(engine, Late, ROWS),
            reference=committing(engine, Plain, ROWS),
            peers={"one function before it": committing(engine, Sending, ROWS)},
            at_most={"one function before it": 1.1},
            rounds=12,
        )
        yield Figure(
            "memory of a row that waits for the commit, beyond one that doesn't",
            queued_bytes(engine, ROWS),
            400,
            "B",
        )
    engine.dispose()


def committing(engine: Engine, model: Any, count: int) -> OwnTime:
    """A job that commits new rows; that they are removed again doesn't count."""

    def once() -> float:
        with Session(engine, expire_on_commit=False) as session:
            start = process_time()
            session.add_all(new(model, count, False))
            session.commit()
            taken = process_time() - start
            session.execute(delete(model.__table__))
            session.commit()
        return taken

    return OwnTime(once)


def queued_bytes(engine: Engine, count: int) -> float:
    """Bytes of each flushed row with a receiver after the commit, less those of one without."""
    traced = {}
    for model in (Sending, Late, Sending, Late):  # the first of each warms up
        tracemalloc.start()
        with Session(engine) as session:
            instances = new(model, count, False)
            session.add_all(instances)
            session.flush()
            gc.collect()
            traced[model] = tracemalloc.get_traced_memory()[0]
            session.rollback()
        tracemalloc.stop()
        del instances
    return (traced[Late] - traced[Sending]) / count

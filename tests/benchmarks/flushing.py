"""Flushes of new rows, against plain SQLAlchemy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from harness import Comparison, Job, compare
from models import (
    Plain,
    Sending,
    Watched,
    connected,
    look,
    look_sync,
    make_async_engine,
    make_engine,
    receive,
    receive_sync,
)
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from aksara_signals import SignalContext, post_save, pre_save

ROWS = 10_000
SINGLE = 30
"""Flushes of one row between two looks at the clock."""

FUNCTIONS = ((pre_save, look_sync), (post_save, look_sync))
COROUTINES = ((pre_save, look), (post_save, look))


def rows(loop: asyncio.AbstractEventLoop) -> Iterator[Comparison]:
    """The comparisons of inserts."""
    engine = make_async_engine(loop)
    yield from _silent(Flush(loop, engine))
    yield from _receiving(Flush(loop, engine))
    loop.run_until_complete(engine.dispose())
    sync_engine = make_engine()
    with connected(*FUNCTIONS):
        yield compare(
            "executemany of 10,000 rows, keys given, two functions, against plain SQLAlchemy",
            1.05,
            ours=flush_sync(sync_engine, Sending, keyed=True),
            reference=flush_sync(sync_engine, Plain, keyed=True),
            rounds=12,
        )
        yield compare(
            "one row per flush, two functions, against plain SQLAlchemy",
            1.15,
            ours=flush_sync(sync_engine, Sending, 1, SINGLE),
            reference=flush_sync(sync_engine, Plain, 1, SINGLE),
            rounds=80,
        )
    sync_engine.dispose()


class Flush:
    """Makes jobs that flush new rows of a model by aiosqlite, and roll back."""

    def __init__(self, loop: asyncio.AbstractEventLoop, engine: AsyncEngine) -> None:
        self._loop = loop
        self._engine = engine

    def __call__(
        self, model: Any, count: int = ROWS, times: int = 1, *, keyed: bool = False
    ) -> Job:
        """A job; ``keyed`` rows have their keys, which lets SQLAlchemy use executemany."""

        async def once() -> None:
            for _ in range(times):
                async with AsyncSession(self._engine) as session:
                    session.add_all(new(model, count, keyed))
                    await session.flush()
                    await session.rollback()

        return lambda: self._loop.run_until_complete(once())


def flush_sync(
    engine: Engine, model: Any, count: int = ROWS, times: int = 1, *, keyed: bool = False
) -> Job:
    """The same on a sync engine."""

    def once() -> None:
        for _ in range(times):
            with Session(engine) as session:
                session.add_all(new(model, count, keyed))
                session.flush()
                session.rollback()

    return once


def new(model: Any, count: int, keyed: bool) -> list[Any]:
    """As many new instances."""
    if keyed:
        return [model(id=n + 1, title="x") for n in range(count)]
    return [model(title="x") for _ in range(count)]


def _silent(flush: Flush) -> Iterator[Comparison]:
    yield compare(
        "a flush of 10,000 new rows, nothing connected, against no mixin",
        1.02,
        ours=flush(Sending),
        reference=flush(Plain),
        rounds=8,
    )
    yield compare(
        "one row per flush, nothing connected, against no mixin",
        1.03,
        ours=flush(Sending, 1, SINGLE),
        reference=flush(Plain, 1, SINGLE),
        rounds=60,
    )
    yield compare(
        "1,000 instances constructed, no init receiver, against no mixin",
        1.0,
        ours=lambda: new(Sending, 1000, False),
        reference=lambda: new(Plain, 1000, False),
        rounds=800,
    )


def _receiving(flush: Flush) -> Iterator[Comparison]:
    with connected((pre_save, receive), (post_save, look)):
        yield compare(
            "a flush of 10,000 rows, two async receivers, against plain SQLAlchemy",
            1.10,
            ours=flush(Sending),
            reference=flush(Plain),
            peers={"SQLAlchemy's listeners": flush(Watched)},
            must_beat=("SQLAlchemy's listeners",),
            rounds=8,
        )
        with SignalContext.disable_for(Sending):
            yield compare(
                "a flush of 10,000 rows inside ``disable_for()``, against no mixin",
                1.02,
                ours=flush(Sending),
                reference=flush(Plain),
                rounds=8,
            )
    with connected((pre_save, receive_sync), (post_save, look_sync)):
        yield compare(
            "one row per flush by aiosqlite, two functions, against plain SQLAlchemy",
            1.05,
            ours=flush(Sending, 1, SINGLE),
            reference=flush(Plain, 1, SINGLE),
            rounds=60,
        )
    with connected(*COROUTINES):
        yield compare(
            "executemany of 10,000 rows by aiosqlite, keys given, two async receivers, "
            "against plain SQLAlchemy",
            1.08,
            ours=flush(Sending, keyed=True),
            reference=flush(Plain, keyed=True),
            rounds=12,
        )
        yield compare(
            "one row per flush by aiosqlite, two async receivers, against plain SQLAlchemy",
            1.06,
            ours=flush(Sending, 1, SINGLE),
            reference=flush(Plain, 1, SINGLE),
            rounds=80,
        )

"""``save()`` and ``bulk_create()``, against what they stand for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from harness import Comparison, Job, compare
from models import Plain, Sending, make_async_engine, make_engine
from sqlalchemy import Engine, insert
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

SAVED = 1_000
CREATED = 10_000


def rows(loop: asyncio.AbstractEventLoop) -> Iterator[Comparison]:
    """The comparisons."""
    async_engine, engine = make_async_engine(loop), make_engine()
    for name, session_class, bound in (
        ("a sync engine", Session, engine),
        ("aiosqlite", AsyncSession, async_engine),
    ):
        yield _save(loop, name, session_class, bound)
    yield from _bulk_create(loop, engine)
    loop.run_until_complete(async_engine.dispose())
    engine.dispose()


def _save(
    loop: asyncio.AbstractEventLoop, name: str, session_class: Any, engine: Engine | AsyncEngine
) -> Comparison:
    def job(by_save: bool) -> Job:
        async def once() -> None:
            session = session_class(engine)
            for _ in range(SAVED):
                instance = Sending(title="x")
                if by_save:
                    await instance.save(session)
                elif session_class is Session:
                    session.add(instance)
                    session.flush()
                else:
                    session.add(instance)
                    await session.flush()
            for end in (session.rollback, session.close):
                ended = end()
                if ended is not None:
                    await ended

        return lambda: loop.run_until_complete(once())

    return compare(
        f"``save()`` in a loop of 1,000 on {name}, against ``add()`` and ``flush()``",
        1.1,
        ours=job(True),
        reference=job(False),
        rounds=12,
    )


def _bulk_create(loop: asyncio.AbstractEventLoop, engine: Engine) -> Iterator[Comparison]:
    def constructed() -> list[Sending]:
        return [Sending(title="x") for _ in range(CREATED)]

    async def create() -> None:
        with Session(engine) as session:
            await Sending.objects.bulk_create(constructed(), session=session)
            session.rollback()

    def by_hand() -> None:
        with Session(engine) as session:
            written = [{"title": "x"} for _ in range(CREATED)]
            session.scalars(insert(Plain).returning(Plain), written).all()
            session.rollback()

    for what, goal, ours in (
        ("``bulk_create`` of 10,000", 1.25, lambda: loop.run_until_complete(create())),
        ("constructing 10,000 instances, as above", None, constructed),
    ):
        yield compare(
            f"{what}, against ``insert(Model).returning(Model)`` of dicts",
            goal,
            ours=ours,
            reference=by_hand,
            rounds=12,
        )

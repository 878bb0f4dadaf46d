"""Flushes, commits and bulk operations, against plain SQLAlchemy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from harness import Comparison, Job, compare
from sqlalchemy import Engine, create_engine, event, insert
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

from aksara_signals import SignalContext, post_save, pre_save
from aksara_signals.orm import SignalMixin

ROWS = 10_000


class PlainBase(DeclarativeBase):
    """SQLAlchemy alone."""


class SignalBase(SignalMixin, DeclarativeBase):
    """With the mixin."""


class Columns:
    """What both models have."""

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    views: Mapped[int] = mapped_column(default=0)


class Plain(Columns, PlainBase):
    __tablename__ = "plain"


class Sending(Columns, SignalBase):
    __tablename__ = "sending"


class Watched(Columns, PlainBase):
    """With SQLAlchemy's own listeners."""

    __tablename__ = "watched"


async def receive(sender: Any, instance: Any, **kwargs: Any) -> None:
    """A receiver that does next to nothing."""
    instance.views = 1


def receive_sync(sender: Any, instance: Any, **kwargs: Any) -> None:
    """The same as a function."""
    instance.views = 1


async def look(sender: Any, instance: Any, **kwargs: Any) -> None:
    """A receiver that does nothing."""


def look_sync(sender: Any, instance: Any, **kwargs: Any) -> None:
    """The same as a function."""


@event.listens_for(Watched, "before_insert")
def _before_insert(mapper: Any, connection: Any, target: Any) -> None:
    target.views = 1


@event.listens_for(Watched, "after_insert")
def _after_insert(mapper: Any, connection: Any, target: Any) -> None:
    pass


def make_engine() -> Engine:
    """One connection to an empty database in memory."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    PlainBase.metadata.create_all(engine)
    SignalBase.metadata.create_all(engine)
    return engine


async def make_async_engine() -> AsyncEngine:
    """The same, by aiosqlite."""
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.begin() as connection:
        await connection.run_sync(PlainBase.metadata.create_all)
        await connection.run_sync(SignalBase.metadata.create_all)
    return engine


def rows(loop: asyncio.AbstractEventLoop) -> Iterator[Comparison]:
    """The comparisons of writes."""
    engine = loop.run_until_complete(make_async_engine())
    sync_engine = make_engine()

    def flush(model: Any, count: int = ROWS, end: str = "rollback", times: int = 1) -> Job:
        async def once() -> None:
            for _ in range(times):
                async with AsyncSession(engine) as session:
                    session.add_all([model(title="x") for _ in range(count)])
                    await session.flush()
                    await getattr(session, end)()

        return lambda: loop.run_until_complete(once())

    def construct(model: Any) -> Job:
        return lambda: [model(title="x") for _ in range(1000)]

    plain, sending, watched = flush(Plain), flush(Sending), flush(Watched)
    one_plain, one_sending = flush(Plain, 1, times=30), flush(Sending, 1, times=30)
    yield compare(
        "a flush of 10,000 new rows, nothing connected, against no mixin",
        1.02,
        ours=sending,
        reference=plain,
        rounds=8,
    )
    yield compare(
        "one row per flush, nothing connected, against no mixin",
        1.03,
        ours=one_sending,
        reference=one_plain,
        rounds=60,
    )
    yield compare(
        "1,000 instances constructed, no init receiver, against no mixin",
        1.0,
        ours=construct(Sending),
        reference=construct(Plain),
        rounds=800,
    )
    with (
        pre_save.connected_to(receive, sender=Sending),
        post_save.connected_to(look, sender=Sending),
    ):
        yield compare(
            "a flush of 10,000 rows with pre_save and post_save, against no receivers",
            1.10,
            ours=sending,
            reference=plain,
            peers={"SQLAlchemy's listeners": watched},
            must_beat=("SQLAlchemy's listeners",),
            rounds=8,
        )
        yield compare(
            "one row per flush with pre_save and post_save, against no receivers",
            1.10,
            ours=one_sending,
            reference=one_plain,
            rounds=60,
        )
        with SignalContext.disable_for(Sending):
            yield compare(
                "a flush of 10,000 rows inside disable_for(), against no mixin",
                1.02,
                ours=sending,
                reference=plain,
                rounds=8,
            )
    with (
        pre_save.connected_to(receive_sync, sender=Sending),
        post_save.connected_to(look_sync, sender=Sending),
    ):
        yield compare(
            "one row per flush with functions as receivers, against no receivers",
            1.05,
            ours=one_sending,
            reference=one_plain,
            rounds=60,
        )
    yield _after_commit(loop, engine)
    yield _bulk(sync_engine)
    loop.run_until_complete(engine.dispose())
    sync_engine.dispose()


class Immediate(Columns, SignalBase):
    __tablename__ = "immediate"


class Waiting(Columns, SignalBase):
    __tablename__ = "waiting"


def _after_commit(loop: asyncio.AbstractEventLoop, engine: AsyncEngine) -> Comparison:
    def commit(model: Any) -> Job:
        async def once() -> None:
            async with AsyncSession(engine, expire_on_commit=False) as session:
                session.add_all([model(title="x") for _ in range(ROWS)])
                await session.commit()

        return lambda: loop.run_until_complete(once())

    async def prepare() -> None:
        async with engine.begin() as connection:
            await connection.run_sync(SignalBase.metadata.create_all)

    loop.run_until_complete(prepare())
    with (
        post_save.connected_to(look, sender=Immediate),
        post_save.connected_to(look, sender=Waiting, phase="after_commit"),
    ):
        return compare(
            "a commit of 10,000 rows, one receiver after it, against immediate",
            1.10,
            ours=commit(Waiting),
            reference=commit(Immediate),
            rounds=10,
        )


def _bulk(engine: Engine) -> Comparison:
    def ours() -> None:
        with Session(engine) as session:
            coroutine = Sending.objects.bulk_create(
                [Sending(title="x") for _ in range(ROWS)], session=session
            )
            try:
                coroutine.send(None)
            except StopIteration:
                session.rollback()

    def reference() -> None:
        with Session(engine) as session:
            rows = [{"title": Sending(title="x").title} for _ in range(ROWS)]
            session.execute(insert(Sending).returning(Sending), rows).all()
            session.rollback()

    return compare(
        "bulk_create of 10,000, against insert().returning()",
        1.10,
        ours=ours,
        reference=reference,
        rounds=10,
    )

"""The last chapter: a worker process is killed in the middle of its work, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import ForeignKey, func, select
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aksara_signals import post_save
from aksara_signals.contrib.outbox import Outbox
from aksara_signals.demo.database import create_tables, make_engine
from aksara_signals.demo.timeline import Timeline
from aksara_signals.orm import SignalMixin

URL_VARIABLE: str = "AKSARA_DEMO_URL"
"""The environment variable that gives a worker process the URL of the database."""

NAME: str = "demo.receipt"
"""The name of the durable receiver."""

_ORDERS = 20
_PATIENCE_SECONDS = 60.0
_WORKER = (
    *("-m", "aksara_signals", "worker", "aksara_signals.demo.worker:outbox"),
    *("--sessions", "aksara_signals.demo.worker:sessions"),
    *("--concurrency", "1", "--lease-seconds", "1"),
)


class Base(SignalMixin, DeclarativeBase):
    """The base of the shop's models; the table of the outbox is in the same metadata."""


class Order(Base):
    __tablename__ = "aksara_demo_order"

    id: Mapped[int] = mapped_column(primary_key=True)


class Receipt(Base):
    __tablename__ = "aksara_demo_receipt"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("aksara_demo_order.id"))


outbox: Outbox = Outbox(Base.metadata, name="aksara_demo_outbox")


async def write_receipt(instance: Order, session: AsyncSession, **kwargs: Any) -> None:
    """Runs in a worker: the receipt is committed together with the mark that this is done."""
    await asyncio.sleep(0.03)
    session.add(Receipt(order_id=instance.id))


async def run_shop(timeline: Timeline, engine: AsyncEngine) -> None:
    """Kill a worker in the middle of its work, and let another one finish it.

    Raises:
        SystemExit: A worker has not done its work in time.
    """
    timeline.chapter("A worker process is killed, and every receipt is written nevertheless")
    async with _shared_database(engine) as shared:
        await create_tables(shared, Base.metadata)
        try:
            await _write_and_kill(timeline, shared)
        finally:
            async with shared.begin() as connection:
                await connection.run_sync(Base.metadata.drop_all)


@asynccontextmanager
async def _shared_database(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """A database that other processes can use, too: a file, if the given one is in memory."""
    if engine.dialect.name != "sqlite" or engine.url.database not in (None, "", ":memory:"):
        yield engine
        return
    with tempfile.TemporaryDirectory() as folder:
        shared = make_engine(f"sqlite+aiosqlite:///{Path(folder) / 'shop.sqlite'}")
        try:
            yield shared
        finally:
            await shared.dispose()


async def _write_and_kill(timeline: Timeline, engine: AsyncEngine) -> None:
    sessions = async_sessionmaker(engine)
    outbox.install()
    try:
        with post_save.connected_to(write_receipt, Order, durable=NAME):
            async with sessions.begin() as session:
                session.add_all([Order() for _ in range(_ORDERS)])
    finally:
        outbox.uninstall()
    timeline.note(f"one transaction has written {_ORDERS} orders, and what is to be done for them")

    # By the driver's own rules, a reader on SQLite doesn't wait for the worker's transactions.
    reading = create_async_engine(engine.url)
    try:
        await _kill_and_finish(timeline, engine, async_sessionmaker(reading))
    finally:
        await reading.dispose()


async def _kill_and_finish(
    timeline: Timeline, engine: AsyncEngine, sessions: async_sessionmaker[AsyncSession]
) -> None:
    async def written() -> int:
        async with sessions() as session:
            return await session.scalar(select(func.count()).select_from(Receipt)) or 0

    async def undone() -> int:
        rows = outbox.tables.outbox
        async with sessions() as session:
            statement = select(func.count()).select_from(rows).where(rows.c.status == 0)
            return await session.scalar(statement) or 0

    async def has_begun() -> bool:
        return await written() >= _ORDERS // 4

    async def is_done() -> bool:
        return not await undone()

    first = await _start_worker(engine)
    await _until(has_begun, first)
    first.kill()
    await first.wait()
    timeline.note(f"worker {first.pid} is killed after {await written()} receipts")
    second = await _start_worker(engine)
    await _until(is_done, second)
    second.terminate()
    await second.wait()
    async with sessions() as session:
        orders = len(set(await session.scalars(select(Receipt.order_id))))
    twice = await written() - orders
    timeline.note(
        f"worker {second.pid} has done the rest: receipts for {orders} of {_ORDERS} orders, "
        f"{twice or 'none'} twice"
    )


async def _start_worker(engine: AsyncEngine) -> asyncio.subprocess.Process:
    url = engine.url.render_as_string(hide_password=False)
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *_WORKER,
        env={**os.environ, URL_VARIABLE: url},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def _until(
    is_reached: Callable[[], Awaitable[bool]], process: asyncio.subprocess.Process
) -> None:
    """Wait until something is reached, while a worker runs."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not await is_reached():
                if process.returncode is not None:
                    raise SystemExit(
                        f"the worker process has ended with status {process.returncode}; run "
                        f"'python {' '.join(_WORKER)}' to see why"
                    )
                await asyncio.sleep(0.02)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise SystemExit(f"no worker was done within {_PATIENCE_SECONDS:.0f} seconds") from None

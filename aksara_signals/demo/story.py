"""The story that the demonstration shows, chapter by chapter."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TextIO

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from aksara_signals import SignalContext
from aksara_signals.demo.blog import (
    AuditEntry,
    Author,
    Base,
    ClickbaitError,
    Post,
    connected_receivers,
)
from aksara_signals.demo.database import EMBEDDED, create_tables, make_engine
from aksara_signals.demo.shop import run_shop
from aksara_signals.demo.timeline import Timeline


async def run(url: str = EMBEDDED, out: TextIO | None = None) -> int:
    """Run the whole story once.

    Args:
        url: Any async SQLAlchemy URL. Tables named ``aksara_demo_…`` are created there, and
            dropped at the end.
        out: Where the timeline is printed; by default, standard output.

    Returns:
        How many lines the receivers have printed, one for each call.

    Raises:
        SystemExit: The database can't be used; one line says why, and what to install.
    """
    timeline = Timeline(sys.stdout if out is None else out)
    engine = make_engine(url)
    try:
        await create_tables(engine, Base.metadata)
        try:
            with connected_receivers(timeline, {}):
                await run_chapters(timeline, async_sessionmaker(engine, expire_on_commit=False))
        finally:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.drop_all)
        await run_shop(timeline, engine)
    finally:
        await engine.dispose()
    return timeline.deliveries


async def run_chapters(
    timeline: Timeline,
    sessions: async_sessionmaker[AsyncSession],
    pause: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Write to the blog, chapter by chapter.

    Args:
        timeline: Prints what happens.
        sessions: The sessions of the blog's database.
        pause: Awaited after each chapter.
    """

    async def end_chapter() -> None:
        await count(timeline, sessions)
        if pause is not None:
            await pause()

    timeline.chapter("A post is written: session.add() and a commit, nothing else")
    async with sessions.begin() as session:
        author = Author(name="Ada")
        session.add(Post(title="Hello, signals", author=author))
    await end_chapter()

    timeline.chapter("Its title changes")
    async with sessions.begin() as session:
        post = (await session.scalars(select(Post))).one()
        post.title = "Hello, transactions"
    await end_chapter()

    timeline.chapter("A receiver raises, and everything in its transaction is rolled back")
    try:
        async with sessions.begin() as session:
            session.add(AuditEntry(text="written before the error"))
            await session.flush()
            session.add(Post(title="You won't believe this", author_id=author.id))
    except ClickbaitError as error:
        timeline.note(f"the commit failed: {type(error).__name__}: {error}")
    await end_chapter()

    timeline.chapter("An import runs in silence: SignalContext.disable_for(Post)")
    async with SignalContext.disable_for(Post), sessions.begin() as session:
        session.add(Post(title="Imported", author_id=author.id))
    await end_chapter()

    timeline.chapter("The author is deleted, and her posts with her")
    async with sessions.begin() as session:
        await session.delete(await session.get_one(Author, author.id))
    await end_chapter()


async def count(timeline: Timeline, sessions: async_sessionmaker[AsyncSession]) -> None:
    """Show how many rows the database holds."""
    async with sessions() as session:
        numbers = [
            f"{name}: {await session.scalar(select(func.count()).select_from(model))}"
            for model, name in ((Author, "authors"), (Post, "posts"), (AuditEntry, "audit entries"))
        ]
    timeline.note(f"in the database: {', '.join(numbers)}")

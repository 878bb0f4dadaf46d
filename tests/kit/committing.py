"""Ways to commit a post, and the phases in which receivers are called."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from kit.models import Post

COMMIT, ROLLBACK = "after_commit", "after_rollback"
Sessions = async_sessionmaker[AsyncSession]


async def commit(sessions: Sessions) -> None:
    async with sessions() as session:
        session.add(Post(title="x"))
        await session.commit()


async def begin_block(sessions: Sessions) -> None:
    async with sessions() as session, session.begin():
        session.add(Post(title="x"))


async def maker_begin(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        session.add(Post(title="x"))

"""Ways to commit a post, and the phases in which receivers are called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, event, insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

from kit.models import Post, Promise

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


@contextmanager
def failing_commit(session: Session) -> Iterator[None]:
    """Let the database refuse the COMMIT of a session, by an ``IntegrityError``.

    MariaDB has no constraints that it checks then, so it is asked for the error right before.
    """
    engine = session.get_bind()

    def break_a_promise(connection: Connection) -> None:
        if connection.dialect.name in ("mysql", "mariadb"):
            connection.exec_driver_sql("SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 1452")
        connection.execute(insert(Promise).values(author_id=77))

    event.listen(engine, "commit", break_a_promise)
    try:
        yield
    finally:
        event.remove(engine, "commit", break_a_promise)

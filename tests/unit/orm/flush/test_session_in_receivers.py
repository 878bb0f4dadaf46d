"""What receivers may do with the session of the flush that calls them, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from kit.models import Audit, Author, Base, Post, titles
from kit.support import Recorder
from sqlalchemy import select
from sqlalchemy.exc import InvalidRequestError, PendingRollbackError, ResourceClosedError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from aksara_signals import SessionInUseError, post_delete, post_save, pre_delete, pre_save

REFUSED = ["commit", "rollback", "close", "reset", "invalidate"]


async def test_pre_receivers_query_without_a_flush(session: AsyncSession) -> None:
    """A query in pre_save sees the database as it is, and flushes nothing."""
    found: list[Any] = []

    @pre_save(Post)
    async def look(session: AsyncSession, **kwargs: Any) -> None:
        found.append(await titles(session))

    session.add(Post(title="a"))
    await session.commit()
    session.add(Post(title="b"))
    await session.commit()
    assert found == [[], ["a"]]


async def test_what_pre_receivers_add_joins_the_flush(
    session: AsyncSession, recorder: Recorder
) -> None:
    """Objects added, changed and deleted in pre_save are written and sent in the same flush."""
    old, doomed = Author(name="old"), Author(name="doomed")
    session.add_all([old, doomed])
    await session.commit()
    await session.refresh(old)
    await session.refresh(doomed)
    recorder.record(pre_save)
    recorder.record(post_save)
    recorder.record(pre_delete)
    recorder.record(post_delete)

    @pre_save(Post)
    async def work(session: AsyncSession, **kwargs: Any) -> None:
        session.add(Audit(text="added"))
        old.name = "new"
        await session.delete(doomed)

    session.add(Post(title="a"))
    await session.flush()
    sent = [(call.signal, type(call.payload["instance"]).__name__) for call in recorder.calls]
    assert sent == [
        ("pre_save", "Post"),
        ("pre_save", "Audit"),
        ("pre_save", "Author"),
        ("pre_delete", "Author"),
        ("post_save", "Post"),
        ("post_save", "Audit"),
        ("post_save", "Author"),
        ("post_delete", "Author"),
    ]
    await session.commit()
    assert list(await session.scalars(select(Author.name))) == ["new"]
    assert list(await session.scalars(select(Audit.text))) == ["added"]


async def test_post_receivers_do_everything_but_end(session: AsyncSession) -> None:
    """Post receivers query, add, flush, and roll a savepoint back: the outer write is unharmed."""

    @post_save(Post)
    async def work(instance: Post, session: AsyncSession, **kwargs: Any) -> None:
        assert await session.scalar(select(Post.title).where(Post.id == instance.id)) == "a"
        session.add(Audit(text="kept"))
        await session.flush()
        savepoint = await session.begin_nested()
        session.add(Audit(text="lost"))
        await session.flush()
        await savepoint.rollback()
        with pytest.raises(ZeroDivisionError):
            async with session.begin_nested():
                session.add(Audit(text="lost too"))
                await session.flush()
                1 / 0  # noqa: B018 - fails in the savepoint
        async with session.begin_nested():
            session.add(Audit(text="kept too"))

    session.add(Post(title="a"))
    await session.commit()
    assert await titles(session) == ["a"]
    assert list(await session.scalars(select(Audit.text).order_by(Audit.id))) == [
        "kept",
        "kept too",
    ]


@pytest.mark.parametrize("method", [*REFUSED, "begin_nested", "begin"])
@pytest.mark.parametrize("catches", [True, False])
async def test_what_pre_receivers_may_not_do(
    session: AsyncSession, method: str, catches: bool
) -> None:
    """Ending or dividing the transaction is refused before a flush, and nothing is lost."""

    @pre_save(Post)
    async def meddle(session: AsyncSession, **kwargs: Any) -> None:
        with pytest.raises(SessionInUseError, match=rf"{method}\(\).*post_") as refused:
            await getattr(session, method)()
        if not catches:
            raise refused.value

    post = Post(title="a")
    session.add(post)
    if catches:
        await session.commit()
        assert await titles(session) == ["a"]
        return
    with pytest.raises(SessionInUseError):
        await session.commit()
    assert post in session.new
    pre_save.disconnect(meddle, sender=Post)
    await session.commit()
    assert await titles(session) == ["a"]


@pytest.mark.parametrize("method", REFUSED)
async def test_what_post_receivers_may_not_do(session: AsyncSession, method: str) -> None:
    """Ending the transaction is refused after a flush; caught, nothing is lost."""
    refused: list[str] = []

    @post_save(Post)
    async def meddle(session: AsyncSession, **kwargs: Any) -> None:
        with pytest.raises(SessionInUseError, match=method):
            await getattr(session, method)()
        refused.append(method)

    session.add(Post(title="a"))
    await session.commit()
    assert refused == [method]
    assert await titles(session) == ["a"]


@pytest.mark.parametrize("signal", [pre_save, post_save])
@pytest.mark.parametrize("method", ["commit", "rollback", "close"])
def test_a_plain_session_refuses_too(sync_engine: Any, signal: Any, method: str) -> None:
    """The same holds for a plain session and a synchronous receiver."""
    Base.metadata.create_all(sync_engine)

    @signal.connect(sender=Post)
    def meddle(session: Session, **kwargs: Any) -> None:
        with pytest.raises(SessionInUseError):
            getattr(session, method)()

    with Session(sync_engine) as session:
        session.add(Post(title="a"))
        session.commit()
        assert session.scalars(select(Post.title)).all() == ["a"]


@pytest.mark.parametrize("signal", [pre_save, post_save])
async def test_ending_the_transaction_object_is_noticed(session: AsyncSession, signal: Any) -> None:
    """A transaction ended behind the session's back makes the flush fail."""
    await session.scalars(select(Post))

    @signal.connect(sender=Post)
    def meddle(session: AsyncSession, **kwargs: Any) -> None:
        transaction = session.sync_session.get_transaction()
        assert transaction is not None
        transaction.rollback()

    session.add(Post(title="a"))
    # After a flush SQLAlchemy's own error, about the closed transaction, comes on top of ours.
    with pytest.raises((SessionInUseError, ResourceClosedError)) as error:
        await session.flush()
    errors = (error.value, error.value.__context__)
    assert any(isinstance(each, SessionInUseError) for each in errors)
    await session.rollback()
    assert await titles(session) == []


async def test_flush_in_a_pre_receiver_is_refused_by_sqlalchemy(session: AsyncSession) -> None:
    """SQLAlchemy itself refuses a flush inside pre_save."""

    @pre_save(Post)
    async def meddle(session: AsyncSession, **kwargs: Any) -> None:
        with pytest.raises(InvalidRequestError, match="already flushing"):
            await session.flush()

    session.add(Post(title="a"))
    await session.commit()
    assert await titles(session) == ["a"]


async def test_a_post_receiver_that_raises_fails_the_flush(session: AsyncSession) -> None:
    """What post receivers raise rolls back, as a broken constraint would."""

    @post_save(Post)
    async def fail(**kwargs: Any) -> None:
        raise ValueError("no")

    session.add(Post(title="a"))
    with pytest.raises(ValueError, match="no") as failure:
        await session.commit()
    assert "post_save sent by kit.models.Post 1 to" in failure.value.__notes__[0]
    with pytest.raises(PendingRollbackError):
        await titles(session)
    await session.rollback()
    assert await titles(session) == []

"""What SQLAlchemy's errors in receivers say about the way out."""

from __future__ import annotations

import gc
import logging
from typing import Any

import pytest
from kit import databases
from kit.models import Author, Base, Post
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import object_session
from sqlalchemy.orm.exc import DetachedInstanceError

from aksara_signals import post_save, pre_save


@pytest.fixture
async def engine(async_engine: AsyncEngine) -> AsyncEngine:
    """A database with a post and its author."""
    await databases.create_all(async_engine, Base.metadata)
    async with AsyncSession(async_engine) as session, session.begin():
        session.add(Post(title="a", author=Author(name="Ann")))
    return async_engine


def advice(error: BaseException) -> list[str]:
    """The notes that don't say where an error comes from."""
    return [note for note in error.__notes__ if not note.startswith("while ")]


async def change(engine: AsyncEngine) -> None:
    """Change the post in a transaction of its own."""
    async with AsyncSession(engine) as session, session.begin():
        (await session.scalars(select(Post))).one().title = "b"


# SQLAlchemy 2.1 leaves behind the coroutine that can't be awaited.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("signal", [pre_save, post_save])
async def test_a_lazy_load_in_an_async_receiver_names_the_ways_out(
    engine: AsyncEngine, signal: Any
) -> None:
    """The error of a lazy load in an async receiver has one note that names refresh and AsyncAttrs."""

    @signal(Post)
    async def look(instance: Post, **kwargs: Any) -> None:
        assert instance.author

    with pytest.raises(SQLAlchemyError, match="greenlet_spawn") as caught:
        await change(engine)
    (note,) = advice(caught.value)
    assert 'session.refresh(instance, ["attribute"])' in note
    assert "AsyncAttrs" in note
    del caught
    gc.collect()  # the warning belongs to this test


@pytest.mark.parametrize("signal", [pre_save, post_save])
async def test_what_the_note_proposes_works(engine: AsyncEngine, signal: Any) -> None:
    """After refresh with the attribute's name an async receiver reads it, and no change is lost."""
    names = []

    @signal(Post)
    async def look(instance: Post, session: AsyncSession, **kwargs: Any) -> None:
        await session.refresh(instance, ["author"])
        names.append(instance.author.name)

    @signal(Post)
    def look_lazily(instance: Post, **kwargs: Any) -> None:
        session = object_session(instance)
        assert session
        session.expire(instance, ["author"])
        names.append(instance.author.name)

    await change(engine)
    async with AsyncSession(engine) as session:
        assert (await session.scalars(select(Post.title))).all() == ["b"]
    assert names == ["Ann", "Ann"]


async def test_a_lazy_load_on_a_copy_names_the_ways_out(
    engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """A relationship read after the commit is an error whose note says that this is a copy."""

    @post_save(Post, phase="after_commit")
    async def look(instance: Post, **kwargs: Any) -> None:
        assert instance.author

    with caplog.at_level(logging.ERROR, "aksara_signals"):
        await change(engine)
    (record,) = caplog.records
    assert record.exc_info
    error = record.exc_info[1]
    assert isinstance(error, DetachedInstanceError)
    (note,) = advice(error)
    assert "detached copy" in note


async def test_a_detached_instance_of_the_receivers_own_is_no_copy(engine: AsyncEngine) -> None:
    """The note on copies stays away from what a receiver of the same flush has detached itself."""

    @post_save(Post)
    async def look(session: AsyncSession, **kwargs: Any) -> None:
        author = (await session.scalars(select(Author))).one()
        session.expunge(author)
        assert author.posts

    with pytest.raises(DetachedInstanceError) as caught:
        await change(engine)
    assert advice(caught.value) == []


async def test_other_errors_of_statements_have_no_advice(engine: AsyncEngine) -> None:
    """An error of the database that a receiver meets is only noted with its place."""

    @post_save(Post)
    async def break_a_constraint(session: AsyncSession, **kwargs: Any) -> None:
        await session.execute(Author.__table__.insert().values(id=1, name="Bob"))

    with pytest.raises(IntegrityError) as caught:
        await change(engine)
    assert advice(caught.value) == []

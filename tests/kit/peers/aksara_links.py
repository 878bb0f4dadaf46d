"""Chapters of the story that our signals tell, as in ``django_links``."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from aksara_signals.orm import on_commit
from kit.peers.aksara_world import Author, Post, Tag, chapter, count, read, told

# -- many to many -----------------------------------------------------------------------------------


async def cast() -> tuple[Any, list[Any]]:
    post = await Post.objects.create(name="p")
    tags = [await Tag.objects.create(name=name) for name in "abc"]
    told.clear()
    return post, tags


@chapter
async def adding(session: AsyncSession) -> None:
    post, tags = await cast()
    await post.related("tags").add(*tags[:2])


@chapter
async def adding_from_the_other_side(session: AsyncSession) -> None:
    post, tags = await cast()
    await tags[0].related("posts").add(post)


@chapter
async def adding_what_is_there(session: AsyncSession) -> None:
    post, tags = await cast()
    await post.related("tags").add(tags[0])
    told.clear()
    await post.related("tags").add(tags[0])


@chapter
async def adding_partly_what_is_there(session: AsyncSession) -> None:
    post, tags = await cast()
    await post.related("tags").add(tags[0])
    told.clear()
    await post.related("tags").add(*tags[:2])


@chapter
async def removing(session: AsyncSession) -> None:
    post, tags = await cast()
    await post.related("tags").add(*tags)
    told.clear()
    await post.related("tags").remove(*tags[1:])


@chapter
async def removing_from_the_other_side(session: AsyncSession) -> None:
    post, tags = await cast()
    await post.related("tags").add(*tags)
    told.clear()
    await tags[0].related("posts").remove(post)


@chapter
async def removing_what_is_not_there(session: AsyncSession) -> None:
    post, tags = await cast()
    await post.related("tags").remove(tags[0])


@chapter
async def setting(session: AsyncSession) -> None:
    post, tags = await cast()
    await post.related("tags").add(*tags[:2])
    told.clear()
    await post.related("tags").set(tags[1:])


@chapter
async def setting_what_is_set(session: AsyncSession) -> None:
    post, tags = await cast()
    await post.related("tags").add(*tags)
    told.clear()
    await post.related("tags").set(tags)


@chapter
async def clearing(session: AsyncSession) -> None:
    post, tags = await cast()
    await post.related("tags").add(*tags)
    told.clear()
    await post.related("tags").clear()


@chapter
async def clearing_from_the_other_side(session: AsyncSession) -> None:
    post, tags = await cast()
    await post.related("tags").add(*tags)
    told.clear()
    await tags[0].related("posts").clear()


@chapter
async def clearing_what_is_empty(session: AsyncSession) -> None:
    post, _ = await cast()
    await post.related("tags").clear()


@chapter
async def linking_through_a_model(session: AsyncSession) -> None:
    _, tags = await cast()
    author = await Author.objects.create(name="ann")
    told.clear()
    await session.refresh(tags[0], ["awards"])
    tags[0].winners.append(author)
    await session.flush()


@chapter
async def adding_to_one_to_many(session: AsyncSession) -> None:
    author, post = await Author.objects.create(name="ann"), await Post.objects.create(name="a")
    told.clear()
    await author.related("posts").add(post)
    told.append(str(await read(session, Post.author_id)))


# -- transactions -----------------------------------------------------------------------------------


class UndoError(Exception):
    pass


def later(session: AsyncSession, name: str) -> None:
    on_commit(session, lambda: told.append(name))


@chapter
async def committing(session: AsyncSession) -> None:
    async with session.begin():
        later(session, "first")
        later(session, "second")
        told.append("inside")


@chapter
async def rolling_back(session: AsyncSession) -> None:
    try:
        async with session.begin():
            later(session, "lost")
            raise UndoError
    except UndoError:
        told.append("rolled back")


@chapter
async def nested_blocks(session: AsyncSession) -> None:
    async with session.begin():
        later(session, "outer before")
        async with session.begin_nested():
            later(session, "inner")
        later(session, "outer after")
        told.append("inside")


@chapter
async def a_nested_block_that_fails(session: AsyncSession) -> None:
    async with session.begin():
        later(session, "outer before")
        try:
            async with session.begin_nested():
                later(session, "inner")
                async with session.begin_nested():
                    later(session, "innermost")
                raise UndoError
        except UndoError:
            told.append("inner rolled back")
        later(session, "outer after")


@chapter
async def a_block_that_fails_around_one_that_does_not(session: AsyncSession) -> None:
    try:
        async with session.begin():
            async with session.begin_nested():
                later(session, "inner")
            raise UndoError
    except UndoError:
        told.append("rolled back")


@chapter
async def callbacks_see_what_was_committed(session: AsyncSession) -> None:
    bind = session.bind

    async def look() -> None:
        async with AsyncSession(bind) as other:
            told.append(await count(other, Tag))

    async with session.begin():
        await Tag.objects.create(name="a")
        on_commit(session, look)


async def failing(session: AsyncSession) -> None:
    def fail() -> None:
        told.append("fails")
        raise ValueError("no")

    try:
        async with session.begin():
            on_commit(session, fail)
            later(session, "behind")
    except ValueError:
        told.append("ValueError")
    else:
        told.append("committed")


@chapter
async def callbacks_that_fail_robustly(session: AsyncSession) -> None:
    await failing(session)


@chapter
async def callbacks_that_fail(session: AsyncSession) -> None:
    await failing(session)


@chapter
async def callbacks_outside_of_transactions(session: AsyncSession) -> None:
    later(session, "at once")
    told.append("registered")
    async with session.begin():
        told.append("inside")

"""Chapters of the story that our signals are sent for, as in ``django_links``."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from aksara_signals.orm import on_commit
from kit.peers.aksara_world import Author, Post, Tag, chapter, count, lines, read

# -- many to many -----------------------------------------------------------------------------------


async def cast() -> tuple[Any, list[Any]]:
    post = await Post.objects.create(name="p")
    tags = [await Tag.objects.create(name=name) for name in "abc"]
    lines.clear()
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
    lines.clear()
    await post.related("tags").add(tags[0])


@chapter
async def adding_partly_what_is_there(session: AsyncSession) -> None:
    post, tags = await cast()
    await post.related("tags").add(tags[0])
    lines.clear()
    await post.related("tags").add(*tags[:2])


@chapter
async def removing(session: AsyncSession) -> None:
    post, tags = await cast()
    await post.related("tags").add(*tags)
    lines.clear()
    await post.related("tags").remove(*tags[1:])


@chapter
async def removing_from_the_other_side(session: AsyncSession) -> None:
    post, tags = await cast()
    await post.related("tags").add(*tags)
    lines.clear()
    await tags[0].related("posts").remove(post)


@chapter
async def removing_what_is_not_there(session: AsyncSession) -> None:
    post, tags = await cast()
    await post.related("tags").remove(tags[0])


@chapter
async def setting(session: AsyncSession) -> None:
    post, tags = await cast()
    await post.related("tags").add(*tags[:2])
    lines.clear()
    await post.related("tags").set(tags[1:])


@chapter
async def setting_what_is_set(session: AsyncSession) -> None:
    post, tags = await cast()
    await post.related("tags").add(*tags)
    lines.clear()
    await post.related("tags").set(tags)


@chapter
async def clearing(session: AsyncSession) -> None:
    post, tags = await cast()
    await post.related("tags").add(*tags)
    lines.clear()
    await post.related("tags").clear()


@chapter
async def clearing_from_the_other_side(session: AsyncSession) -> None:
    post, tags = await cast()
    await post.related("tags").add(*tags)
    lines.clear()
    await tags[0].related("posts").clear()


@chapter
async def clearing_what_is_empty(session: AsyncSession) -> None:
    post, _ = await cast()
    await post.related("tags").clear()


@chapter
async def linking_through_a_model(session: AsyncSession) -> None:
    _, tags = await cast()
    author = await Author.objects.create(name="ann")
    lines.clear()
    await session.refresh(tags[0], ["awards"])
    tags[0].winners.append(author)
    await session.flush()


@chapter
async def adding_to_one_to_many(session: AsyncSession) -> None:
    author, post = await Author.objects.create(name="ann"), await Post.objects.create(name="a")
    lines.clear()
    await author.related("posts").add(post)
    lines.append(str(await read(session, Post.author_id)))


# -- transactions -----------------------------------------------------------------------------------


class UndoError(Exception):
    pass


def later(session: AsyncSession, name: str) -> None:
    on_commit(session, lambda: lines.append(name))


@chapter
async def committing(session: AsyncSession) -> None:
    async with session.begin():
        later(session, "first")
        later(session, "second")
        lines.append("inside")


@chapter
async def rolling_back(session: AsyncSession) -> None:
    try:
        async with session.begin():
            later(session, "lost")
            raise UndoError
    except UndoError:
        lines.append("rolled back")


@chapter
async def nested_blocks(session: AsyncSession) -> None:
    async with session.begin():
        later(session, "outer before")
        async with session.begin_nested():
            later(session, "inner")
        later(session, "outer after")
        lines.append("inside")


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
            lines.append("inner rolled back")
        later(session, "outer after")


@chapter
async def a_block_that_fails_around_one_that_does_not(session: AsyncSession) -> None:
    try:
        async with session.begin():
            async with session.begin_nested():
                later(session, "inner")
            raise UndoError
    except UndoError:
        lines.append("rolled back")


@chapter
async def callbacks_see_what_was_committed(session: AsyncSession) -> None:
    bind = session.bind

    async def look() -> None:
        async with AsyncSession(bind) as other:
            lines.append(await count(other, Tag))

    async with session.begin():
        await Tag.objects.create(name="a")
        on_commit(session, look)


async def failing(session: AsyncSession) -> None:
    def fail() -> None:
        lines.append("fails")
        raise ValueError("no")

    try:
        async with session.begin():
            on_commit(session, fail)
            later(session, "behind")
    except ValueError:
        lines.append("ValueError")
    else:
        lines.append("committed")


@chapter
async def callbacks_that_fail_robustly(session: AsyncSession) -> None:
    await failing(session)


@chapter
async def callbacks_that_fail(session: AsyncSession) -> None:
    await failing(session)


@chapter
async def callbacks_outside_of_transactions(session: AsyncSession) -> None:
    later(session, "at once")
    lines.append("registered")
    async with session.begin():
        lines.append("inside")

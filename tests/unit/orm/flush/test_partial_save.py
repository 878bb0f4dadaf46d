"""``save(update_fields=…)``: what is written, what stays pending, and what is sent."""

from __future__ import annotations

from typing import Any

import pytest
from kit.models import Author, Post
from sqlalchemy import inspect, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from aksara_signals import (
    UnknownFieldError,
    post_relation_add,
    post_relation_remove,
    post_save,
    pre_relation_add,
    pre_relation_remove,
    pre_save,
)

Sessions = async_sessionmaker[AsyncSession]


async def written_author(sessions: Sessions) -> Any:
    """The name of the author that the only post has in the database."""
    async with sessions() as session:
        return await session.scalar(select(Author.name).join(Post, Post.author_id == Author.id))


@pytest.mark.parametrize("is_new", [False, True])
@pytest.mark.parametrize("field", ["author_id", "author"])
async def test_a_pending_relationship_is_written_by_the_name_of_its_key(
    sessions: Sessions, field: str, is_new: bool
) -> None:
    """Whether it leads to a row that is there or to a new one; other fields stay pending."""
    async with sessions() as session:
        post, author = Post(title="old"), Author(name="ann")
        session.add(post)
        if not is_new:
            session.add(author)
        await session.commit()
        await session.refresh(post)
        post.author = author
        post.title = "new"
        await post.save(update_fields=[field])
        assert post.author_id == author.id
        assert post in session.dirty
        connection = await session.connection()
        title = await connection.scalar(select(Post.__table__.c.title))
        assert title == "old"
        await session.commit()
    assert await written_author(sessions) == "ann"


async def test_a_relationship_that_isnt_named_stays_pending(sessions: Sessions) -> None:
    """It is written by the next flush."""
    async with sessions() as session:
        session.add_all([post := Post(title="old"), author := Author(name="ann")])
        await session.commit()
        await session.refresh(post)
        post.author, post.title = author, "new"
        await post.save(update_fields=["title"])
        connection = await session.connection()
        assert await connection.scalar(select(Post.__table__.c.author_id)) is None
        await session.commit()
    assert await written_author(sessions) == "ann"


@pytest.mark.parametrize("is_loaded", [False, True])
@pytest.mark.parametrize("moves", [False, True])
async def test_collections_of_the_other_side_are_as_before(
    sessions: Sessions, is_loaded: bool, moves: bool
) -> None:
    """The pending member is in the new collection and not in the old one, loaded or not."""
    async with sessions() as session:
        post, old, new = Post(title="old"), Author(name="old"), Author(name="new")
        old.posts.append(other := Post(title="other"))
        if moves:
            old.posts.append(post)
        session.add_all([post, old, new])
        await session.commit()
        for instance in (post, old, new):
            await session.refresh(instance)
        await session.refresh(post, ["author"])
        if is_loaded:
            await session.refresh(old, ["posts"])
            await session.refresh(new, ["posts"])
        post.author, post.title = new, "new"
        await post.save(update_fields=["title"])
        with session.no_autoflush:
            posts = await session.run_sync(lambda _: [list(old.posts), list(new.posts)])
            assert posts == [[other], [post]]
            await session.refresh(post, ["title"])
        assert post in session.dirty
        await session.commit()
    async with sessions() as session:
        found = await session.scalars(
            select(Author.name).join(Post, Post.author_id == Author.id).order_by(Post.title)
        )
        assert found.all() == ["new", "old"]


async def test_other_members_of_the_other_side_are_written_and_sent_once(
    sessions: Sessions,
) -> None:
    """The flush of a partial save writes what else there is, and the next one what it has left."""
    sent: list[Any] = []
    for signal in (post_relation_add, post_relation_remove):
        signal.connect(
            lambda signal, child, **kwargs: sent.append((signal.name, child.title)), sender=Author
        )
    async with sessions() as session:
        posts = [Post(title=f"post {number}") for number in range(3)]
        session.add_all([author := Author(name="ann", posts=posts[:1]), *posts])
        session.add(bob := Author(name="bob"))
        await session.commit()
        for instance in (author, bob, *posts):
            await session.refresh(instance)
        await session.refresh(author, ["posts"])
        sent.clear()
        author.posts.remove(posts[0])
        author.posts.append(posts[1])
        author.posts.append(posts[2])
        posts[2].slug = "new"
        await posts[2].save(update_fields=["slug"])
        removal, first = ("post_relation_remove", "post 0"), ("post_relation_add", "post 1")
        assert sorted(sent) == [first, removal]
        sent.clear()
        posts[0].author_id = bob.id
        await session.commit()
        assert sorted(sent) == [("post_relation_add", f"post {number}") for number in (0, 2)]
        found = await session.execute(select(Post.title, Author.name).join(Post.author))
        assert sorted(map(tuple, found)) == [
            ("post 0", "bob"),
            ("post 1", "ann"),
            ("post 2", "ann"),
        ]


async def test_other_members_of_the_other_side_are_sent_no_second_time(
    sessions: Sessions,
) -> None:
    """A partial save hides its own instance from a collection, not what the flush writes of it."""
    sent: list[Any] = []
    for signal in (pre_relation_add, pre_relation_remove):
        signal.connect(
            lambda signal, child, **kwargs: sent.append((signal.name, child.title)), sender=Author
        )
    async with sessions() as session:
        posts = [Post(title=f"post {number}") for number in range(3)]
        session.add_all([author := Author(name="ann", posts=posts[:2]), posts[2]])
        await session.commit()
        for instance in (author, *posts):
            await session.refresh(instance)
        await session.refresh(author, ["posts"])
        sent.clear()
        author.posts.remove(posts[0])
        author.posts.remove(posts[1])
        posts[1].slug = "new"
        await posts[1].save(update_fields=["slug"])
        assert sent == [("pre_relation_remove", "post 0")]
        sent.clear()
        author.posts.append(posts[2])
        await session.commit()
        assert sorted(sent) == [("pre_relation_add", "post 2"), ("pre_relation_remove", "post 1")]


async def test_names_of_mixed_types_are_refused_in_words(sessions: Sessions) -> None:
    """What is no text can't be put in the order of texts, and is named all the same."""
    async with sessions() as session:
        session.add(post := Post(title="old"))
        await session.commit()
        seen: list[Any] = []
        pre_save.connect(lambda **kwargs: seen.append(kwargs), sender=Post)
        for fields in ([1, "title"], ["title", None], [("a",), "title", 2]):
            with pytest.raises(UnknownFieldError, match="update_fields names"):
                await post.save(update_fields=fields)
        assert seen == []


@pytest.mark.parametrize("is_expired", [False, True])
async def test_a_copy_has_what_the_row_has_where_a_change_stays_pending(
    sessions: Sessions, is_expired: bool
) -> None:
    """The pending value may never be written."""
    seen: list[Any] = []

    @post_save(Post, phase="after_commit")
    async def look(instance: Post, **kwargs: Any) -> None:
        seen.append((instance.title, instance.slug, instance.views))

    async with sessions() as session:
        session.add(post := Post(title="old", slug="old"))
        await session.commit()
        seen.clear()
        await session.refresh(post)
        if is_expired:
            session.expire(post, ["slug"])
        post.title, post.slug = "new", "pending"
        await post.save(update_fields=["title"])
        assert (post.title, post.slug) == ("new", "pending")
        session.expire(post)
        await session.commit()
    assert seen == [("new", "old", 7)]


async def test_a_key_that_stays_pending_leads_to_no_other_row(sessions: Sessions) -> None:
    """The row that the instance has is written and sent; the key is written when asked."""
    seen: list[Any] = []

    @post_save(Post, phase="after_commit")
    async def look(instance: Post, **kwargs: Any) -> None:
        seen.append((instance.id, instance.title))

    async with sessions() as session:
        session.add_all([post := Post(id=1, title="one"), Post(id=5, title="five")])
        await session.commit()
        await session.refresh(post)
        seen.clear()
        post.id, post.title = 5, "new"
        await post.save(update_fields=["title"])
        assert post.id == 5
        assert inspect(post).identity == (1,)
        post.id = 7
        await session.commit()
        rows = await session.execute(select(Post.id, Post.title).order_by(Post.id))
        assert [tuple(row) for row in rows] == [(5, "five"), (7, "new")]
    assert seen == [(1, "new"), (7, "new")]


async def test_a_key_that_a_receiver_sets_is_written(sessions: Sessions) -> None:
    """As everything that receivers set; the pending one gives way."""

    @pre_save(Post)
    async def move(instance: Post, created: bool, **kwargs: Any) -> None:
        if not created:
            instance.id = 3

    async with sessions() as session:
        session.add(post := Post(id=1, title="one"))
        await session.commit()
        await session.refresh(post)
        post.id, post.title = 5, "new"
        await post.save(update_fields=["title"])
        await session.commit()
        rows = await session.execute(select(Post.id, Post.title))
        assert [tuple(row) for row in rows] == [(3, "new")]

"""The values in the net of a transaction: the last ones, and all changes."""

from __future__ import annotations

from typing import Any

import pytest
from kit.committing import COMMIT, Sessions
from kit.models import Post
from kit.net import Animal, write
from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

from aksara_signals import Signal, post_delete, post_save, post_update
from aksara_signals.dispatch.signal import restore_connections
from aksara_signals.orm import loading_fixtures


def test_the_last_values_and_all_changes(session: Session) -> None:
    """Those of the last flush; first old and last new values, less what cancels out."""
    seen: list[Any] = []

    @post_save(Post, phase=COMMIT, coalesce=True)
    def look(instance: Post, created: bool, changes: Any, **kwargs: Any) -> None:
        seen.append((instance.title, instance.slug, created, dict(changes)))

    post = Post(id=1, title="a")
    session.add(post)
    session.flush()
    post.title, post.views = "b", 8
    session.commit()
    [(title, slug, created, changes)] = seen
    assert (title, slug, created) == ("b", None, True)
    assert (changes["title"], changes["views"]) == ((None, "b"), (None, 8))
    seen.clear()
    post.title, post.slug = "c", "s"
    session.flush()
    post.title, post.views = "b", 9
    session.flush()
    post.views = 10
    session.commit()
    [(*_, changes)] = seen
    assert changes == {"slug": (None, "s"), "views": (8, 10)}


def test_an_old_value_that_was_not_loaded_cancels_out(session: Session) -> None:
    """No receiver has to name changes for it."""
    write(session, "c")
    session.commit()
    session.expire_all()
    sent: list[Any] = []
    animal = Animal(id=1, name="a")
    session.add(animal)
    session.commit()
    post_save.connect(
        lambda **kwargs: sent.append(kwargs), sender=Animal, phase=COMMIT, coalesce=True
    )
    session.expire(animal)
    animal.name = "b"
    session.flush()
    session.expire(animal)
    animal.name = "a"
    session.commit()
    assert sent == []


def test_fields_and_raw_of_several(session: Session) -> None:
    """raw only if all were; update_fields together, or None if any had none."""
    write(session, "c")
    session.commit()
    seen: list[Any] = []
    post_update.connect(
        lambda raw, update_fields, **kwargs: seen.append((raw, update_fields)),
        sender=Post,
        phase=COMMIT,
        coalesce=True,
    )
    for raws in ((True, True), (True, False), (False, True)):
        for number, raw in enumerate(raws):
            session.get(Post, 1).title = f"{raws} {number}"
            if raw:
                with loading_fixtures():
                    session.flush()
            else:
                session.flush()
        session.commit()
    assert seen == [(True, None), (False, None), (False, None)]


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        (["title"], ["slug"], {"title", "slug"}),
        (["title"], None, None),
        (None, ["slug"], None),
    ],
)
async def test_update_fields_of_several(
    sessions: async_sessionmaker[AsyncSession], first: Any, then: Any, expected: Any
) -> None:
    """The union, or None if any had none."""
    seen: list[Any] = []
    async with sessions(expire_on_commit=False) as session:
        post = Post(title="x")
        session.add(post)
        await session.commit()
        post_save.connect(
            lambda update_fields, **kwargs: seen.append(update_fields),
            sender=Post,
            phase=COMMIT,
            coalesce=True,
        )
        post.title = "y"
        await post.save(update_fields=first)
        post.slug = "y"
        await post.save(update_fields=then)
        await session.commit()
    assert seen == [expected]


@pytest.mark.parametrize("signal", [post_save, post_delete])
def test_who_is_connected_to_nothing_else(session: Session, signal: Signal) -> None:
    """What other signals would send counts, though no receiver is connected to them."""
    sent: list[Any] = []
    signal.connect(lambda **kwargs: sent.append(1), sender=Post, phase=COMMIT, coalesce=True)
    write(session, "cud")
    session.commit()
    assert sent == []
    if signal is post_delete:  # several of one flush
        session.add_all(posts := [Post(id=number, title="brief") for number in (8, 9)])
        session.flush()
        for post in posts:
            session.delete(post)
        session.commit()
        assert sent == []
    write(session, "c")
    session.commit()
    write(session, "ud")
    session.commit()
    assert len(sent) == 1


async def test_the_net_has_the_values_of_a_bulk_update(sessions: Sessions) -> None:
    """The last values are those that the row has, and what it has put back cancels out."""
    seen: list[Any] = []

    @post_save(Post, phase=COMMIT, coalesce=True)
    async def look(instance: Post, created: bool, changes: Any, **kwargs: Any) -> None:
        seen.append((instance.title, instance.slug, created, changes.get("title")))

    async def write(session: AsyncSession, post: Post, title: str) -> None:
        post.title = title
        await session.flush()

    async def write_in_bulk(session: AsyncSession, post: Post, title: str) -> None:
        post.title = title
        await Post.objects.bulk_update([post], ["title"], session=session)

    async with sessions() as session:
        post = Post(id=1, title="draft")
        session.add(post)
        await session.flush()
        await write_in_bulk(session, post, "final")
        await session.commit()
        await write(session, post, "changed")
        await write_in_bulk(session, post, "final")
        await session.commit()
        await write(session, post, "changed")
        post.slug = "pending"
        await write_in_bulk(session, post, "other")
        post.slug = "x"
        await session.commit()
        await write_in_bulk(session, post, "silent")
        await session.commit()
        await write(session, post, "kept")
        async with session.begin_nested() as savepoint:
            await write_in_bulk(session, post, "undone")
            await savepoint.rollback()
        await session.commit()
        await write(session, post, "changed")
        post.slug = "pending"
        await write_in_bulk(session, post, "last")
        session.expire(post)
        await session.commit()
    assert seen == [
        ("final", None, True, (None, "final")),
        ("other", "x", False, ("final", "other")),
        ("kept", "x", False, ("silent", "kept")),
        ("last", "x", False, ("kept", "last")),
    ]


def test_a_row_is_deleted_with_the_key_that_it_has(session: Session) -> None:
    """Another key that was set and never written is that of another row, or of none."""
    deleted: list[int] = []
    for coalesce in (False, True):
        post_delete.connect(
            lambda instance, **kwargs: deleted.append(instance.id),
            sender=Post,
            phase=COMMIT,
            coalesce=coalesce,
        )
    write(session, "c")
    session.commit()
    post = session.get_one(Post, 1)
    post.id = 2
    session.delete(post)
    session.commit()
    assert deleted == [1, 1]


def test_sends_by_hand(session: Session) -> None:
    """One per row, the last; what the unit of work knows of the row counts for more."""
    sent: list[Any] = []
    post_save.connect(
        lambda instance, created, **kwargs: sent.append((instance.title, created)),
        sender=Post,
        phase=COMMIT,
        coalesce=True,
    )
    write(session, "c")
    post = session.get(Post, 1)
    post_save.send_sync(Post, instance=post, created=False)
    session.commit()
    assert sent == [("created", True)]
    sent.clear()
    post_save.send_sync(Post, instance=post, created=True)
    post_save.send_sync(Post, instance=post)
    session.commit()
    assert sent == [("created", True)]


def test_nothing_is_read_where_no_receiver_coalesces(session: Session, sync_engine: Engine) -> None:
    """Old values are asked for by those alone who are sent the net of changes."""
    write(session, "c")
    session.commit()
    statements: list[str] = []
    event.listen(
        sync_engine, "before_cursor_execute", lambda *each: statements.append(each[2].split()[0])
    )
    counts = []
    for options in ({"coalesce": True}, {"created": True, "coalesce": True}, {}):
        restore_connections(post_save, [])
        post_save.connect(lambda **kwargs: None, sender=Post, phase=COMMIT, **options)
        post = session.get(Post, 1)
        session.expire(post, ["title"])
        statements.clear()
        post.title = f"{options}"
        session.commit()
        counts.append(statements.count("SELECT"))
    assert counts[0] == counts[1] + 1
    assert counts[1] == counts[2]

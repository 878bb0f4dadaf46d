"""What receivers get that wait for the outcome: copies, as of the flush."""

from __future__ import annotations

from typing import Any

import pytest
from kit.models import Author, Post
from kit.support import Recorder
from sqlalchemy import JSON, Column, ForeignKey, Table, event, inspect
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
)
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.orm.exc import DetachedInstanceError

from aksara_signals import (
    NoSessionError,
    Signal,
    m2m_changed,
    post_bulk_create,
    post_delete,
    post_relation_add,
    post_save,
    post_update,
)
from aksara_signals.orm import SignalMixin


class OwnBase(SignalMixin, DeclarativeBase):
    pass


class Label(OwnBase):
    __tablename__ = "label"

    id: Mapped[int] = mapped_column(primary_key=True)


class Item(OwnBase):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON), default=dict)
    labels: Mapped[list[Label]] = relationship(
        secondary=Table(
            "item_label",
            OwnBase.metadata,
            Column("item_id", ForeignKey("item.id"), primary_key=True),
            Column("label_id", ForeignKey("label.id"), primary_key=True),
        )
    )


COMMIT, ROLLBACK = "after_commit", "after_rollback"
Sessions = async_sessionmaker[AsyncSession]


# -- what is delivered ----------------------------------------------------------------------------


@pytest.mark.parametrize("expire_on_commit", [True, False])
async def test_the_instance_is_a_detached_copy(
    sessions: Sessions, async_engine: AsyncEngine, expire_on_commit: bool
) -> None:
    """Columns and server defaults can be read without a query; the session's own is untouched."""
    copies: list[Any] = []

    @post_save(Post, phase=COMMIT)
    async def keep(sender: type, instance: Post, **kwargs: Any) -> None:
        copies.append(instance)

    async with sessions(expire_on_commit=expire_on_commit) as session:
        author = Author(name="a")
        post = Post(title="x", author=author)
        session.add(post)
        await session.commit()
        assert inspect(post).expired is expire_on_commit
        [copy] = copies
        assert copy is not post
        assert type(copy) is Post
        assert inspect(copy).detached
        statements: list[str] = []
        event.listen(
            async_engine.sync_engine,
            "before_cursor_execute",
            lambda conn, cursor, statement, *rest: statements.append(statement),
        )
        assert (copy.title, copy.views, copy.slug) == ("x", 7, None)
        assert copy.author_id is not None
        assert inspect(copy).identity == inspect(post).identity
        assert statements == []
        with pytest.raises(DetachedInstanceError):
            _ = copy.author
        with pytest.raises(DetachedInstanceError):
            _ = copy.body  # deferred: it wasn't loaded
        merged = await session.merge(copy)
        assert merged is post


async def test_each_delivery_has_the_values_of_its_flush(
    sessions: Sessions, recorder: Recorder
) -> None:
    """Two saves are two deliveries, each as it was; also after a rollback."""
    recorder.record(post_save, Post, phase=COMMIT)
    recorder.record(post_update, Post, phase=COMMIT)
    recorder.record(post_delete, Post, phase=ROLLBACK)
    async with sessions() as session:
        post = Post(title="one")
        session.add(post)
        await session.flush()
        post.title = "two"
        await session.commit()
        key = post.id if not inspect(post).expired else inspect(post).identity[0]
        await session.refresh(post)
        await session.delete(post)
        await session.flush()
        await session.rollback()
    sent = [
        (c.signal, c.payload["instance"].title, c.payload.get("created")) for c in recorder.calls
    ]
    assert sent == [
        ("post_save", "one", True),
        ("post_update", "two", False),
        ("post_save", "two", False),
        ("post_delete", "two", None),
    ]
    assert {call.payload["instance"].id for call in recorder.calls} == {key}


async def test_receivers_dont_share_copies(sessions: Sessions) -> None:
    """What one receiver does to its copy, another doesn't see."""
    seen: list[str] = []

    @post_save(Post, phase=COMMIT)
    async def spoil(instance: Post, **kwargs: Any) -> None:
        async with sessions.begin() as session:
            session.add(instance)
            instance.slug = "spoilt"

    @post_save(Post, phase=COMMIT, created=True)
    async def look(instance: Post, **kwargs: Any) -> None:
        seen.append(f"{instance.title} {instance.slug}")

    async with sessions.begin() as session:
        session.add(Post(title="x"))
    assert seen == ["x None"]


async def test_changes_and_update_fields_come_along(sessions: Sessions) -> None:
    """A receiver that waits gets the arguments of one that doesn't."""
    seen: list[Any] = []

    @post_save(Post, phase=COMMIT, created=False)
    async def look(s: type, i: Post, changes: Any, update_fields: Any, **kwargs: Any) -> None:
        seen.append((s, i.title, dict(changes), update_fields, kwargs["raw"]))

    async with sessions(expire_on_commit=False) as session:
        post = Post(title="a")
        session.add(post)
        await session.commit()
        post.title = "b"
        await post.save(update_fields=["title"])
        await session.commit()
    assert seen == [(Post, "b", {"title": ("a", "b")}, {"title"}, False)]


async def test_values_that_change_in_place_are_kept(async_engine: AsyncEngine) -> None:
    """A JSON column changed after the flush is delivered as it was then."""
    async with async_engine.begin() as connection:
        await connection.run_sync(OwnBase.metadata.create_all)
    seen: list[Any] = []

    @post_save(Item, phase=COMMIT)
    async def look(instance: Item, **kwargs: Any) -> None:
        seen.append(dict(instance.data))

    async with AsyncSession(async_engine) as session:
        box = Item(data={"n": [1]})
        session.add(box)
        await session.flush()
        box.data["n"] = [1, 2]
        await session.commit()
    assert seen == [{"n": [1]}, {"n": [1, 2]}]


async def test_coalescing_sends_each_row_once(sessions: Sessions) -> None:
    """With what is known at the end: created if it was, all fields, first and last values."""
    seen: list[Any] = []

    @post_save(Post, phase=COMMIT, coalesce=True)
    async def look(instance: Post, created: bool, changes: Any, **kwargs: Any) -> None:
        seen.append((instance.title, created, kwargs["update_fields"], changes.get("title")))

    async with sessions(expire_on_commit=False) as session:
        one, two = Post(title="a"), Post(title="b")
        session.add_all([one, two])
        await session.flush()
        for title in ("c", "d"):
            one.title = title
            await session.flush()
        await session.commit()
        assert seen == [("b", True, None, (None, "b")), ("d", True, None, (None, "d"))]
        seen.clear()
        one.title, one.slug = "e", "e"
        await one.save(update_fields=["title"])
        await one.save(update_fields=["slug"])
        savepoint = await session.begin_nested()
        one.title = "f"
        await session.flush()
        await savepoint.rollback()
        await session.commit()
    assert seen == [("e", False, {"title", "slug"}, ("d", "e"))]


# -- relations, bulk, custom signals --------------------------------------------------------------


async def test_bulk_signals_wait(sessions: Sessions) -> None:
    """One delivery with copies of all instances."""
    seen: list[Any] = []

    @post_bulk_create(Post, phase=COMMIT)
    async def look(instances: list[Post], **kwargs: Any) -> None:
        seen.append(
            [(inspect(each).detached, each.id is not None, each.title) for each in instances]
        )

    async with sessions.begin() as session:
        await Post.objects.bulk_create([Post(title=each) for each in "ab"], session=session)
        assert seen == []
    assert seen == [[(True, True, "a"), (True, True, "b")]]


async def test_relation_signals_wait(sessions: Sessions) -> None:
    """With copies of owner and child; m2m_changed is sent after the fact only."""
    seen: list[Any] = []

    @post_relation_add(Author, phase=COMMIT)
    async def look(instance: Author, child: Post, relation_name: str, **kwargs: Any) -> None:
        seen.append((instance.name, child.title, relation_name, inspect(child).detached))

    async with sessions.begin() as session:
        session.add(Author(name="a", posts=[Post(title="x")]))
    assert seen == [("a", "x", "posts", True)]


async def test_many_to_many_signals_wait(async_engine: AsyncEngine) -> None:
    """A receiver of m2m_changed that waits gets the post actions alone."""
    async with async_engine.begin() as connection:
        await connection.run_sync(OwnBase.metadata.create_all)
    seen: list[Any] = []

    @m2m_changed(Item.labels, phase=COMMIT)
    async def look(
        instance: Item, action: str, objects: list[Label], pk_set: Any, **kw: Any
    ) -> None:
        seen.append((instance.id, action, [each.id for each in objects], pk_set))

    async with async_sessionmaker(async_engine).begin() as session:
        session.add(Item(id=1, labels=[Label(id=2)]))
        await session.flush()
        assert seen == []
    assert seen == [(1, "post_add", [2], {2})]


async def test_custom_signals_wait_for_their_sessions_transaction(sessions: Sessions) -> None:
    """The session is given, or it is that of the instance; any instance sent is copied."""
    published = Signal("published")
    seen: list[Any] = []

    @published.connect(phase=COMMIT)
    async def look(sender: Any, by: Any = None, instance: Any = None, **kwargs: Any) -> None:
        sent = [None if each is None else inspect(each).detached for each in (instance, by)]
        seen.append((sender, *sent))

    async with sessions.begin() as session:
        post, author = Post(title="x"), Author(name="a")
        session.add_all([post, author])
        await session.flush()
        assert await published.send(Post, instance=post, by=author) == []
        await published.send_robust("given", session=session)
        published.send_sync("sync", session=session)
        assert seen == []
    assert seen == [(Post, True, True), ("given", None, None), ("sync", None, None)]


async def test_an_instance_without_a_row_is_copied_too(sessions: Sessions) -> None:
    """A custom signal may send one that was never saved: the copy is transient."""
    drafted = Signal("drafted")
    seen: list[Any] = []

    @drafted.connect(phase=COMMIT)
    async def look(instance: Post, **kwargs: Any) -> None:
        seen.append((inspect(instance).transient, instance.title, instance.slug, instance.body))

    called = drafted.connect(lambda **kwargs: "at once")
    async with sessions.begin() as session:
        responses = await drafted.send(Post, instance=Post(title="x"), session=session)
    assert responses == [(called, "at once")]
    assert seen == [(True, "x", None, None)]


async def test_custom_signals_coalesce_by_their_instance(sessions: Sessions) -> None:
    """One that is sent for no instance isn't coalesced."""
    viewed = Signal("viewed")
    seen: list[Any] = []

    @viewed.connect(phase=COMMIT, coalesce=True)
    async def look(times: int, instance: Any = None, **kwargs: Any) -> None:
        seen.append((times, None if instance is None else instance.title))

    async with sessions.begin() as session:
        post = Post(title="x")
        session.add(post)
        await session.flush()
        for times in (1, 2):
            await viewed.send(Post, instance=post, times=times)
            await viewed.send(Post, session=session, times=times)
    assert seen == [(1, None), (2, "x"), (2, None)]


async def test_a_send_without_a_transaction_is_refused(recorder: Recorder) -> None:
    """No receiver is called then, neither immediate nor deferred ones."""
    published = Signal("published")
    recorder.record(published)
    recorder.record(published, phase=COMMIT)
    for payload in ({}, {"instance": Post(title="in no session")}, {"instance": 5}):
        with pytest.raises(NoSessionError, match="session="):
            await published.send(Post, **payload)
    assert recorder.calls == []

"""Managers and query sets: their verbs, their sessions, and what they send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit import databases
from kit.models import Audit, Author, Base, Post
from kit.support import Recorder
from sqlalchemy import event, func, select
from sqlalchemy.exc import IntegrityError, MultipleResultsFound, NoResultFound
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Mapped, mapped_column

from aksara_signals import (
    NoSessionError,
    UnknownFieldError,
    UnmappedClassError,
    post_delete,
    post_save,
    post_update,
    pre_delete,
    pre_save,
    pre_update,
)
from aksara_signals.orm import Manager, session_scope

LIFE_CYCLE = (pre_save, post_save, pre_update, post_update, pre_delete, post_delete)


class Badge(Base):
    """A model with a unique column and a key of two columns."""

    __tablename__ = "badge"

    row: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(unique=True)


@pytest.fixture(autouse=True)
async def maker(async_engine: AsyncEngine) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Models bound to sessions on a database with empty tables."""
    async with databases.bound(Base, async_engine) as maker:
        yield maker


async def three() -> list[Post]:
    return [await Post.objects.create(title=title, views=n) for n, title in enumerate("abc")]


async def test_create_writes_commits_and_sends(recorder: Recorder) -> None:
    """With a session of the library's own, the row is committed when create() returns."""
    for signal in (pre_save, post_save):
        recorder.record(signal, Post)
    post = await Post.objects.create(title="a")
    assert recorder.names == ["pre_save", "post_save"]
    assert post.views == 7
    assert (await Post.query.get(pk=post.id)).title == "a"


async def test_reading_verbs() -> None:
    """get, get_or_none, filter, all, first, count and exists, on managers and query sets."""
    a, b, c = await three()
    ids = [each.id for each in (a, b, c)]
    assert [each.id for each in await Post.objects.filter().order_by("id").all()] == ids
    assert {each.id for each in await Post.objects.all()} == set(ids)
    assert (await Post.objects.first()).id == a.id
    assert await Post.objects.count() == 3
    assert await Post.objects.exists()
    assert [each.id for each in await Post.objects.filter().order_by("-pk").all()] == ids[::-1]
    assert (await Post.objects.filter().order_by("views", "-id").first()).id == a.id
    some = Post.objects.filter(Post.views > 0).order_by("-views")
    assert [each.title for each in await some.all()] == ["c", "b"]
    assert [each.title for each in await some.limit(1).all()] == ["c"]
    assert (await some.first()).title == "c"
    assert await some.count() == 2
    assert await some.limit(1).count() == 1
    assert await some.filter(title="a").exists() is False
    assert (await some.get(title="b")).id == b.id
    assert (await Post.objects.get(Post.views == 1)).id == b.id
    assert await Post.objects.get_or_none(title="z") is None
    with pytest.raises(NoResultFound, match="no Post matches"):
        await Post.objects.get(title="z")
    with pytest.raises(MultipleResultsFound, match="more than one Post"):
        await Post.objects.get_or_none()


async def test_equality_on_relationships_none_and_composite_keys() -> None:
    """What SQLAlchemy's == can compare, keyword arguments can."""
    author = await Author.objects.create(name="ann")
    post = await Post.objects.create(title="a", author_id=author.id)
    assert (await Post.objects.get(author=author)).id == post.id
    assert await Post.objects.filter(slug=None).count() == 1
    await Badge.objects.create(row=1, number=2, code="x")
    assert (await Badge.objects.get(pk=(1, 2))).code == "x"
    with pytest.raises(UnknownFieldError, match="row, number"):
        Badge.objects.filter(pk=1)


@pytest.mark.parametrize(
    ("equals", "message"),
    [({"titel": "x"}, "did you mean 'title'"), ({"title__contains": "x"}, "expressions")],
)
def test_unknown_names_are_refused(equals: dict[str, Any], message: str) -> None:
    """A misspelt attribute, or Django's look-ups, are named with the way out."""
    with pytest.raises(UnknownFieldError, match=message):
        Post.objects.filter(**equals)
    with pytest.raises(UnknownFieldError, match="not an attribute"):
        Post.objects.filter().order_by("-titel")


async def test_get_or_create_makes_what_is_missing(recorder: Recorder) -> None:
    """The instance comes with whether it was made; only then signals are sent."""
    recorder.record(post_save, Badge)
    badge, made = await Badge.objects.get_or_create({"code": "x"}, row=1, number=1)
    again, made_again = await Badge.objects.get_or_create({"code": "y"}, row=1, number=1)
    assert (made, made_again) == (True, False)
    assert again.code == badge.code == "x"
    assert len(recorder.calls) == 1
    with pytest.raises(IntegrityError):
        await Badge.objects.get_or_create(row=2, number=1, code="x")
    with pytest.raises(UnknownFieldError, match="pk"):
        await Badge.objects.get_or_create(pk=(9, 9))


async def test_get_or_create_returns_the_row_that_came_first(
    maker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another session inserts between look and insert: its row is returned, the session is usable."""
    look = Manager.get_or_none
    looks: list[Any] = []

    async def look_too_early(self: Any, *args: Any, **kwargs: Any) -> Any:
        looks.append(kwargs)
        return None if len(looks) == 1 else await look(self, *args, **kwargs)

    monkeypatch.setattr(Manager, "get_or_none", look_too_early)
    await Badge.objects.create(row=1, number=1, code="theirs")
    async with maker() as session:
        badge, made = await Badge.objects.get_or_create(
            {"code": "ours"}, session=session, row=1, number=1
        )
        assert (made, badge.code, len(looks)) == (False, "theirs", 2)
        await Badge.objects.create(row=1, number=2, code="more", session=session)
        await session.commit()


async def test_get_or_create_finds_a_row_that_its_snapshot_lacks(
    maker: Any, async_engine: AsyncEngine
) -> None:
    """A row that another session commits meanwhile is returned, where reads are repeatable too."""
    if async_engine.dialect.name == "sqlite":
        pytest.skip("a SQLite transaction that has read can't write after another one's write")
    theirs: list[Badge] = []

    @pre_save(Badge)
    async def come_first(instance: Badge, **kwargs: Any) -> None:
        if not theirs:
            theirs.append(Badge(row=1, number=1, code="theirs"))
            async with maker.begin() as other:
                other.add(theirs[0])

    async with maker() as session:
        badge, made = await Badge.objects.get_or_create(
            {"code": "ours"}, session=session, row=1, number=1
        )
        assert (made, badge.code) == (False, "theirs")
        badge.code = "changed"
        await session.commit()
    assert (await Badge.objects.get(row=1, number=1)).code == "changed"


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
async def test_get_or_create_by_several_at_once(maker: Any) -> None:
    """One of them creates the row, and the others, which have waited for it, find it."""
    count = 3
    ready = asyncio.Semaphore(0)
    start = asyncio.Event()

    async def find() -> tuple[str, bool]:
        async with maker.begin() as session:
            await session.execute(select(Badge))  # a snapshot from here on
            ready.release()
            await start.wait()
            badge, made = await Badge.objects.get_or_create(
                {"code": "x"}, session=session, row=1, number=1
            )
            if made:
                await asyncio.sleep(0.3)  # the others come to wait for its commit
            return badge.code, made

    tasks = [asyncio.create_task(find()) for _ in range(count)]
    for _ in tasks:
        await ready.acquire()
    start.set()
    assert sorted(await asyncio.gather(*tasks)) == [("x", False), ("x", False), ("x", True)]
    assert await Badge.objects.count() == 1


async def test_an_update_is_one_silent_statement(recorder: Recorder) -> None:
    """As in Aksara and ormar: no instance, no signal; SQL expressions work; rows are counted."""
    await three()
    for signal in LIFE_CYCLE:
        recorder.record(signal)
    assert await Post.objects.filter(Post.views > 0).update(views=Post.views + 10) == 2
    assert sorted(each.views for each in await Post.objects.all()) == [0, 11, 12]
    assert await Post.objects.filter().order_by(Post.views.desc()).limit(1).update(slug="top") == 1
    assert (await Post.objects.get(slug="top")).views == 12
    assert await Post.objects.filter(slug="top").delete() == 1
    assert recorder.calls == []
    assert await Post.objects.count() == 2


async def test_a_limit_holds_for_one_statement_on_a_key_of_two_columns() -> None:
    """The first rows are updated and deleted, and no others."""
    for number in (1, 2, 3):
        await Badge.objects.create(row=1, number=number, code=str(number))
    rows = Badge.objects.filter().order_by("-number")
    assert await rows.limit(1).update(code="last") == 1
    assert (await Badge.objects.get((1, 3))).code == "last"
    assert await rows.limit(2).delete() == 2
    assert [each.number for each in await Badge.objects.all()] == [1]


async def test_with_signals_sends_those_of_each_instance(recorder: Recorder) -> None:
    """As in Edgy and Mongoz: every row is sent, and receivers may change what is written."""
    a, b, c = await three()
    for signal in LIFE_CYCLE:
        recorder.record(signal, Post)

    @pre_save(Post)
    def stamp(instance: Post, **kwargs: Any) -> None:
        instance.slug = f"{instance.title}-stamped"

    chosen = Post.objects.filter(Post.views > 0).with_signals()
    assert await chosen.update(views=Post.views + 10) == 2
    per_row = ["pre_save", "pre_update"], ["post_update", "post_save"]
    assert sorted(recorder.names) == sorted([*per_row[0], *per_row[1]] * 2)
    assert {each.payload["instance"].id for each in recorder.calls} == {b.id, c.id}
    stored = await Post.objects.get(pk=b.id)
    assert (stored.views, stored.slug) == (11, "b-stamped")
    recorder.clear()
    assert await Post.objects.filter(pk=a.id).with_signals().delete() == 1
    assert recorder.names == ["pre_delete", "post_delete"]
    assert await Post.objects.count() == 2


async def test_with_signals_locks_the_rows_where_the_database_can(
    maker: Any, async_engine: AsyncEngine
) -> None:
    """Rows are read anew under a lock, so that changes worked out from them lose nothing."""
    [post, *_] = await three()
    statements: list[str] = []
    event.listen(
        async_engine.sync_engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, *_: statements.append(statement),
    )

    @pre_update(Post)
    async def count_up(instance: Post, **kwargs: Any) -> None:
        seen = instance.views
        await asyncio.sleep(0.01)
        instance.views = seen + 1

    async def touch() -> None:
        async with maker.begin() as session:
            await session.get(Post, post.id)  # what would be stale when the lock is had
            await Post.objects.filter(pk=post.id, session=session).with_signals().update(slug="x")

    has_locks = async_engine.dialect.name != "sqlite"
    if has_locks:
        await asyncio.gather(*(touch() for _ in range(5)))
    else:
        await touch()
        await Post.objects.filter(pk=post.id).update(slug=None)
    assert any("FOR UPDATE" in each for each in statements) is has_locks
    assert (await Post.objects.get(pk=post.id)).views == 1


@pytest.mark.parametrize("values", [{}, {"titel": 1}, {"author": None}])
async def test_updates_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    """Nothing to write, an unknown name, or a relationship in one statement."""
    with pytest.raises(UnknownFieldError):
        await Post.objects.filter().update(**values)


async def test_a_receivers_create_joins_the_transaction(maker: Any) -> None:
    """Audit row and change stand or fall together, from pre and post receivers alike."""

    @pre_save(Post)
    async def before(instance: Post, **kwargs: Any) -> None:
        await Audit.objects.create(text=f"about to save {instance.title}")

    @post_save(Post)
    async def after(instance: Post, **kwargs: Any) -> None:
        await Audit.objects.create(text=f"saved {instance.id}")

    async with maker() as session:
        session.add(Post(title="lost"))
        await session.flush()
        assert await Audit.objects.count(session=session) == 2
        await session.rollback()
    assert await Audit.objects.count() == 0
    async with maker() as session:
        session.add(Post(title="kept"))
        await session.commit()
    assert await Audit.objects.count() == 2


async def test_every_step_of_the_search_for_a_session(maker: Any) -> None:
    """Given, at work, in scope, from the factory; without any, an error that names them all."""
    async with maker() as given, maker() as scoped:
        post = await Post.objects.create(title="a", session=given)
        assert post in given
        async with session_scope(scoped):
            assert await Post.objects.filter(session=given).order_by("id").first() is post
            await given.rollback()
            other = await Post.objects.create(title="b")
            assert other in scoped
    assert await Post.objects.count() == 0

    class Homeless:
        pass

    with pytest.raises(UnmappedClassError, match="Homeless"):
        Manager(Homeless)
    with pytest.raises(AttributeError, match=r"Post\.objects"):
        Post(title="x").objects  # noqa: B018 - reading it is what is refused


async def test_without_any_session_the_error_names_the_ways(maker: Any) -> None:
    """Five ways to a session, all in the message."""
    Base.bind_sessions(None)
    with pytest.raises(NoSessionError) as caught:
        await Post.objects.create(title="x")
    for way in ("session=", "add the instance", "receiver", "session_scope", "bind_sessions"):
        assert way in str(caught.value)


async def test_sql_functions_in_criteria_and_repr() -> None:
    """Whatever goes into where() goes into filter(); managers say whose they are."""
    await three()
    assert await Post.objects.filter(func.upper(Post.title) == "B").count() == 1
    assert "Post" in repr(Post.objects)


async def test_a_partial_save_through_a_session_of_its_own(recorder: Recorder) -> None:
    """The commit of the library's own session leaves the other fields pending as well."""
    post = await Post.objects.create(title="a", slug="a")
    recorder.record(post_save)
    post.title = post.slug = "b"
    await post.save(update_fields=["title"])
    stored = await Post.objects.get(pk=post.id)
    assert (stored.title, stored.slug) == ("b", "a")
    assert [call.payload["update_fields"] for call in recorder.calls] == [{"title"}]
    await post.save()
    assert (await Post.objects.get(pk=post.id)).slug == "b"


async def test_get_or_create_in_a_pre_receiver_joins_the_flush(maker: Any) -> None:
    """No savepoint is to be had there; the new row is written by the flush under way."""
    made: list[bool] = []

    @pre_save(Post)
    async def tag(sender: type, instance: Post, **kwargs: Any) -> None:
        made.append((await Badge.objects.get_or_create({"code": "c"}, row=1, number=1))[1])

    await Post.objects.create(title="a")
    assert (await Badge.objects.get(pk=(1, 1))).code == "c"
    await Post.objects.create(title="b")
    assert made == [True, False]


async def test_with_signals_keeps_what_is_pending_where_nothing_is_autoflushed(maker: Any) -> None:
    """Pending changes of a session that doesn't autoflush are not overwritten by the look-up."""
    await three()
    async with maker(autoflush=False, expire_on_commit=False) as session:
        post = await Post.objects.get(title="a", session=session)
        post.slug = "pending"
        await Post.objects.filter(pk=post.id).with_signals().update(title="A", session=session)
        await session.commit()
    stored = await Post.objects.get(pk=post.id)
    assert (stored.title, stored.slug) == ("A", "pending")

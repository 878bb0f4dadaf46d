"""What receivers read is what the row holds, whatever a query has left out or a commit has expired."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kit.articles import Article, Editor, Pair, Person, Remark, Topic, articles_in, quiet
from sqlalchemy import event, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import defer, joinedload, load_only, with_loader_criteria
from sqlalchemy.orm.exc import DetachedInstanceError, ObjectDeletedError, StaleDataError

from aksara_signals import (
    m2m_changed,
    post_delete,
    post_relation_add,
    post_save,
    pre_delete,
    pre_save,
    pre_update,
)

OPTIONS: dict[str, Callable[[], list[Any]]] = {
    "load_only": lambda: [load_only(Article.views)],
    "defer": lambda: [defer(Article.title), defer(Article.data)],
    "nothing": list,
}


@pytest.fixture
async def sessions(async_engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return await articles_in(async_engine)


@pytest.mark.parametrize("phase", ["immediate", "after_commit"])
@pytest.mark.parametrize("options", OPTIONS)
async def test_unloaded_columns_of_saved_rows_are_loaded(
    sessions: async_sessionmaker[AsyncSession], phase: str, options: str
) -> None:
    """An async receiver, and one that waits, read the columns that a query has left out."""
    received: list[Any] = []

    @post_save(Article, phase=phase)
    async def note(instance: Article, **kwargs: Any) -> None:
        received.append((instance.id, instance.title, instance.views, instance.data))

    async with sessions() as session:
        query = select(Article).order_by(Article.id).options(*OPTIONS[options]())
        for article in (await session.scalars(query)).unique():
            article.views += 1
        await session.commit()
    assert received == [(n, f"title {n}", 1, {"n": n}) for n in (1, 2, 3)]


@pytest.mark.parametrize("phase", ["immediate", "after_commit"])
async def test_unloaded_columns_of_deleted_rows_are_read_before_they_go(
    sessions: async_sessionmaker[AsyncSession], phase: str
) -> None:
    """A receiver of post_delete reads the columns that were not loaded, whatever its kind."""
    received: list[Any] = []

    @post_delete(Article, phase=phase)
    async def note(instance: Article, **kwargs: Any) -> None:
        received.append(("async", instance.id, instance.title))

    @post_delete(Article, phase=phase)
    def note_sync(instance: Article, **kwargs: Any) -> None:
        received.append(("sync", instance.id, instance.title))

    async with sessions() as session:
        query = select(Article).options(load_only(Article.id)).where(Article.id < 3)
        for article in (await session.scalars(query)).unique():
            await session.delete(article)
        await session.commit()
    assert sorted(received) == [
        (kind, number, f"title {number}") for kind in ("async", "sync") for number in (1, 2)
    ]


async def test_pre_receivers_read_expired_rows(sessions: async_sessionmaker[AsyncSession]) -> None:
    """Async receivers of pre signals read what has expired, before an UPDATE and a DELETE."""
    received: list[Any] = []

    @pre_save(Article)
    @pre_update(Article)
    @pre_delete(Article)
    async def note(signal: Any, instance: Article, **kwargs: Any) -> None:
        received.append((signal.name, instance.title))

    async with sessions() as session:
        first, second = await session.get_one(Article, 1), await session.get_one(Article, 2)
        await session.commit()
        first.views = 7
        await session.delete(second)
        await session.commit()
    assert received == [
        ("pre_save", "title 1"),
        ("pre_update", "title 1"),
        ("pre_delete", "title 2"),
    ]


@pytest.mark.parametrize("phase", ["immediate", "after_commit"])
async def test_both_ends_of_links_are_loaded(
    sessions: async_sessionmaker[AsyncSession], phase: str
) -> None:
    """Receivers of m2m and relation signals read the columns of the owner and of the members."""
    received: list[Any] = []

    @m2m_changed(Article, phase=phase)
    async def changed(instance: Article, action: str, objects: list[Topic], **kwargs: Any) -> None:
        if action == "post_add":
            received.append(("m2m", instance.title, [each.name for each in objects]))

    @post_relation_add(Article, phase=phase)
    async def added(instance: Article, child: Topic, **kwargs: Any) -> None:
        received.append(("relation", instance.title, child.name))

    async with sessions() as session:
        article = (
            (
                await session.scalars(
                    select(Article).where(Article.id == 1).options(load_only(Article.id))
                )
            )
            .unique()
            .one()
        )
        topics = await session.scalars(select(Topic).options(load_only(Topic.id)))
        await session.run_sync(lambda _: article.topics.extend(topics))
        await session.commit()
    names = ["topic 1", "topic 2", "topic 3"]
    assert sorted(received) == [
        ("m2m", "title 1", names),
        *(("relation", "title 1", name) for name in names),
    ]


async def test_deferred_and_refused_columns_stay_unloaded(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    """A copy names the column that the mapping defers, or raiseload refuses, when it is read."""
    received: list[Any] = []

    @post_save(Article, phase="after_commit")
    async def note(instance: Article, **kwargs: Any) -> None:
        for name in ("body", "title", "shout"):
            with pytest.raises(DetachedInstanceError, match=name):
                getattr(instance, name)
        received.append(instance.data)

    async with sessions() as session:
        article = (
            (
                await session.scalars(
                    select(Article)
                    .where(Article.id == 1)
                    .options(
                        defer(Article.title, raiseload=True),
                        defer(Article.shout),
                        defer(Article.data),
                    )
                )
            )
            .unique()
            .one()
        )
        article.views = 5
        await session.commit()
    assert received == [{"n": 1}]


async def test_options_of_a_joined_load_leave_no_gap(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    """An object that came with another one, in part, is copied whole; joined tables included."""
    received: list[Any] = []

    @post_save(Person, phase="after_commit")
    async def note(instance: Any, **kwargs: Any) -> None:
        received.append((type(instance), instance.name, instance.desk))

    async with sessions() as session:
        options = joinedload(Article.editor.of_type(Editor)).load_only(Editor.desk)
        query = select(Article).where(Article.id == 2).options(options)
        article = (await session.scalars(query)).unique().one()
        article.editor.desk = "new desk"
        await session.commit()
    assert received == [(Editor, "editor 2", "new desk")]


async def test_a_composite_key_finds_its_row(sessions: async_sessionmaker[AsyncSession]) -> None:
    """Rows with a key of two columns are loaded together."""
    received: list[Any] = []

    @post_save(Pair, phase="after_commit")
    async def note(instance: Pair, **kwargs: Any) -> None:
        received.append((instance.left, instance.right, instance.name, instance.note))

    async with sessions() as session:
        query = select(Pair).options(load_only(Pair.name)).order_by(Pair.left)
        for pair in await session.scalars(query):
            pair.name = "new"
        await session.commit()
    assert received == [(n, n, "new", "note") for n in (1, 2, 3)]


async def test_pending_values_survive_the_loading(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    """What is pending stays pending, and JSON that is loaded so is followed when it changes."""
    received: list[Any] = []

    @pre_update(Article)
    async def look(instance: Article, changes: Any, **kwargs: Any) -> None:
        received.append((instance.title, instance.views, dict(changes)))
        instance.data["seen"] = True

    async with sessions() as session:
        article = await session.get_one(Article, 1)
        await session.commit()
        article.title = "pending"
        await session.commit()
        await session.refresh(article)
        assert article.data == {"n": 1, "seen": True}
    assert received == [("pending", 0, {"title": ("title 1", "pending")})]


async def test_criteria_of_the_application_hide_no_row(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    """A do_orm_execute listener that hides rows sees a column load, and hides none of them."""
    received: list[Any] = []

    @post_save(Article)
    async def note(instance: Article, **kwargs: Any) -> None:
        received.append(instance.title)

    async with sessions() as session:
        articles = (await session.scalars(select(Article).order_by(Article.id))).unique().all()
        await session.commit()

        @event.listens_for(session.sync_session, "do_orm_execute")
        def hide(state: Any) -> None:
            if state.is_select and not state.is_column_load and not state.is_relationship_load:
                criteria = with_loader_criteria(Article, lambda cls: cls.id < 0)
                state.statement = state.statement.options(criteria)

        for article in articles:
            article.views = 9
        await session.commit()
    assert received == ["title 1", "title 2", "title 3"]


async def test_an_expired_row_that_is_gone_fails_as_without_receivers(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    """An object with a reference is loaded by the flush itself, which says that its row is gone."""
    post_delete.connect(quiet, sender=Remark)
    async with sessions() as session:
        remark = Remark(id=1, topic_id=1)
        session.add(remark)
        await session.commit()
        await session.execute(text("DELETE FROM remark WHERE id = 1"))
        await session.delete(remark)
        with pytest.raises(ObjectDeletedError):
            await session.flush()


async def test_old_values_of_a_row_that_is_gone_are_unknown(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    """That the UPDATE meets no row is SQLAlchemy's to say."""
    received: list[Any] = []

    @pre_save(Topic)
    def note(instance: Topic, changes: Any, **kwargs: Any) -> None:
        received.append(dict(changes))

    async with sessions() as session:
        topic = await session.get_one(Topic, 1)
        session.expire(topic, ["name"])
        await session.execute(text("DELETE FROM topic WHERE id = 1"))
        topic.name = "new"
        with pytest.raises(StaleDataError):
            await session.flush()
    assert received == [{"name": (None, "new")}]


async def test_a_row_that_is_gone_fails_nothing(sessions: async_sessionmaker[AsyncSession]) -> None:
    """Columns that can't be loaded any more stay unloaded: the DELETE is SQLAlchemy's to judge."""

    @pre_delete(Topic)
    async def note(instance: Topic, **kwargs: Any) -> None:
        """Read nothing."""

    async with sessions() as session:
        topic = await session.get_one(Topic, 1)
        session.expire(topic, ["name"])
        await session.execute(text("DELETE FROM topic WHERE id = 1"))
        await session.delete(topic)
        with pytest.warns(match="expected to delete 1 row"):
            await session.commit()

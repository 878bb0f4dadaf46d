"""What receivers read is what the row holds, and listening costs one SELECT for each class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    Engine,
    ForeignKey,
    Table,
    column,
    event,
    func,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    defer,
    joinedload,
    load_only,
    mapped_column,
    relationship,
    with_loader_criteria,
)
from sqlalchemy.orm.exc import DetachedInstanceError, ObjectDeletedError, StaleDataError

from aksara_signals import (
    m2m_changed,
    post_bulk_update,
    post_delete,
    post_relation_add,
    post_save,
    pre_delete,
    pre_save,
    pre_update,
)
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "person"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Editor(Person):
    __tablename__ = "editor"

    id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    desk: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "editor"}


links = Table(
    "article_topic",
    Base.metadata,
    Column("article_id", ForeignKey("article.id"), primary_key=True),
    Column("topic_id", ForeignKey("topic.id"), primary_key=True),
)


class Topic(Base):
    __tablename__ = "topic"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]


class Article(Base):
    __tablename__ = "article"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str | None]
    views: Mapped[int] = mapped_column(default=0)
    data: Mapped[dict[str, Any] | None] = mapped_column(MutableDict.as_mutable(JSON))
    edited: Mapped[str | None] = mapped_column(onupdate=func.lower("NOW"))
    body: Mapped[str | None] = mapped_column(deferred=True)
    shout: Mapped[str | None] = column_property(func.upper(column("title")), deferred=False)
    editor_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    editor: Mapped[Person | None] = relationship(lazy="joined")
    topics: Mapped[list[Topic]] = relationship(secondary=links)


class Remark(Base):
    __tablename__ = "remark"

    id: Mapped[int] = mapped_column(primary_key=True)
    topic_id: Mapped[int | None] = mapped_column(ForeignKey("topic.id"))
    topic: Mapped[Topic | None] = relationship()


class Pair(Base):
    __tablename__ = "pair"

    left: Mapped[int] = mapped_column(primary_key=True)
    right: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    note: Mapped[str | None]


class Statements:
    """The SELECTs that an engine has executed."""

    def __init__(self, engine: Engine) -> None:
        self.selects: list[str] = []
        event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, _c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT"):
            self.selects.append(statement)


@pytest.fixture
async def sessions(async_engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Sessions on a database with three articles and their editors."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    maker = async_sessionmaker(async_engine)
    async with maker.begin() as session:
        for number in (1, 2, 3):
            editor = Editor(id=number, name=f"editor {number}", desk=f"desk {number}")
            session.add(
                Article(
                    id=number, title=f"title {number}", body="b", data={"n": number}, editor=editor
                )
            )
            session.add(Topic(id=number, name=f"topic {number}"))
            session.add(Pair(left=number, right=number, name="n", note="note"))
    return maker


@pytest.fixture
def statements(async_engine: AsyncEngine) -> Statements:
    return Statements(async_engine.sync_engine)


OPTIONS: dict[str, Callable[[], list[Any]]] = {
    "load_only": lambda: [load_only(Article.views)],
    "defer": lambda: [defer(Article.title), defer(Article.data)],
    "nothing": list,
}


@pytest.mark.parametrize("phase", ["immediate", "after_commit"])
@pytest.mark.parametrize("options", OPTIONS)
async def test_unloaded_columns_of_saved_rows_are_loaded(
    sessions: async_sessionmaker[AsyncSession], phase: str, options: str
) -> None:
    """An async receiver, and one that waits, read the columns that a query has left out."""
    heard: list[Any] = []

    @post_save(Article, phase=phase)
    async def note(instance: Article, **kwargs: Any) -> None:
        heard.append((instance.id, instance.title, instance.views, instance.data))

    async with sessions() as session:
        query = select(Article).order_by(Article.id).options(*OPTIONS[options]())
        for article in (await session.scalars(query)).unique():
            article.views += 1
        await session.commit()
    assert heard == [(n, f"title {n}", 1, {"n": n}) for n in (1, 2, 3)]


@pytest.mark.parametrize("phase", ["immediate", "after_commit"])
async def test_unloaded_columns_of_deleted_rows_are_read_before_they_go(
    sessions: async_sessionmaker[AsyncSession], phase: str
) -> None:
    """A receiver of post_delete reads the columns that nobody had loaded, whatever its kind."""
    heard: list[Any] = []

    @post_delete(Article, phase=phase)
    async def note(instance: Article, **kwargs: Any) -> None:
        heard.append(("async", instance.id, instance.title))

    @post_delete(Article, phase=phase)
    def note_sync(instance: Article, **kwargs: Any) -> None:
        heard.append(("sync", instance.id, instance.title))

    async with sessions() as session:
        query = select(Article).options(load_only(Article.id)).where(Article.id < 3)
        for article in (await session.scalars(query)).unique():
            await session.delete(article)
        await session.commit()
    assert sorted(heard) == [
        (kind, number, f"title {number}") for kind in ("async", "sync") for number in (1, 2)
    ]


async def test_pre_receivers_read_expired_rows(sessions: async_sessionmaker[AsyncSession]) -> None:
    """Async receivers of pre signals read what has expired, before an UPDATE and a DELETE."""
    heard: list[Any] = []

    @pre_save(Article)
    @pre_update(Article)
    @pre_delete(Article)
    async def note(signal: Any, instance: Article, **kwargs: Any) -> None:
        heard.append((signal.name, instance.title))

    async with sessions() as session:
        first, second = await session.get_one(Article, 1), await session.get_one(Article, 2)
        await session.commit()
        first.views = 7
        await session.delete(second)
        await session.commit()
    assert heard == [
        ("pre_save", "title 1"),
        ("pre_update", "title 1"),
        ("pre_delete", "title 2"),
    ]


@pytest.mark.parametrize("phase", ["immediate", "after_commit"])
async def test_both_ends_of_links_are_loaded(
    sessions: async_sessionmaker[AsyncSession], phase: str
) -> None:
    """Receivers of m2m and relation signals read the columns of the owner and of the members."""
    heard: list[Any] = []

    @m2m_changed(Article, phase=phase)
    async def changed(instance: Article, action: str, objects: list[Topic], **kwargs: Any) -> None:
        if action == "post_add":
            heard.append(("m2m", instance.title, [each.name for each in objects]))

    @post_relation_add(Article, phase=phase)
    async def added(instance: Article, child: Topic, **kwargs: Any) -> None:
        heard.append(("relation", instance.title, child.name))

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
    assert sorted(heard) == [
        ("m2m", "title 1", names),
        *(("relation", "title 1", name) for name in names),
    ]


@pytest.mark.parametrize("phase", ["immediate", "after_commit"])
async def test_bulk_receivers_read_unloaded_columns(
    sessions: async_sessionmaker[AsyncSession], statements: Statements, phase: str
) -> None:
    """Receivers of bulk_update read the columns that a query has left out, by one SELECT."""
    heard: list[Any] = []

    @post_bulk_update(Article, phase=phase)
    async def note(instances: list[Article], **kwargs: Any) -> None:
        heard.extend(each.title for each in instances)

    async with sessions() as session:
        query = select(Article).options(load_only(Article.views)).order_by(Article.id)
        articles = (await session.scalars(query)).unique().all()
        for each in articles:
            each.views += 1
        statements.selects.clear()
        await Article.objects.bulk_update(articles, fields=["views"], session=session)
        await session.commit()
    assert heard == ["title 1", "title 2", "title 3"]
    # One reads what the UPDATE has set besides, as without receivers.
    assert len(statements.selects) == 2


async def test_deferred_and_refused_columns_stay_unloaded(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    """A copy names the column that the mapping defers, or raiseload refuses, when it is read."""
    heard: list[Any] = []

    @post_save(Article, phase="after_commit")
    async def note(instance: Article, **kwargs: Any) -> None:
        for name in ("body", "title", "shout"):
            with pytest.raises(DetachedInstanceError, match=name):
                getattr(instance, name)
        heard.append(instance.data)

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
    assert heard == [{"n": 1}]


async def test_options_of_a_joined_load_leave_no_gap(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    """An object that came with another one, in part, is copied whole; joined tables included."""
    heard: list[Any] = []

    @post_save(Person, phase="after_commit")
    async def note(instance: Any, **kwargs: Any) -> None:
        heard.append((type(instance), instance.name, instance.desk))

    async with sessions() as session:
        options = joinedload(Article.editor.of_type(Editor)).load_only(Editor.desk)
        query = select(Article).where(Article.id == 2).options(options)
        article = (await session.scalars(query)).unique().one()
        article.editor.desk = "new desk"
        await session.commit()
    assert heard == [(Editor, "editor 2", "new desk")]


async def test_a_composite_key_finds_its_row(sessions: async_sessionmaker[AsyncSession]) -> None:
    """Rows with a key of two columns are loaded together."""
    heard: list[Any] = []

    @post_save(Pair, phase="after_commit")
    async def note(instance: Pair, **kwargs: Any) -> None:
        heard.append((instance.left, instance.right, instance.name, instance.note))

    async with sessions() as session:
        query = select(Pair).options(load_only(Pair.name)).order_by(Pair.left)
        for pair in await session.scalars(query):
            pair.name = "new"
        await session.commit()
    assert heard == [(n, n, "new", "note") for n in (1, 2, 3)]


async def test_pending_values_survive_the_loading(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    """What is pending stays pending, and JSON that is loaded so is followed when it changes."""
    heard: list[Any] = []

    @pre_update(Article)
    async def look(instance: Article, changes: Any, **kwargs: Any) -> None:
        heard.append((instance.title, instance.views, dict(changes)))
        instance.data["seen"] = True

    async with sessions() as session:
        article = await session.get_one(Article, 1)
        await session.commit()
        article.title = "pending"
        await session.commit()
        await session.refresh(article)
        assert article.data == {"n": 1, "seen": True}
    assert heard == [("pending", 0, {"title": ("title 1", "pending")})]


# -- what it costs ---------------------------------------------------------------------------------


def change_expired(session: Session) -> None:
    articles = session.scalars(select(Article)).unique().all()
    session.commit()
    statements_begin(session)
    for article in articles:
        article.views = 9
    session.commit()


def change_part(session: Session) -> None:
    articles = session.scalars(select(Article).options(load_only(Article.views))).unique().all()
    statements_begin(session)
    for article in articles:
        article.views = 9
    session.commit()


def delete_all(session: Session) -> None:
    articles = session.scalars(select(Article)).unique().all()
    statements_begin(session)
    for article in articles:
        session.delete(article)
    session.flush()
    session.rollback()


def statements_begin(session: Session) -> None:
    session.info["statements"].selects.clear()


def quiet(**kwargs: Any) -> None:
    """Read nothing."""


async def quiet_async(**kwargs: Any) -> None:
    """Read nothing."""


def delete_expired(session: Session) -> None:
    articles = session.scalars(select(Article)).unique().all()
    session.commit()
    statements_begin(session)
    for article in articles:
        session.delete(article)
    session.flush()
    session.rollback()


WAYS = [change_expired, change_part, delete_all, delete_expired]


@pytest.mark.parametrize("way", WAYS)
async def test_sync_receivers_that_read_nothing_cause_no_select(
    sessions: async_sessionmaker[AsyncSession], statements: Statements, way: Callable[..., None]
) -> None:
    """With a sync receiver that reads nothing the same statements are executed as without."""
    counts: list[int] = []
    for signals in ((), (pre_save, pre_update, post_save, pre_delete, post_delete)):
        for signal in signals:
            signal.connect(quiet, sender=Base)
        async with sessions(info={"statements": statements}) as session:
            await session.run_sync(way)
            counts.append(len(statements.selects))
        async with sessions.begin() as session:
            await session.execute(update(Article).values(views=0))
    assert counts[1] == counts[0]


@pytest.mark.parametrize("way", [change_expired, change_part])
@pytest.mark.parametrize("phase", ["immediate", "after_commit"])
async def test_async_and_queued_receivers_cost_one_select(
    sessions: async_sessionmaker[AsyncSession],
    statements: Statements,
    way: Callable[..., None],
    phase: str,
) -> None:
    """An async receiver, or one that waits, costs one SELECT for all rows of a class."""
    counts: list[int] = []
    for connect in (False, True):
        if connect:
            post_save.connect(quiet_async, sender=Article, phase=phase)
        async with sessions(info={"statements": statements}) as session:
            await session.run_sync(way)
            counts.append(len(statements.selects))
        async with sessions.begin() as session:
            await session.execute(update(Article).values(views=0))
    assert counts[1] <= counts[0] + 1
    # SQLAlchemy loads expired rows that it updates one by one; the last SELECT is ours.
    assert "JOIN" not in statements.selects[-1]


async def test_old_values_cost_one_select(
    sessions: async_sessionmaker[AsyncSession], statements: Statements
) -> None:
    """The old values of columns that were changed while they weren't loaded are read together."""
    heard: list[Any] = []

    @post_save(Article)
    def note(instance: Article, changes: Any, **kwargs: Any) -> None:
        heard.append(changes["title"])

    async with sessions() as session:
        options = load_only(Article.id)
        query = select(Article).order_by(Article.id).options(options)
        articles = (await session.scalars(query)).unique().all()
        statements.selects.clear()
        for article in articles:
            article.title = "new"
        await session.commit()
    assert heard == [(f"title {n}", "new") for n in (1, 2, 3)]
    assert len(statements.selects) == 1


async def test_values_that_the_database_works_out_cost_one_select(
    sessions: async_sessionmaker[AsyncSession], statements: Statements
) -> None:
    """SQL that was assigned is read back, for the changes of many rows, by one SELECT."""
    heard: list[Any] = []

    @post_save(Article)
    def note(instance: Article, changes: Any, **kwargs: Any) -> None:
        heard.append(changes["views"])

    async with sessions() as session:
        articles = (await session.scalars(select(Article))).unique().all()
        statements.selects.clear()
        for article in articles:
            article.views = Article.views + 1
        await session.commit()
    assert heard == [(0, 1)] * 3
    assert len(statements.selects) == 1


async def test_criteria_of_the_application_hide_no_row(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    """A do_orm_execute listener that hides rows sees a column load, and hides none of them."""
    heard: list[Any] = []

    @post_save(Article)
    async def note(instance: Article, **kwargs: Any) -> None:
        heard.append(instance.title)

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
    assert heard == ["title 1", "title 2", "title 3"]


async def test_many_rows_are_loaded_in_chunks(
    sessions: async_sessionmaker[AsyncSession], statements: Statements
) -> None:
    """More rows than a statement takes are loaded by a few of them."""
    seen: set[int] = set()

    @post_save(Topic, phase="after_commit")
    def note(instance: Topic, **kwargs: Any) -> None:
        if instance.name is not None:
            seen.add(instance.id)

    async with sessions.begin() as session:
        await session.execute(
            Topic.__table__.insert(), [{"id": n, "name": f"{n}"} for n in range(10, 1211)]
        )
    async with sessions() as session:
        topics = (await session.scalars(select(Topic).where(Topic.id >= 10))).all()
        for topic in topics:
            session.expire(topic, ["name"])
            await session.run_sync(lambda _, topic=topic: setattr(topic, "id", topic.id + 5000))
        statements.selects.clear()
        await session.commit()
    assert len(seen) == 1201
    assert len(statements.selects) == 3


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
    heard: list[Any] = []

    @pre_save(Topic)
    def note(instance: Topic, changes: Any, **kwargs: Any) -> None:
        heard.append(dict(changes))

    async with sessions() as session:
        topic = await session.get_one(Topic, 1)
        session.expire(topic, ["name"])
        await session.execute(text("DELETE FROM topic WHERE id = 1"))
        topic.name = "new"
        with pytest.raises(StaleDataError):
            await session.flush()
    assert heard == [{"name": (None, "new")}]


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

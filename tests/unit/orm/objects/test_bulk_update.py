"""A bulk update that is refused, and what is read back of one that isn't."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kit.models import Author, Base, Post
from kit.support import Recorder
from sqlalchemy import Computed, Engine, String, create_engine, event, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    mapped_column,
    sessionmaker,
)
from sqlalchemy.pool import StaticPool

from aksara_signals import (
    AksaraSignalsError,
    InstanceStateError,
    InvalidOptionError,
    UnknownFieldError,
    post_bulk_update,
    post_save,
    pre_bulk_update,
)
from aksara_signals.orm import SignalMixin

Sessions = async_sessionmaker[AsyncSession]


@pytest.mark.parametrize(
    ("others", "fields", "batch_size", "error"),
    [
        ([Post(title="new")], ["title"], None, InstanceStateError),
        ([Author(name="another class")], ["title"], None, InstanceStateError),
        ([], ["titel"], None, UnknownFieldError),
        ([], [], None, UnknownFieldError),
        ([], ["id"], None, UnknownFieldError),
        ([], ["title"], 0, InvalidOptionError),
        ([], ["title"], "5", InvalidOptionError),
    ],
    ids=["new", "another class", "misspelt", "none", "key", "no rows", "no number"],
)
async def test_a_refused_update_calls_no_receiver(
    sessions: Sessions,
    recorder: Recorder,
    others: list[Any],
    fields: list[str],
    batch_size: Any,
    error: type[AksaraSignalsError],
) -> None:
    """What can be seen to be wrong is refused before any receiver is called or row is written."""
    recorder.record(pre_bulk_update)
    recorder.record(post_bulk_update)
    async with sessions() as session:
        session.add(post := Post(title="old"))
        await session.commit()
        await session.refresh(post)
        post.title = "new"
        with pytest.raises(error):
            await Post.objects.bulk_update(
                [post, *others], fields, batch_size=batch_size, session=session
            )
        assert recorder.calls == []
        assert post in session.dirty  # still pending
        with session.no_autoflush:
            assert await session.scalar(select(Post.__table__.c.title)) == "old"


@pytest.mark.parametrize("fields", [[1, "titel"], ["titel", None], [("a",), 2.5]], ids=str)
async def test_names_of_mixed_types_are_refused_in_words(
    sessions: Sessions, recorder: Recorder, fields: list[Any]
) -> None:
    """What is no text can't be put in the order of texts, and is named all the same."""
    recorder.record(pre_bulk_update)
    async with sessions() as session:
        session.add(post := Post(title="old"))
        await session.commit()
        with pytest.raises(UnknownFieldError, match=r"is not a column of kit\.models\.Post"):
            await Post.objects.bulk_update([post], fields, session=session)
    assert recorder.calls == []


async def test_sql_set_by_a_receiver_is_refused_before_anything_is_written(
    sessions: Sessions, recorder: Recorder
) -> None:
    """Not even the rows before it are."""
    recorder.record(post_bulk_update)
    async with sessions() as session:
        session.add_all(posts := [Post(title="a"), Post(title="b")])
        await session.commit()
        for post in posts:
            await session.refresh(post)
        for post in posts:
            post.title = "new"

        @pre_bulk_update(Post)
        async def set_sql(instances: list[Post], **kwargs: Any) -> None:
            instances[1].title = func.lower("SQL")

        with pytest.raises(InstanceStateError, match="with SQL for 'title'"):
            await Post.objects.bulk_update(posts, ["title"], session=session)
        with session.no_autoflush:
            titles = await session.scalars(select(Post.__table__.c.title).order_by(Post.id))
            assert titles.all() == ["a", "b"]
    assert recorder.calls == []


class Reader(Base):
    __tablename__ = "bulk_update_reader"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String)
    nickname: Mapped[str | None]
    loud: Mapped[str] = column_property(name + "!")


async def test_an_attribute_that_was_deleted_is_not_written(sessions: Sessions) -> None:
    """SQLAlchemy's flush can't either; it stays pending."""
    async with sessions() as session:
        session.add(reader := Reader(name="old", nickname="o"))
        await session.commit()
        await session.refresh(reader)
        reader.name = "new"
        del reader.nickname
        await Reader.objects.bulk_update([reader], ["name"], session=session)
        with session.no_autoflush:
            row = await session.execute(select(Reader.__table__.c["name", "nickname"]))
        assert row.one() == ("new", "o")
        assert reader in session.dirty


async def test_an_expression_that_was_assigned_is_not_written(sessions: Sessions) -> None:
    """SQLAlchemy's flush passes it over, too."""
    async with sessions() as session:
        session.add(reader := Reader(name="old"))
        await session.commit()
        await session.refresh(reader)
        reader.name, reader.loud = "new", "never"
        assert await Reader.objects.bulk_update([reader], session=session) == 1
        await session.commit()
        await session.refresh(reader)
        assert (reader.name, reader.loud) == ("new", "new!")


@pytest.mark.parametrize("count", [1, 3])
async def test_what_the_database_does_not_set_is_not_read_back(
    sessions: Sessions, async_engine: AsyncEngine, count: int
) -> None:
    """One UPDATE and nothing else, though not all columns are written."""
    statements: list[str] = []
    async with sessions() as session:
        session.add_all(readers := [Reader(name="old") for _ in range(count)])
        await session.commit()
        for reader in readers:
            await session.refresh(reader)
            reader.name = "new"

        @event.listens_for(async_engine.sync_engine, "before_cursor_execute")
        def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            statements.append(statement.partition(" ")[0])

        await Reader.objects.bulk_update(readers, ["name"], session=session)
        event.remove(async_engine.sync_engine, "before_cursor_execute", note)
        assert statements == ["UPDATE"]


async def test_what_was_written_can_be_read_without_a_statement(sessions: Sessions) -> None:
    """As after a flush: an expired value couldn't be read under async. What is pending stays so."""
    async with sessions() as session:
        session.add(post := Post(title="old", slug="old"))
        await session.commit()
        await session.refresh(post)
        post.title, post.slug = "new", "pending"
        await Post.objects.bulk_update([post], ["title"], session=session)
        assert (post.title, post.slug, post.edited_at) == ("new", "pending", "now")
        await session.commit()
    async with sessions() as session:
        row = (await session.execute(select(Post.title, Post.slug))).one()
        assert tuple(row) == ("new", "pending")


class ShardBase(SignalMixin, DeclarativeBase):
    pass


class City(ShardBase):
    __tablename__ = "city"
    id: Mapped[int] = mapped_column(primary_key=True)
    shard: Mapped[str]
    name: Mapped[str]
    loud: Mapped[str] = mapped_column(Computed("upper(name)", persisted=True))


@pytest.fixture
def sharded(sync_engine: Engine) -> Iterator[Session]:
    """A session over two databases, with a city of key 1 in each."""
    south = create_engine("sqlite://", poolclass=StaticPool)
    shards = {"north": sync_engine, "south": south}
    for engine in shards.values():
        ShardBase.metadata.create_all(engine)

    def choose(_mapper: Any, instance: Any, _clause: Any = None) -> str:
        return "north" if instance is None else str(instance.shard)

    sessions = sessionmaker(
        class_=ShardedSession,
        shards=shards,
        shard_chooser=choose,
        identity_chooser=lambda *_, **__: ["north", "south"],
        execute_chooser=lambda _: ["north", "south"],
    )
    with sessions() as session:
        session.add_all(City(id=1, shard=name, name=name) for name in shards)
        session.commit()
        yield session
    south.dispose()


def test_old_values_are_read_from_the_shard_of_the_row(sharded: Session) -> None:
    """Rows of two databases may have the same key."""
    seen: dict[str, Any] = {}

    @post_save(City)
    def look(instance: City, changes: Any, **kwargs: Any) -> None:
        seen[instance.shard] = changes["name"]

    cities = sharded.scalars(select(City)).all()
    for city in cities:
        sharded.expire(city, ["name"])
        city.name = f"new {city.shard}"
    sharded.commit()
    assert seen == {"north": ("north", "new north"), "south": ("south", "new south")}


def test_a_bulk_update_of_shards_is_sqlalchemys_to_refuse(
    sharded: Session, recorder: Recorder
) -> None:
    """It can't write many rows to shards; nothing is written, and no post signal is sent."""
    recorder.record(post_bulk_update, sync=True)
    cities = sharded.scalars(select(City)).all()
    for city in cities:
        city.name = "new"
    with pytest.raises(NotImplementedError, match="sharding"):
        City.objects.bulk_update(list(cities), ["name"], session=sharded).send(None)
    sharded.rollback()
    assert sorted(sharded.scalars(select(City.name))) == ["north", "south"]
    assert recorder.calls == []

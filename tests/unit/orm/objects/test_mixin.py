"""save(), update() and delete(): they set and flush, and the unit of work sends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit import databases
from kit.models import Audit, Author, Base, Post
from kit.support import Recorder
from sqlalchemy import JSON, ForeignKey, func, select, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    composite,
    mapped_column,
    relationship,
    sessionmaker,
    synonym,
)

from aksara_signals import (
    InstanceStateError,
    InvalidOptionError,
    NoSessionError,
    UnknownFieldError,
    post_save,
    pre_save,
)
from aksara_signals.orm import SignalMixin, session_scope


@pytest.fixture
async def engine(async_engine: AsyncEngine) -> AsyncEngine:
    await databases.create_all(async_engine, Base.metadata)
    await databases.create_all(async_engine, RichBase.metadata)
    return async_engine


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine) as session:
        yield session


async def stored(engine: AsyncEngine, column: str, table: str = "post") -> Any:
    async with engine.connect() as connection:
        return await connection.scalar(text(f"select {column} from {table}"))


# -- sessions -------------------------------------------------------------------------------------


async def test_save_takes_any_session(engine: AsyncEngine, recorder: Recorder) -> None:
    """session= may be an AsyncSession, a scoped one, a subclass, or a plain Session."""
    recorder.record(post_save, Post)

    class OwnSession(AsyncSession):
        pass

    async with AsyncSession(engine) as one, OwnSession(engine) as two:
        await Post(title="1").save(one)
        await one.commit()
        await Post(title="2").save(session=two)
        await two.commit()
    scoped = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
    await Post(title="3").save(scoped)
    await scoped.commit()
    await scoped.remove()
    assert recorder.names == ["post_save"] * 3
    assert await stored(engine, "count(*)") == 3


def test_save_takes_a_plain_session(sync_engine: Any, recorder: Recorder) -> None:
    """With a plain session the coroutine never waits."""
    Base.metadata.create_all(sync_engine)
    recorder.record(post_save, Post, sync=True)
    with Session(sync_engine) as session:
        post = Post(title="a")
        for coroutine in (post.save(session), post.update(title="b"), post.delete()):
            with pytest.raises(StopIteration):
                coroutine.send(None)
        session.commit()
    assert recorder.names == ["post_save", "post_save"]


async def test_an_instance_has_a_session_of_its_own(session: AsyncSession) -> None:
    """Without session= the instance's own session is used; it is not committed."""
    post = Post(title="a")
    session.add(post)
    await post.save()
    assert post.id is not None
    post.title = "b"
    await post.save()
    await session.rollback()
    assert (await session.scalars(select(Post))).all() == []


async def test_without_a_session_nothing_is_lost(engine: AsyncEngine) -> None:
    """NoSessionError names all five ways, and the instance stays as it was."""
    post = Post(title="a")
    with pytest.raises(NoSessionError) as error:
        await post.save()
    for way in ("session=", "add the instance", "receiver", "session_scope", "bind_sessions"):
        assert way in str(error.value)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        session.add(post)
        await session.commit()
    with pytest.raises(NoSessionError):
        await post.update(title="b")
    assert post.title == "a"
    with pytest.raises(NoSessionError):
        await post.delete()


async def test_no_session_at_all_is_refused() -> None:
    """session= takes sessions only."""
    with pytest.raises(InvalidOptionError, match="takes a Session or an AsyncSession"):
        await Post(title="a").save(session=5)
    with pytest.raises(InvalidOptionError):
        async with session_scope("nonsense"):
            pass


async def test_a_scope_gives_the_session(session: AsyncSession) -> None:
    """Inside session_scope writes find its session; it is neither committed nor closed."""
    async with session_scope(session) as scoped:
        assert scoped is session
        post = Post(title="a")
        await post.save()
        assert post in session
    with pytest.raises(NoSessionError):
        await Post(title="b").save()
    await session.rollback()


async def test_a_bound_factory_commits(engine: AsyncEngine) -> None:
    """A factory gives one short transaction per write, and the instance stays readable."""

    class OwnBase(SignalMixin, DeclarativeBase):
        pass

    class OwnPost(OwnBase):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    OwnBase.bind_sessions(async_sessionmaker(engine))
    post = OwnPost(title="a")
    await post.save()
    assert post.title == "a"
    assert await stored(engine, "title") == "a"
    await post.update(title="b")
    assert await stored(engine, "title") == "b"

    @post_save(OwnPost)
    async def refuse(**kwargs: Any) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await post.update(title="c")
    assert await stored(engine, "title") == "b"
    await post.delete()
    assert await stored(engine, "count(*)") == 0


def test_a_bound_factory_may_be_synchronous(sync_engine: Any) -> None:
    """A plain sessionmaker works too."""

    class OwnBase(SignalMixin, DeclarativeBase):
        pass

    class Note(OwnBase):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    OwnBase.metadata.create_all(sync_engine)
    Note.bind_sessions(sessionmaker(sync_engine))
    with pytest.raises(StopIteration):
        Note().save().send(None)
    with Session(sync_engine) as session:
        assert len(session.scalars(select(Note)).all()) == 1


async def test_bound_sessions_can_be_taken_back() -> None:
    """bind_sessions(None) undoes what was bound to the class; what makes no sessions is refused."""

    class OwnBase(SignalMixin, DeclarativeBase):
        pass

    class Note(OwnBase):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(InvalidOptionError, match="async_sessionmaker"):
        OwnBase.bind_sessions(5)
    OwnBase.bind_sessions(None)
    OwnBase.bind_sessions(lambda **options: pytest.fail("taken back"))
    OwnBase.bind_sessions(None)
    with pytest.raises(NoSessionError):
        await Note().save()


async def test_a_receiver_writes_through_the_session_at_work(session: AsyncSession) -> None:
    """In a receiver, and only in its own task and while it runs, writes find its session."""
    outcomes: list[Any] = []

    async def try_to_save(place: str) -> None:
        try:
            await Audit(text=place).save()
            outcomes.append(place)
        except NoSessionError:
            outcomes.append(f"not in {place}")

    def in_thread() -> None:
        asyncio.run(try_to_save("another thread"))

    late: list[asyncio.Task[None]] = []

    is_over = asyncio.Event()

    async def wait_and_try() -> None:
        await is_over.wait()
        await try_to_save("a task that outlives it")

    @pre_save(Post)
    @post_save(Post)
    async def work(signal: Any, **kwargs: Any) -> None:
        await try_to_save(signal.name)
        await asyncio.create_task(try_to_save("another task"))
        await asyncio.to_thread(in_thread)
        late.append(asyncio.create_task(wait_and_try()))

    @post_save.connect(sender=Post, concurrent=True)
    async def beside(**kwargs: Any) -> None:
        await try_to_save("a concurrent receiver")

    session.add(Post(title="a"))
    await session.commit()
    is_over.set()
    await asyncio.gather(*late)
    assert outcomes == [
        "pre_save",
        "not in another task",
        "not in another thread",
        "post_save",
        "not in another task",
        "not in another thread",
        "not in a concurrent receiver",
        "not in a task that outlives it",
        "not in a task that outlives it",
    ]
    assert list(await session.scalars(select(Audit.text).order_by(Audit.id))) == [
        "pre_save",
        "post_save",
    ]
    assert threading.active_count() < 20


async def test_a_sync_receiver_finds_the_session_at_work(sync_engine: Any) -> None:
    """The same under a plain session."""
    Base.metadata.create_all(sync_engine)

    @post_save(Post)
    async def work(**kwargs: Any) -> None:
        await Audit(text="x").save()

    with Session(sync_engine) as session:
        session.add(Post(title="a"))
        session.commit()
        assert session.scalars(select(Audit.text)).all() == ["x"]


# -- update and delete ----------------------------------------------------------------------------


async def test_update_sets_and_flushes(session: AsyncSession, recorder: Recorder) -> None:
    """update() sets what is given; without values it writes what was set before."""
    post = Post(title="a")
    await post.save(session)
    recorder.record(post_save, Post)
    await post.update(title="b", slug="s")
    post.title = "c"
    await post.update()
    await session.refresh(post)
    assert (post.title, post.slug) == ("c", "s")
    assert recorder.names == ["post_save", "post_save"]


async def test_update_knows_its_attributes(session: AsyncSession) -> None:
    """An unknown name is refused before anything is set, with the nearest one."""
    post = Post(title="a")
    await post.save(session)
    with pytest.raises(UnknownFieldError, match="did you mean 'slug'"):
        await post.update(title="b", slugg="s")
    assert post.title == "a"
    assert post not in session.dirty


async def test_update_needs_a_row(session: AsyncSession) -> None:
    """update() of something that was never saved is refused, and sets nothing."""
    post = Post(title="a")
    with pytest.raises(InstanceStateError, match="save"):
        await post.update(session, title="b")
    assert post.title == "a"


async def test_delete_in_every_state(session: AsyncSession) -> None:
    """delete() takes out pending instances, deletes rows, and refuses transient instances."""
    transient, pending, persistent = Post(title="a"), Post(title="b"), Post(title="c")
    with pytest.raises(InstanceStateError):
        await transient.delete(session)
    session.add(pending)
    await pending.delete()
    assert pending not in session
    await persistent.save(session)
    await session.commit()
    await persistent.delete()
    await session.commit()
    assert (await session.scalars(select(Post))).all() == []


async def test_a_detached_instance_is_taken_in(engine: AsyncEngine) -> None:
    """A detached instance joins the session that is given."""
    async with AsyncSession(engine, expire_on_commit=False) as first:
        post = Post(title="a")
        first.add(post)
        await first.commit()
    async with AsyncSession(engine, expire_on_commit=False) as second:
        await post.update(second, title="b")
        await second.commit()
    assert await stored(engine, "title") == "b"
    async with AsyncSession(engine) as third:
        await post.delete(third)
        await third.commit()
    assert await stored(engine, "count(*)") == 0


async def test_save_in_a_pre_receiver_joins_the_flush(session: AsyncSession) -> None:
    """Inside pre_save, save() leaves the flushing to the flush under way."""

    @pre_save(Post)
    async def work(instance: Post, session: AsyncSession, **kwargs: Any) -> None:
        entry = Audit(text="x")
        await entry.save()
        assert entry in session.new
        await instance.save()

    session.add(Post(title="a"))
    await session.commit()
    assert list(await session.scalars(select(Audit.text))) == ["x"]


# -- update_fields --------------------------------------------------------------------------------


class RichBase(SignalMixin, DeclarativeBase):
    pass


class Point:
    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def __composite_values__(self) -> tuple[int, int]:
        return self.x, self.y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and (other.x, other.y) == (self.x, self.y)

    __hash__ = None


class Owner(RichBase):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    things: Mapped[list[Thing]] = relationship(back_populates="owner")


class Thing(RichBase):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column("the_label")
    note: Mapped[str | None]
    version: Mapped[int] = mapped_column()
    stamp: Mapped[str | None] = mapped_column(onupdate=func.lower("NOW"))
    x: Mapped[int] = mapped_column(default=0)
    y: Mapped[int] = mapped_column(default=0)
    place: Mapped[Point] = composite("x", "y")
    extra: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON), default=dict)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("owner.id"))
    owner: Mapped[Owner | None] = relationship(back_populates="things")
    title = synonym("label")
    __mapper_args__ = {"version_id_col": version}


async def make_thing(session: AsyncSession, **values: Any) -> Thing:
    thing = Thing(**({"label": "a", "note": "n", "place": Point(1, 2)} | values))
    session.add(thing)
    await session.commit()
    await session.refresh(thing)
    return thing


async def test_fields_left_out_stay_pending(
    engine: AsyncEngine, session: AsyncSession, recorder: Recorder
) -> None:
    """Only the fields are written; the others keep their values, unsaved, for a later flush."""
    thing = await make_thing(session)
    recorder.record(pre_save)
    recorder.record(post_save)
    thing.label, thing.note = "b", "m"
    thing.extra["key"] = 1
    thing.place = Point(3, 4)
    await thing.save(update_fields=["label"])
    assert [call.payload["update_fields"] for call in recorder.calls] == [frozenset({"label"})] * 2
    assert (thing.note, thing.extra, thing.place) == ("m", {"key": 1}, Point(3, 4))
    assert thing in session.dirty
    with session.no_autoflush:
        row = (await session.execute(text("select the_label, note, x from thing"))).one()
    assert tuple(row) == ("b", "n", 1)
    await session.commit()
    async with engine.connect() as connection:
        row = (await connection.execute(text("select the_label, note, x, y from thing"))).one()
    assert tuple(row) == ("b", "m", 3, 4)
    await session.refresh(thing)
    assert thing.extra == {"key": 1}
    assert thing.version == 3


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["place"], ("a", "n", 3, 4)),
        (["title"], ("b", "n", 1, 2)),
        (("x", "note"), ("a", "m", 3, 2)),
        ({"owner"}, ("a", "n", 1, 2)),
    ],
)
async def test_fields_of_every_kind(
    session: AsyncSession, fields: Any, expected: tuple[Any, ...]
) -> None:
    """Composites, synonyms, renamed columns and many-to-one relationships may be named."""
    thing = await make_thing(session)
    owner = Owner()
    session.add(owner)
    await session.flush()
    thing.label, thing.note, thing.place, thing.owner = "b", "m", Point(3, 4), owner
    await thing.save(update_fields=fields)
    with session.no_autoflush:
        row = (
            await session.execute(text("select the_label, note, x, y, owner_id from thing"))
        ).one()
    assert tuple(row)[:4] == expected
    assert row.owner_id == (owner.id if "owner" in fields else None)
    await session.rollback()


@pytest.mark.parametrize("loaded", [True, False])
async def test_a_relationship_left_out_stays_pending(session: AsyncSession, loaded: bool) -> None:
    """A new parent is not written by the parents' collections either, and is later."""
    old, new = Owner(), Owner()
    session.add_all([old, new])
    await session.flush()
    thing = await make_thing(session, owner=old)
    await session.refresh(thing, ["owner"])
    if loaded:
        await session.refresh(old, ["id", "things"])
        await session.refresh(new, ["id", "things"])
    else:
        await session.refresh(old, ["id"])
        await session.refresh(new, ["id"])
    thing.owner, thing.label = new, "b"
    await thing.save(update_fields=["label"])
    with session.no_autoflush:
        query = text("select the_label, owner_id from thing")
        assert tuple((await session.execute(query)).one()) == ("b", old.id)
        assert thing.owner is new
    await session.flush()
    assert tuple((await session.execute(query)).one()) == ("b", new.id)
    await session.refresh(old, ["things"])
    await session.refresh(new, ["things"])
    assert (old.things, new.things) == ([], [thing])


async def test_what_pre_receivers_set_is_written_besides(session: AsyncSession) -> None:
    """A field set by a pre receiver is written although it was left out, even if it was pending."""
    thing = await make_thing(session)
    seen: list[Any] = []

    @pre_save(Thing)
    async def stamp(instance: Thing, **kwargs: Any) -> None:
        instance.note = "set by a receiver"
        instance.x = instance.x  # touched, and so written

    @post_save(Thing)
    async def look(changes: Any, **kwargs: Any) -> None:
        seen.append({key: pair for key, pair in changes.items() if key != "version"})

    thing.label, thing.note, thing.x, thing.y = "b", "pending", 9, 9
    await thing.save(update_fields=["label"])
    with session.no_autoflush:
        row = (await session.execute(text("select the_label, note, x, y from thing"))).one()
    assert tuple(row) == ("b", "set by a receiver", 9, 2)
    assert seen == [{"label": ("a", "b"), "note": ("n", "set by a receiver"), "x": (1, 9)}]
    assert thing.y == 9


async def test_nested_flushes_leave_it_out_too(session: AsyncSession) -> None:
    """A flush inside a post receiver doesn't write what was left out."""
    thing = await make_thing(session)

    @post_save(Thing)
    async def audit(session: AsyncSession, **kwargs: Any) -> None:
        session.add(Owner())
        await session.flush()

    thing.label, thing.note = "b", "m"
    await thing.save(update_fields=["label"])
    with session.no_autoflush:
        assert await session.scalar(text("select note from thing")) == "n"
    assert thing.note == "m"


async def test_a_veto_keeps_everything_pending(session: AsyncSession) -> None:
    """If a pre receiver refuses, all changes are pending as before."""
    thing = await make_thing(session)

    @pre_save(Thing)
    async def refuse(**kwargs: Any) -> None:
        raise ValueError("no")

    thing.label, thing.note = "b", "m"
    with pytest.raises(ValueError, match="no"):
        await thing.save(update_fields=["label"])
    pre_save.disconnect(refuse, sender=Thing)
    await session.commit()
    await session.refresh(thing)
    assert (thing.label, thing.note) == ("b", "m")


async def test_a_rollback_drops_what_was_pending(session: AsyncSession) -> None:
    """After a failed post receiver and rollback() nothing of it is left."""
    thing = await make_thing(session)

    @post_save(Thing)
    async def refuse(**kwargs: Any) -> None:
        raise ValueError("no")

    thing.label, thing.note = "b", "m"
    with pytest.raises(ValueError, match="no"):
        await thing.save(update_fields=["label"])
    await session.rollback()
    post_save.disconnect(refuse, sender=Thing)
    await session.refresh(thing)
    assert (thing.label, thing.note) == ("a", "n")
    assert thing not in session.dirty


async def test_pending_changes_of_other_fields_are_not_told(
    session: AsyncSession, recorder: Recorder
) -> None:
    """Where none of the fields has changed, the save is sent and writes nothing."""
    thing = await make_thing(session)
    recorder.record(pre_save)
    noted: list[Any] = []
    post_save.connect(lambda changes, **kwargs: noted.append(dict(changes)), sender=Thing)
    thing.note = "m"
    await thing.save(update_fields=["label"])
    await thing.save(update_fields=[])
    assert [call.payload["update_fields"] for call in recorder.calls] == [frozenset({"label"})]
    assert (noted, thing.version) == ([{}], 1)
    assert thing in session.dirty


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (["labell"], "did you mean 'label'"),
        (["things"], "no column"),
        ("label", "one string"),
        (["__class__"], "no column"),
        ([5], "names 5"),
    ],
)
async def test_unknown_fields_are_refused(session: AsyncSession, fields: Any, message: str) -> None:
    """A name that can't be written is refused before anything happens."""
    thing = await make_thing(session)
    thing.label = "b"
    with pytest.raises(UnknownFieldError, match=message):
        await thing.save(update_fields=fields)
    with session.no_autoflush:
        assert await session.scalar(text("select the_label from thing")) == "a"
    await session.commit()


async def test_fields_of_a_new_instance_are_refused(session: AsyncSession) -> None:
    """update_fields needs a row to update; Django refuses it too."""
    author = Author(name="a")
    with pytest.raises(InstanceStateError, match="needs a row"):
        await author.save(session, update_fields=["name"])
    assert author not in session


class Cover(RichBase):
    __tablename__ = "cover"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(default="")
    book_id: Mapped[int | None] = mapped_column(ForeignKey("book.id"))
    book: Mapped[Book | None] = relationship(back_populates="cover")


class Book(RichBase):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    cover: Mapped[Cover | None] = relationship(back_populates="book")


@pytest.mark.parametrize("loaded", [True, False])
async def test_the_other_end_of_one_to_one_is_left_out_too(
    session: AsyncSession, loaded: bool
) -> None:
    """A one-to-one relationship that is left out is written by neither end."""
    book, cover = Book(), Cover()
    session.add_all([book, cover])
    await session.commit()
    await session.refresh(cover, ["id", "text", "book_id", "book"])
    await session.refresh(book, ["id", "cover"] if loaded else ["id"])
    cover.book, cover.text = book, "new"
    await cover.save(update_fields=["text"])
    query = text("select text, book_id from cover")
    with session.no_autoflush:
        assert tuple((await session.execute(query)).one()) == ("new", None)
    await session.flush()
    assert tuple((await session.execute(query)).one()) == ("new", book.id)


async def test_partial_saves_nest(session: AsyncSession) -> None:
    """A receiver may save another part of the same instance while a part is being saved."""
    thing = await make_thing(session)

    @post_save(Thing)
    async def more(instance: Thing, update_fields: Any, **kwargs: Any) -> None:
        if "label" in update_fields:
            instance.x = 8
            await instance.save(update_fields=["x"])

    thing.label, thing.note = "b", "m"
    await thing.save(update_fields=["label"])
    with session.no_autoflush:
        row = (await session.execute(text("select the_label, note, x from thing"))).one()
    assert tuple(row) == ("b", "n", 8)
    assert thing.note == "m"


async def test_a_relationship_set_to_none_is_left_out(session: AsyncSession) -> None:
    """Letting go of a parent stays pending as well."""
    owner = Owner()
    session.add(owner)
    await session.flush()
    thing = await make_thing(session, owner=owner)
    await session.refresh(thing, ["owner"])
    await session.refresh(owner, ["id", "things"])
    thing.owner, thing.label = None, "b"
    await thing.save(update_fields=["label"])
    query = text("select the_label, owner_id from thing")
    with session.no_autoflush:
        assert tuple((await session.execute(query)).one()) == ("b", owner.id)
    await session.flush()
    assert tuple((await session.execute(query)).one()) == ("b", None)


async def test_other_sessions_flush_meanwhile(
    engine: AsyncEngine, database: databases.Database
) -> None:
    """A partial save concerns its own session only."""
    if database.dialect == "sqlite":
        other = AsyncSession(database.create_async_engine(connect_args={"timeout": 0.1}))
    else:
        other = AsyncSession(engine)
    async with AsyncSession(engine) as session, other:
        thing = await make_thing(session)

        @pre_save(Thing)
        async def meanwhile(**kwargs: Any) -> None:
            if database.dialect == "postgresql":
                other.add(Owner())
                await other.commit()
            else:
                other.add(Owner())
                await other.flush()
                await other.rollback()

        thing.label, thing.note = "b", "m"
        await thing.save(update_fields=["label"])
        assert (thing.label, thing.note) == ("b", "m")
        await session.rollback()
    bind = other.bind
    assert bind is not None
    await bind.dispose()

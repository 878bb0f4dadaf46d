"""save(update_fields=…): what is named is written, and all else stays pending."""

from __future__ import annotations

from typing import Any

import pytest
from kit import databases
from kit.models import Author
from kit.support import Recorder
from sqlalchemy import JSON, ForeignKey, func, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, composite, mapped_column, relationship, synonym

from aksara_signals import InstanceStateError, UnknownFieldError, post_save, pre_save
from aksara_signals.orm import SignalMixin


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


@pytest.fixture
async def engine(engine: AsyncEngine) -> AsyncEngine:
    """An engine on a database that has the tables of things, too."""
    await databases.create_all(engine, RichBase.metadata)
    return engine


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


async def test_pending_changes_of_other_fields_are_not_sent(
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
        (["things"], "neither a column"),
        ("label", "one string"),
        (["__class__"], "neither a column"),
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
    """The removal of a parent stays pending as well."""
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

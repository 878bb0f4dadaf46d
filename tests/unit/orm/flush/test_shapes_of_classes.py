"""Mapped classes of every shape: what is sent before a flush is written, and sent after it."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import pytest
from kit.sent_rows import SentRows
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    func,
    null,
    select,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    column_property,
    configure_mappers,
    mapped_column,
    registry,
    relationship,
)

from aksara_signals import post_save, post_update, pre_save, pre_update
from aksara_signals.orm import SignalMixin, register, unregister


class Base(SignalMixin, DeclarativeBase):
    pass


@pytest.fixture
def session(sync_engine: Engine) -> Iterator[Session]:
    configure_mappers()
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        yield session


# -- inheritance ----------------------------------------------------------------------------------


class Vehicle(Base):
    __tablename__ = "vehicle"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    manual: Mapped[str | None] = mapped_column(deferred=True)
    name: Mapped[str] = mapped_column(default="")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}


class Truck(Vehicle):
    __tablename__ = "truck"
    id: Mapped[int] = mapped_column(ForeignKey("vehicle.id"), primary_key=True)
    load: Mapped[int] = mapped_column(default=0)
    __mapper_args__ = {"polymorphic_identity": "truck"}


class Bike(Vehicle):
    gears: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "bike"}


class Boat(Vehicle):
    __tablename__ = "boat"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="boat")
    name: Mapped[str] = mapped_column(default="")
    __mapper_args__ = {"concrete": True, "polymorphic_identity": "boat"}


@pytest.mark.parametrize(("cls", "field"), [(Truck, "load"), (Bike, "gears"), (Boat, "name")])
def test_inheritance(session: Session, sent_rows: SentRows, cls: type, field: str) -> None:
    """Joined, single-table and concrete subclasses send as themselves, once, and to their bases."""
    received: list[type] = []

    @post_save(Vehicle)
    def receive(sender: type, **kwargs: Any) -> None:
        received.append(sender)

    @post_save(Vehicle, exact=True)
    def receive_exact(**kwargs: Any) -> None:
        raise AssertionError("a subclass was taken for the class itself")

    thing = cls()
    session.add(thing)
    assert sent_rows.of(session) == [f"created {cls.__name__}"]
    setattr(thing, field, "5" if field == "name" else 5)
    assert sent_rows.of(session) == [f"updated {cls.__name__}"]
    assert received == [cls, cls]
    session.delete(thing)
    assert sent_rows.of(session) == [f"deleted {cls.__name__}"]


async def test_columns_of_a_joined_subclass_can_be_read(async_engine: AsyncEngine) -> None:
    """Also where a query of the base class has loaded its own columns only, and others are deferred."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    seen: list[Any] = []

    async def look(instance: Truck, **kwargs: Any) -> None:
        seen.append((instance.name, instance.load))

    pre_save.connect(look, Truck, created=False)
    async with AsyncSession(async_engine) as session:
        truck = Truck(name="a", load=7)
        session.add(truck)
        await session.commit()
        assert (await session.scalars(select(Vehicle))).all() == [truck]
        truck.name = "b"
        await session.commit()
    assert seen == [("b", 7)]


def test_old_values_of_a_joined_subclass(session: Session) -> None:
    """An old value that has to be read is that of the row, whatever other rows there are."""
    seen: list[Any] = []
    session.add_all([Vehicle(kind="vehicle", name="other"), Truck(name="old", load=1), Bike()])
    session.commit()
    truck = session.query(Truck).one()
    post_save.connect(lambda changes, **kwargs: seen.append(dict(changes)), Truck)
    session.expire(truck)
    truck.name, truck.load = "new", 2
    session.commit()
    assert seen == [{"name": ("old", "new"), "load": (1, 2)}]


def test_pre_update_follows_pre_save(session: Session) -> None:
    """An UPDATE's four signals stand in their order, object by object."""
    order: list[str] = []
    for signal in (pre_save, pre_update, post_update, post_save):
        signal.connect(lambda signal, **k: order.append(signal.name), sender=Vehicle)
    thing = Bike(gears=1)
    session.add(thing)
    session.commit()
    order.clear()
    thing.gears = 2
    session.commit()
    assert order == ["pre_save", "pre_update", "post_update", "post_save"]


# -- keys -----------------------------------------------------------------------------------------


class Country(Base):
    __tablename__ = "country"
    code: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")
    cities: Mapped[list[City]] = relationship(back_populates="country", passive_updates=False)


class City(Base):
    __tablename__ = "city"
    id: Mapped[int] = mapped_column(primary_key=True)
    country_code: Mapped[str | None] = mapped_column(
        ForeignKey("country.code", deferrable=True, initially="DEFERRED")
    )
    country: Mapped[Country | None] = relationship(back_populates="cities", passive_updates=False)


class Seat(Base):
    __tablename__ = "seat"
    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    letter: Mapped[str] = mapped_column(primary_key=True)
    taken: Mapped[bool] = mapped_column(default=False)


def test_composite_and_natural_keys(session: Session, sent_rows: SentRows) -> None:
    """Composite keys work as any other, and a row switch is sent as a delete and a creation."""
    keys: list[Any] = []
    post_save.connect(lambda instance, **k: keys.append((instance.row, instance.letter)), Seat)
    seat = Seat(row=1, letter="a")
    session.add(seat)
    assert sent_rows.rows_of(session) == ["created Seat 1, a"]
    seat.taken = True
    assert sent_rows.rows_of(session) == ["updated Seat 1, a"]
    seat.letter = "b"
    assert sent_rows.rows_of(session) == ["updated Seat 1, b"]
    assert keys == [(1, "a"), (1, "a"), (1, "b")]
    session.delete(seat)
    session.add(Seat(row=1, letter="b"))
    assert sorted(sent_rows.rows_of(session)) == ["created Seat 1, b", "deleted Seat 1, b"]


def test_a_natural_key_that_changes(session: Session, sent_rows: SentRows) -> None:
    """Children whose foreign key follows are sent as updated."""
    country = Country(code="x", cities=[City(id=1), City(id=2)])
    session.add(country)
    assert sent_rows.rows_of(session) == ["created Country x", "created City 1", "created City 2"]
    country.code = "y"
    assert sent_rows.rows_of(session) == ["updated City 1", "updated City 2", "updated Country y"]


# -- columns --------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Rich(Base):
    __tablename__ = "rich"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column("the_name")
    version: Mapped[int] = mapped_column()
    colour: Mapped[Colour] = mapped_column(default=Colour.RED)
    count: Mapped[int] = mapped_column(default=0)
    upper = column_property(func.upper(name))
    __mapper_args__ = {"version_id_col": version}


def test_versions_expressions_and_properties(session: Session, sent_rows: SentRows) -> None:
    """Versioned rows are sent once; SQL expressions count as changes; read-only ones don't."""
    seen: list[Any] = []
    post_update.connect(lambda changes, **k: seen.append(dict(changes)), Rich)
    rich = Rich(name="a")
    session.add(rich)
    assert sent_rows.of(session) == ["created Rich"]
    rich.count = Rich.count + 1
    assert sent_rows.of(session) == ["updated Rich"]
    rich.colour = Colour.BLUE
    assert sent_rows.of(session) == ["updated Rich"]
    assert (rich.count, rich.version, rich.upper) == (1, 3, "A")
    session.delete(rich)
    assert sent_rows.of(session) == ["deleted Rich"]
    assert seen == [
        {"count": (0, 1)},
        {"colour": (Colour.RED, Colour.BLUE)},
    ]


class Computed(Base):
    __tablename__ = "computed"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    note: Mapped[str | None] = mapped_column(deferred=True)
    body: Mapped[str | None]


@pytest.mark.parametrize("phase", ["immediate", "after_commit"])
def test_changes_have_what_the_database_works_out(session: Session, phase: str) -> None:
    """What was set to SQL is sent as the value it has become, of new rows and of deferred columns too."""
    seen: list[Any] = []
    post_save.connect(lambda changes, **k: seen.append(dict(changes)), Computed, phase=phase)
    row = Computed(name=func.lower("ABC"), note=func.upper("n"), body=null())
    session.add(row)
    session.commit()
    row.name, row.note, row.body = func.upper(Computed.name), func.lower("O"), "text"
    session.commit()
    assert seen == [
        {"id": (None, row.id), "name": (None, "abc"), "note": (None, "N"), "body": (None, None)},
        {"name": ("abc", "ABC"), "note": ("N", "o"), "body": (None, "text")},
    ]


def test_an_expired_value_that_is_assigned_anew_is_written_and_sent(session: Session) -> None:
    """SQLAlchemy doesn't know that it is the same; ``changes`` is empty, the row is sent."""
    seen: list[Any] = []
    row = Computed(name="a", note="n")
    session.add(row)
    session.commit()
    post_save.connect(lambda changes, **k: seen.append(dict(changes)), Computed)
    row.name = "a"  # expired
    session.commit()
    assert (row.name, seen) == ("a", [{}])
    row.note = "n"  # deferred
    session.commit()
    assert (row.name, seen) == ("a", [{}, {}])
    row.name = "a"  # loaded
    session.commit()
    assert seen == [{}, {}]


NAMES = ["query", "meta", "signals", "objects", "update", "save", "delete", "session"]


class Awkward(Base):
    __tablename__ = "awkward"
    id: Mapped[int] = mapped_column(primary_key=True)
    query: Mapped[str | None]
    meta: Mapped[str | None]
    signals: Mapped[str | None]
    objects: Mapped[str | None]
    update: Mapped[str | None]
    save: Mapped[str | None]
    delete: Mapped[str | None]
    session: Mapped[str | None]


def test_columns_named_like_ours(session: Session, sent_rows: SentRows) -> None:
    """A model may own columns of any name; they are columns and nothing else."""
    thing = Awkward(**dict.fromkeys(NAMES, "x"))
    session.add(thing)
    assert sent_rows.of(session) == ["created Awkward"]
    for name in NAMES:
        assert getattr(thing, name) == "x"
        setattr(thing, name, "y")
        assert sent_rows.of(session) == ["updated Awkward"]
    session.delete(thing)
    assert sent_rows.of(session) == ["deleted Awkward"]


# -- ways of mapping ------------------------------------------------------------------------------


def test_dataclasses(sync_engine: Engine, sent_rows: SentRows) -> None:
    """A mapped dataclass with the mixin is sent like any other."""

    class DataBase(MappedAsDataclass, SignalMixin, DeclarativeBase):
        pass

    class Item(DataBase):
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        name: Mapped[str]
        size: Mapped[int] = mapped_column(default=3)

    DataBase.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        item = Item(name="a")
        session.add(item)
        assert sent_rows.of(session) == ["created Item"]
        assert (item.size, item.name) == (3, "a")
        item.size = 4
        assert sent_rows.of(session) == ["updated Item"]


def test_imperative_mapping(sync_engine: Engine, sent_rows: SentRows) -> None:
    """A class without the mixin is sent once it is registered, and not after it is unregistered."""

    class Plain:
        def __init__(self, name: str) -> None:
            self.name = name

    mapping = registry(metadata=MetaData())
    table = Table(
        "plain",
        mapping.metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(20)),
    )
    mapping.map_imperatively(Plain, table)
    mapping.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        session.add(Plain("silent"))
        assert sent_rows.of(session) == []
        register(Plain)
        session.add(Plain("received"))
        assert sent_rows.of(session) == ["created Plain"]
        unregister(Plain)
        session.add(Plain("silent"))
        assert sent_rows.of(session) == []

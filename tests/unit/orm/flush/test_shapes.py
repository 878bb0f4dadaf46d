"""Every mapped shape: what is told before a flush is what is written, and is told after it."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import pytest
from kit.told_rows import Told
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

from aksara_signals import (
    post_save,
    post_update,
    pre_save,
    pre_update,
)
from aksara_signals.orm import SignalMixin, register, unregister


class Base(SignalMixin, DeclarativeBase):
    pass


@pytest.fixture
def told() -> Told:
    return Told()


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
def test_inheritance(session: Session, told: Told, cls: type, field: str) -> None:
    """Joined, single-table and concrete subclasses send as themselves, once, and to their bases."""
    heard: list[type] = []

    @post_save(Vehicle)
    def hear(sender: type, **kwargs: Any) -> None:
        heard.append(sender)

    @post_save(Vehicle, exact=True)
    def hear_exact(**kwargs: Any) -> None:
        raise AssertionError("a subclass was taken for the class itself")

    thing = cls()
    session.add(thing)
    assert told.of(session) == [f"created {cls.__name__}"]
    setattr(thing, field, "5" if field == "name" else 5)
    assert told.of(session) == [f"updated {cls.__name__}"]
    assert heard == [cls, cls]
    session.delete(thing)
    assert told.of(session) == [f"deleted {cls.__name__}"]


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


def test_composite_and_natural_keys(session: Session, told: Told) -> None:
    """Composite keys work as any other, and a row switch is told as a delete and a creation."""
    keys: list[Any] = []
    post_save.connect(lambda instance, **k: keys.append((instance.row, instance.letter)), Seat)
    seat = Seat(row=1, letter="a")
    session.add(seat)
    assert told.rows_of(session) == ["created Seat 1, a"]
    seat.taken = True
    assert told.rows_of(session) == ["updated Seat 1, a"]
    seat.letter = "b"
    assert told.rows_of(session) == ["updated Seat 1, b"]
    assert keys == [(1, "a"), (1, "a"), (1, "b")]
    session.delete(seat)
    session.add(Seat(row=1, letter="b"))
    assert sorted(told.rows_of(session)) == ["created Seat 1, b", "deleted Seat 1, b"]


def test_a_natural_key_that_changes(session: Session, told: Told) -> None:
    """Children whose foreign key follows are told as updated."""
    country = Country(code="x", cities=[City(id=1), City(id=2)])
    session.add(country)
    assert told.rows_of(session) == ["created Country x", "created City 1", "created City 2"]
    country.code = "y"
    assert told.rows_of(session) == ["updated City 1", "updated City 2", "updated Country y"]


# -- relationships --------------------------------------------------------------------------------


class Parent(Base):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")
    one_way: Mapped[list[OneWay]] = relationship()
    two_way: Mapped[list[TwoWay]] = relationship(back_populates="parent")
    owned: Mapped[list[Owned]] = relationship(cascade="all, delete-orphan")
    single: Mapped[Single | None] = relationship(back_populates="parent")


class OneWay(Base):
    __tablename__ = "one_way"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("parent.id"))


class TwoWay(Base):
    __tablename__ = "two_way"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("parent.id"))
    parent: Mapped[Parent | None] = relationship(back_populates="two_way")


class Owned(Base):
    __tablename__ = "owned"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str | None]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("parent.id"))
    details: Mapped[list[Detail]] = relationship(cascade="all, delete-orphan")


class Detail(Base):
    __tablename__ = "detail"
    id: Mapped[int] = mapped_column(primary_key=True)
    owned_id: Mapped[int | None] = mapped_column(ForeignKey("owned.id"))


class Single(Base):
    __tablename__ = "single"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("parent.id"))
    parent: Mapped[Parent | None] = relationship(back_populates="single")


def test_children_of_a_one_way_collection(session: Session, told: Told) -> None:
    """A child whose foreign key only the collection writes is told as updated."""
    one, two, child = Parent(), Parent(), OneWay(id=1)
    session.add_all([one, two, child])
    session.commit()
    one.one_way.append(child)
    assert told.rows_of(session) == ["updated OneWay 1"]
    one.one_way.remove(child)
    two.one_way.append(child)
    assert told.rows_of(session) == ["updated OneWay 1"]
    two.one_way.append(OneWay(id=2))
    assert told.rows_of(session) == ["created OneWay 2"]
    two.one_way.remove(child)
    assert told.rows_of(session) == ["updated OneWay 1"]
    two.one_way.append(child)
    two.one_way.remove(child)
    assert told.rows_of(session) == []


def test_children_whose_parent_goes(session: Session, told: Told) -> None:
    """Children whose foreign key becomes null are told as updated, owned ones as deleted."""
    parent = Parent(
        id=10,
        one_way=[OneWay(id=11)],
        two_way=[TwoWay(id=12)],
        single=Single(id=13),
        owned=[Owned(id=14, details=[Detail(id=15), Detail(id=16)])],
    )
    session.add(parent)
    session.commit()
    session.expire_all()
    session.delete(parent)
    assert told.rows_of(session) == [
        "updated OneWay 11",
        "updated Single 13",
        "updated TwoWay 12",
        "deleted Detail 15",
        "deleted Detail 16",
        "deleted Owned 14",
        "deleted Parent 10",
    ]


def test_a_child_that_went_before_its_parent(session: Session, told: Told) -> None:
    """Nothing is told of it any more, though the parent's collection still holds it."""
    parent = Parent(id=7, one_way=[OneWay()])
    session.add(parent)
    session.flush()
    session.delete(parent.one_way[0])
    session.flush()
    session.delete(parent)
    assert told.rows_of(session) == ["deleted Parent 7"]


def test_two_way_children(session: Session, told: Told) -> None:
    """From either side, a change of parent is told once, by the child."""
    one, two, child = Parent(), Parent(), TwoWay(id=7)
    session.add_all([one, two, child])
    session.commit()
    one.two_way.append(child)
    assert told.rows_of(session) == ["updated TwoWay 7"]
    child.parent = two
    assert told.rows_of(session) == ["updated TwoWay 7"]
    child.parent = one
    child.parent = two  # its key has expired, so SQLAlchemy writes it to be sure
    assert told.rows_of(session) == ["updated TwoWay 7"]
    session.refresh(child)
    child.parent = one
    child.parent = two
    assert told.rows_of(session) == []
    child.parent_id = one.id
    assert told.rows_of(session) == ["updated TwoWay 7"]
    child.parent = None
    assert told.rows_of(session) == ["updated TwoWay 7"]


def test_one_to_one(session: Session, told: Told) -> None:
    """Replacing the other end of a one-to-one relationship updates both."""
    parent = Parent(id=7, single=Single(id=1))
    session.add(parent)
    assert told.rows_of(session) == ["created Parent 7", "created Single 1"]
    parent.single = Single(id=2)
    assert told.rows_of(session) == ["created Single 2", "updated Single 1"]


def test_orphans(session: Session, told: Told) -> None:
    """An orphan is told as deleted with all that it owns; a new parent saves it."""
    one, two = Parent(owned=[Owned(id=1, details=[Detail(id=2)])]), Parent()
    session.add_all([one, two])
    session.commit()
    child = one.owned[0]
    assert two.owned == []  # loaded first: the load would flush
    one.owned.remove(child)
    two.owned.append(child)
    assert told.rows_of(session) == ["updated Owned 1"]
    assert (one.owned, two.owned) == ([], [child])
    one.owned.append(child)
    two.owned.remove(child)
    assert told.rows_of(session) == ["updated Owned 1"]
    one.owned.clear()
    assert told.rows_of(session) == ["deleted Detail 2", "deleted Owned 1"]


class Shelf(Base):
    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list[Book]] = relationship(
        back_populates="shelf", cascade="all, delete-orphan", passive_deletes=True
    )


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id", ondelete="CASCADE"))
    shelf: Mapped[Shelf | None] = relationship(back_populates="books")
    pages: Mapped[list[Page]] = relationship(cascade="all, delete-orphan", passive_deletes=True)


class Page(Base):
    __tablename__ = "page"
    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int | None] = mapped_column(ForeignKey("book.id", ondelete="CASCADE"))


def test_an_orphan_that_no_parent_had_goes_alone(session: Session, told: Told) -> None:
    """Taken in and out again in one flush: SQLAlchemy deletes it, and leaves what it owns."""
    shelf, book = Shelf(), Book(id=1, pages=[Page(id=1)])
    session.add_all([shelf, book])
    session.commit()
    assert (len(book.pages), shelf.books) == (1, [])
    shelf.books.append(book)
    shelf.books.remove(book)
    assert told.rows_of(session) == ["deleted Book 1"]
    session.commit()
    book = Book(id=2, pages=[Page(id=2), Page(id=3)])
    session.add(book)
    session.commit()
    assert (len(book.pages), shelf.books) == (2, [])
    shelf.books.append(book)
    shelf.books.remove(book)
    page = book.pages.pop().id
    assert told.rows_of(session) == ["deleted Book 2", f"deleted Page {page}"]  # that it has let go
    session.commit()
    assert session.scalar(select(func.count(Page.id))) == 0  # the database's own cascade
    shelf.books.append(Book(id=3, pages=[Page(id=4)]))
    session.commit()
    assert len(shelf.books[0].pages) == 1
    shelf.books.clear()
    assert told.rows_of(session) == ["deleted Book 3", "deleted Page 4"]


def test_odd_moves_of_children(session: Session, told: Told) -> None:
    """Changed orphans, foreign keys set by hand as well, and children of a parent that goes."""
    one, two = Parent(owned=[Owned(id=7)]), Parent(id=8)
    first, second, third = one.one_way = [OneWay(id=1), OneWay(id=2), OneWay(id=3)]
    session.add_all([one, two])
    session.commit()
    orphan = one.owned[0]
    orphan.note = "changed as well"
    one.owned.remove(orphan)
    with session.no_autoflush:
        assert len(one.one_way) == 3
    session.delete(third)
    assert told.rows_of(session) == ["deleted OneWay 3", "deleted Owned 7"]
    assert [len(one.one_way), len(two.one_way)] == [2, 0]
    second.parent_id = two.id
    two.one_way.append(second)
    one.one_way.remove(second)
    assert told.rows_of(session) == ["updated OneWay 2"]
    assert (one.one_way, two.one_way) == ([first], [second])
    two.one_way.remove(second)
    one.one_way.append(second)
    with session.no_autoflush:
        session.delete(two)
    assert told.rows_of(session) == ["updated OneWay 2", "deleted Parent 8"]
    assert first.parent_id == second.parent_id == one.id


def test_children_that_leave_a_parent_that_goes(session: Session, told: Told) -> None:
    """Taken out before, taken over by a new parent, or by an old one: told once each."""
    leaver, adopted, moved = OneWay(id=1), OneWay(id=2), OneWay(id=3)
    old, keeper = Parent(id=1, one_way=[leaver, adopted, moved]), Parent(id=2)
    session.add_all([old, keeper])
    session.commit()
    assert len(old.one_way) == 3
    assert keeper.one_way == []
    with session.no_autoflush:
        old.one_way.remove(leaver)
        heir = Parent(id=3, one_way=[adopted])
        session.add(heir)
        keeper.one_way.append(moved)
        session.delete(old)
    assert told.rows_of(session) == [
        "deleted Parent 1",
        "created Parent 3",
        "updated OneWay 1",
        "updated OneWay 2",
        "updated OneWay 3",
    ]
    assert (leaver.parent_id, adopted.parent_id, moved.parent_id) == (None, heir.id, keeper.id)


def test_a_pending_orphan_is_not_written(session: Session, told: Told) -> None:
    """An object that was taken out again before it was ever written is not told."""
    parent = Parent()
    session.add(parent)
    session.commit()
    child = Owned()
    parent.owned.append(child)
    parent.owned.remove(child)
    assert told.rows_of(session) == []


class Node(Base):
    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    children: Mapped[list[Node]] = relationship(back_populates="parent", cascade="all")
    parent: Mapped[Node | None] = relationship(back_populates="children", remote_side="Node.id")


def test_self_reference(session: Session, told: Told) -> None:
    """Trees are told node by node: created in order, moved, and deleted with their branches."""
    root = Node(id=1, children=[Node(id=2, children=[Node(id=4)]), Node(id=3)])
    session.add(root)
    assert told.rows_of(session) == [f"created Node {key}" for key in (1, 2, 4, 3)]
    first, second = root.children
    first.children[0].parent = second
    assert told.rows_of(session) == ["updated Node 4"]
    session.delete(root)
    assert told.rows_of(session) == [f"deleted Node {key}" for key in (1, 2, 3, 4)]


class Keeper(Base):
    __tablename__ = "keeper"
    id: Mapped[int] = mapped_column(primary_key=True)
    kept: Mapped[list[Kept]] = relationship(cascade="all, delete", passive_deletes=True)


class Kept(Base):
    __tablename__ = "kept"
    id: Mapped[int] = mapped_column(primary_key=True)
    keeper_id: Mapped[int | None] = mapped_column(ForeignKey("keeper.id", ondelete="CASCADE"))


def test_passive_deletes(session: Session, told: Told) -> None:
    """Loaded children are told; what the database deletes by itself is not."""
    session.add_all([Keeper(id=1, kept=[Kept(id=3)]), Keeper(id=2, kept=[Kept(id=4)])])
    session.commit()
    one, two = session.query(Keeper).order_by(Keeper.id)
    assert len(one.kept) == 1
    session.delete(one)
    assert told.rows_of(session) == ["deleted Keeper 1", "deleted Kept 3"]
    session.expire_all()
    session.delete(two)
    assert told.rows_of(session) == ["deleted Keeper 2"]


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


def test_versions_expressions_and_properties(session: Session, told: Told) -> None:
    """Versioned rows are told once; SQL expressions count as changes; read-only ones don't."""
    seen: list[Any] = []
    post_update.connect(lambda changes, **k: seen.append(dict(changes)), Rich)
    rich = Rich(name="a")
    session.add(rich)
    assert told.of(session) == ["created Rich"]
    rich.count = Rich.count + 1
    assert told.of(session) == ["updated Rich"]
    rich.colour = Colour.BLUE
    assert told.of(session) == ["updated Rich"]
    assert (rich.count, rich.version, rich.upper) == (1, 3, "A")
    session.delete(rich)
    assert told.of(session) == ["deleted Rich"]
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
    """What was set to SQL is told as what it has become, of new rows and of deferred columns too."""
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


def test_an_expired_value_that_is_assigned_anew_is_written_and_told(session: Session) -> None:
    """SQLAlchemy doesn't know that it is the same; ``changes`` has nothing, the row is told of."""
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


def test_columns_named_like_ours(session: Session, told: Told) -> None:
    """A model may own columns of any name; they are columns and nothing else."""
    thing = Awkward(**dict.fromkeys(NAMES, "x"))
    session.add(thing)
    assert told.of(session) == ["created Awkward"]
    for name in NAMES:
        assert getattr(thing, name) == "x"
        setattr(thing, name, "y")
        assert told.of(session) == ["updated Awkward"]
    session.delete(thing)
    assert told.of(session) == ["deleted Awkward"]


# -- ways of mapping ------------------------------------------------------------------------------


def test_dataclasses(sync_engine: Engine, told: Told) -> None:
    """A mapped dataclass with the mixin is told like any other."""

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
        assert told.of(session) == ["created Item"]
        assert (item.size, item.name) == (3, "a")
        item.size = 4
        assert told.of(session) == ["updated Item"]


def test_imperative_mapping(sync_engine: Engine, told: Told) -> None:
    """A class that knows nothing of us is told once it is registered, and no more afterwards."""

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
        session.add(Plain("unheard"))
        assert told.of(session) == []
        register(Plain)
        session.add(Plain("heard"))
        assert told.of(session) == ["created Plain"]
        unregister(Plain)
        session.add(Plain("unheard"))
        assert told.of(session) == []


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

"""Relationships of every shape: what is sent before a flush is written, and sent after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kit.sent_rows import SentRows
from sqlalchemy import Engine, ForeignKey, func, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    configure_mappers,
    mapped_column,
    relationship,
)

from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


@pytest.fixture
def session(sync_engine: Engine) -> Iterator[Session]:
    configure_mappers()
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        yield session


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


def test_children_of_a_one_way_collection(session: Session, sent_rows: SentRows) -> None:
    """A child whose foreign key only the collection writes is sent as updated."""
    one, two, child = Parent(), Parent(), OneWay(id=1)
    session.add_all([one, two, child])
    session.commit()
    one.one_way.append(child)
    assert sent_rows.rows_of(session) == ["updated OneWay 1"]
    one.one_way.remove(child)
    two.one_way.append(child)
    assert sent_rows.rows_of(session) == ["updated OneWay 1"]
    two.one_way.append(OneWay(id=2))
    assert sent_rows.rows_of(session) == ["created OneWay 2"]
    two.one_way.remove(child)
    assert sent_rows.rows_of(session) == ["updated OneWay 1"]
    two.one_way.append(child)
    two.one_way.remove(child)
    assert sent_rows.rows_of(session) == []


def test_children_whose_parent_goes(session: Session, sent_rows: SentRows) -> None:
    """Children whose foreign key becomes null are sent as updated, owned ones as deleted."""
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
    assert sent_rows.rows_of(session) == [
        "updated OneWay 11",
        "updated Single 13",
        "updated TwoWay 12",
        "deleted Detail 15",
        "deleted Detail 16",
        "deleted Owned 14",
        "deleted Parent 10",
    ]


def test_a_child_that_went_before_its_parent(session: Session, sent_rows: SentRows) -> None:
    """Nothing is sent for it any more, though the parent's collection still holds it."""
    parent = Parent(id=7, one_way=[OneWay()])
    session.add(parent)
    session.flush()
    session.delete(parent.one_way[0])
    session.flush()
    session.delete(parent)
    assert sent_rows.rows_of(session) == ["deleted Parent 7"]


def test_two_way_children(session: Session, sent_rows: SentRows) -> None:
    """From either side, a change of parent is sent once, for the child."""
    one, two, child = Parent(), Parent(), TwoWay(id=7)
    session.add_all([one, two, child])
    session.commit()
    one.two_way.append(child)
    assert sent_rows.rows_of(session) == ["updated TwoWay 7"]
    child.parent = two
    assert sent_rows.rows_of(session) == ["updated TwoWay 7"]
    child.parent = one
    child.parent = two  # its key has expired, so SQLAlchemy writes it to be sure
    assert sent_rows.rows_of(session) == ["updated TwoWay 7"]
    session.refresh(child)
    child.parent = one
    child.parent = two
    assert sent_rows.rows_of(session) == []
    child.parent_id = one.id
    assert sent_rows.rows_of(session) == ["updated TwoWay 7"]
    child.parent = None
    assert sent_rows.rows_of(session) == ["updated TwoWay 7"]


def test_one_to_one(session: Session, sent_rows: SentRows) -> None:
    """Replacing the other end of a one-to-one relationship updates both."""
    parent = Parent(id=7, single=Single(id=1))
    session.add(parent)
    assert sent_rows.rows_of(session) == ["created Parent 7", "created Single 1"]
    parent.single = Single(id=2)
    assert sent_rows.rows_of(session) == ["created Single 2", "updated Single 1"]


def test_orphans(session: Session, sent_rows: SentRows) -> None:
    """An orphan is sent as deleted with all that it owns; a new parent saves it."""
    one, two = Parent(owned=[Owned(id=1, details=[Detail(id=2)])]), Parent()
    session.add_all([one, two])
    session.commit()
    child = one.owned[0]
    assert two.owned == []  # loaded first: the load would flush
    one.owned.remove(child)
    two.owned.append(child)
    assert sent_rows.rows_of(session) == ["updated Owned 1"]
    assert (one.owned, two.owned) == ([], [child])
    one.owned.append(child)
    two.owned.remove(child)
    assert sent_rows.rows_of(session) == ["updated Owned 1"]
    one.owned.clear()
    assert sent_rows.rows_of(session) == ["deleted Detail 2", "deleted Owned 1"]


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


def test_an_orphan_that_no_parent_had_goes_alone(session: Session, sent_rows: SentRows) -> None:
    """Taken in and out again in one flush: SQLAlchemy deletes it, and leaves what it owns."""
    shelf, book = Shelf(), Book(id=1, pages=[Page(id=1)])
    session.add_all([shelf, book])
    session.commit()
    assert (len(book.pages), shelf.books) == (1, [])
    shelf.books.append(book)
    shelf.books.remove(book)
    assert sent_rows.rows_of(session) == ["deleted Book 1"]
    session.commit()
    book = Book(id=2, pages=[Page(id=2), Page(id=3)])
    session.add(book)
    session.commit()
    assert (len(book.pages), shelf.books) == (2, [])
    shelf.books.append(book)
    shelf.books.remove(book)
    page = book.pages.pop().id
    assert sent_rows.rows_of(session) == [
        "deleted Book 2",
        f"deleted Page {page}",  # which was removed from it
    ]
    session.commit()
    assert session.scalar(select(func.count(Page.id))) == 0  # the database's own cascade
    shelf.books.append(Book(id=3, pages=[Page(id=4)]))
    session.commit()
    assert len(shelf.books[0].pages) == 1
    shelf.books.clear()
    assert sent_rows.rows_of(session) == ["deleted Book 3", "deleted Page 4"]


def test_odd_moves_of_children(session: Session, sent_rows: SentRows) -> None:
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
    assert sent_rows.rows_of(session) == ["deleted OneWay 3", "deleted Owned 7"]
    assert [len(one.one_way), len(two.one_way)] == [2, 0]
    second.parent_id = two.id
    two.one_way.append(second)
    one.one_way.remove(second)
    assert sent_rows.rows_of(session) == ["updated OneWay 2"]
    assert (one.one_way, two.one_way) == ([first], [second])
    two.one_way.remove(second)
    one.one_way.append(second)
    with session.no_autoflush:
        session.delete(two)
    assert sent_rows.rows_of(session) == ["updated OneWay 2", "deleted Parent 8"]
    assert first.parent_id == second.parent_id == one.id


def test_children_that_leave_a_parent_that_goes(session: Session, sent_rows: SentRows) -> None:
    """Taken out before, taken over by a new parent, or by an old one: each is sent once."""
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
    assert sent_rows.rows_of(session) == [
        "deleted Parent 1",
        "created Parent 3",
        "updated OneWay 1",
        "updated OneWay 2",
        "updated OneWay 3",
    ]
    assert (leaver.parent_id, adopted.parent_id, moved.parent_id) == (None, heir.id, keeper.id)


def test_a_pending_orphan_is_not_written(session: Session, sent_rows: SentRows) -> None:
    """An object that was taken out again before it was ever written is not sent."""
    parent = Parent()
    session.add(parent)
    session.commit()
    child = Owned()
    parent.owned.append(child)
    parent.owned.remove(child)
    assert sent_rows.rows_of(session) == []


class Node(Base):
    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    children: Mapped[list[Node]] = relationship(back_populates="parent", cascade="all")
    parent: Mapped[Node | None] = relationship(back_populates="children", remote_side="Node.id")


def test_self_reference(session: Session, sent_rows: SentRows) -> None:
    """Trees are sent node by node: created in order, moved, and deleted with their branches."""
    root = Node(id=1, children=[Node(id=2, children=[Node(id=4)]), Node(id=3)])
    session.add(root)
    assert sent_rows.rows_of(session) == [f"created Node {key}" for key in (1, 2, 4, 3)]
    first, second = root.children
    first.children[0].parent = second
    assert sent_rows.rows_of(session) == ["updated Node 4"]
    session.delete(root)
    assert sent_rows.rows_of(session) == [f"deleted Node {key}" for key in (1, 2, 3, 4)]


class Keeper(Base):
    __tablename__ = "keeper"
    id: Mapped[int] = mapped_column(primary_key=True)
    kept: Mapped[list[Kept]] = relationship(cascade="all, delete", passive_deletes=True)


class Kept(Base):
    __tablename__ = "kept"
    id: Mapped[int] = mapped_column(primary_key=True)
    keeper_id: Mapped[int | None] = mapped_column(ForeignKey("keeper.id", ondelete="CASCADE"))


def test_passive_deletes(session: Session, sent_rows: SentRows) -> None:
    """Loaded children are sent; what the database deletes by itself is not."""
    session.add_all([Keeper(id=1, kept=[Kept(id=3)]), Keeper(id=2, kept=[Kept(id=4)])])
    session.commit()
    one, two = session.query(Keeper).order_by(Keeper.id)
    assert len(one.kept) == 1
    session.delete(one)
    assert sent_rows.rows_of(session) == ["deleted Keeper 1", "deleted Kept 3"]
    session.expire_all()
    session.delete(two)
    assert sent_rows.rows_of(session) == ["deleted Keeper 2"]

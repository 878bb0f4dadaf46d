"""Listening fails no write of unusual mappings, and receivers read the columns of their rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, String, case, func, literal, select
from sqlalchemy.ext.declarative import AbstractConcreteBase, ConcreteBase
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    composite,
    load_only,
    mapped_column,
    relationship,
)
from sqlalchemy.orm.attributes import flag_modified

from aksara_signals import post_delete, post_save, pre_save
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Animal(ConcreteBase, Base):
    __tablename__ = "animal"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "animal", "concrete": True}


class Cat(Animal):
    __tablename__ = "cat"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "cat", "concrete": True}


class Employee(AbstractConcreteBase, Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]


class Manager(Employee):
    __tablename__ = "manager"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    budget: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "manager", "concrete": True}


class Document(Base):
    __tablename__ = "document"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    title: Mapped[str | None]
    shout: Mapped[str | None] = column_property(func.upper("x"))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "document"}


class Memo(Document):
    __tablename__ = "memo"

    id: Mapped[int] = mapped_column(ForeignKey("document.id"), primary_key=True)
    text: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "memo"}


class Shape(Base):
    __tablename__ = "shape"

    id: Mapped[int] = mapped_column(primary_key=True)
    corners: Mapped[int] = mapped_column()
    name: Mapped[str | None]
    __mapper_args__ = {
        "polymorphic_on": case((corners == 0, literal("round")), else_=literal("shape")),
        "polymorphic_identity": "shape",
    }


class Round(Shape):
    __mapper_args__ = {"polymorphic_identity": "round"}


@dataclasses.dataclass
class Place:
    x: int
    y: int


class Pin(Base):
    __tablename__ = "pin"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    place: Mapped[Place] = composite(mapped_column("x"), mapped_column("y"))


class Person(Base):
    __tablename__ = "person"

    id: Mapped[int] = mapped_column(primary_key=True)
    language: Mapped[str | None]
    boss_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    boss: Mapped[Person | None] = relationship(remote_side="Person.id", back_populates="team")
    team: Mapped[list[Person]] = relationship(back_populates="boss")


class Shelf(Base):
    __tablename__ = "shelf"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(unique=True)
    books: Mapped[list[Book]] = relationship(back_populates="shelf")


class Book(Base):
    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_code: Mapped[str | None] = mapped_column(ForeignKey("shelf.code"))
    shelf: Mapped[Shelf | None] = relationship(back_populates="books")


class Owner(Base):
    __tablename__ = "owner"

    name: Mapped[str] = mapped_column(String, primary_key=True)


class Pet(Base):
    __tablename__ = "pet"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_name: Mapped[str] = mapped_column(
        ForeignKey("owner.name", deferrable=True, initially="DEFERRED")
    )
    owner: Mapped[Owner] = relationship(passive_updates=False)


@pytest.fixture
def session(sync_engine: Engine) -> Iterator[Session]:
    Base.registry.configure()
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        yield session


def read(*names: str) -> list[Any]:
    """Connect async receivers, of every phase, that read these attributes; return what they read."""
    received: list[Any] = []

    async def receiver(instance: Any, **kwargs: Any) -> None:
        received.append(tuple(getattr(instance, name) for name in names))

    for signal in (post_save, post_delete):
        signal.connect(receiver)
        signal.connect(receiver, phase="after_commit")
    return received


@pytest.mark.parametrize("cls", [Animal, Cat, Manager])
def test_concrete_inheritance(session: Session, cls: type[Any]) -> None:
    """Classes with tables of their own are written, expired or not, and read by receivers."""
    received = read("id", "name")
    row = cls(id=1, name="a")
    session.add(row)
    session.commit()
    session.refresh(row)
    row.name = "b"
    session.commit()
    session.delete(row)
    session.commit()
    assert received == [(1, name) for name in "aabbbb"]


@pytest.mark.parametrize("cls", [Document, Memo])
def test_column_properties_beside_inheritance(session: Session, cls: type[Any]) -> None:
    """A column property is not loaded for receivers, and breaks no commit."""
    received = read("id", "title")
    row = cls(id=1, title="a")
    session.add(row)
    session.commit()
    if cls is Memo:
        row.text = "new"
    else:
        row.title = "a new one"
    session.commit()
    assert [each[0] for each in received] == [1, 1, 1, 1]
    assert received[0] == received[1] == (1, "a")


def test_a_discriminator_that_is_sql(session: Session) -> None:
    """Rows whose class is worked out by the database find their instances."""
    session.add_all([Shape(id=1, corners=4, name="square"), Round(id=2, corners=0, name="circle")])
    session.commit()
    received = read("id", "name")
    for shape in session.scalars(select(Shape)).all():
        session.expire(shape, ["name"])
        flag_modified(shape, "corners")
    session.commit()
    assert sorted(received) == [(1, "square"), (1, "square"), (2, "circle"), (2, "circle")]


def test_composites(session: Session) -> None:
    """A composite is there when its columns were loaded for a copy."""
    session.add(Pin(id=1, place=Place(1, 2)))
    session.commit()
    session.expunge_all()
    received = read("place")
    pin = session.scalars(select(Pin).options(load_only(Pin.name))).one()
    pin.name = "here"
    session.commit()
    assert received == [(Place(1, 2),), (Place(1, 2),)]


def test_what_was_rolled_back_may_be_used_again(session: Session) -> None:
    """A formerly new object has expired attributes, and no row to load them from."""
    received = read("id", "language")
    person = Person(language="x")
    session.add(person)
    session.flush()
    session.expire(person, ["language"])
    session.rollback()
    received.clear()
    boss = Person(id=5, language="y")
    boss.team.append(person)
    session.add(boss)
    session.commit()
    assert sorted(received) == sorted([(5, "y"), (person.id, None)] * 2)


def test_references_without_a_collection_follow_a_key(session: Session) -> None:
    """Objects whose reference SQLAlchemy sets anew are sent before it does."""
    session.add(Pet(id=1, owner=Owner(name="a")))
    session.commit()
    received: list[Any] = []
    for signal in (pre_save, post_save):

        def note(signal: Any, instance: Any, **kwargs: Any) -> None:
            received.append((signal.name, type(instance).__name__))

        signal.connect(note)
    pet = session.get_one(Pet, 1)
    pet.owner.name = "b"
    session.commit()
    assert pet.owner_name == "b"
    assert sorted(received) == [
        ("post_save", "Owner"),
        ("post_save", "Pet"),
        ("pre_save", "Owner"),
        ("pre_save", "Pet"),
    ]


@pytest.mark.parametrize("is_same", [True, False])
def test_references_to_what_is_no_primary_key(session: Session, is_same: bool) -> None:
    """Whether a reference changes is judged by the column that it refers to, loaded if need be."""
    shelves = Shelf(id=1, code="a"), Shelf(id=2, code="b")
    book = Book(id=1, shelf_code="a")
    session.add_all([*shelves, book])
    session.commit()
    session.refresh(book)
    received: list[Any] = []
    for signal in (pre_save, post_save):

        def note(signal: Any, instance: Any, **kwargs: Any) -> None:
            received.append(signal.name)

        signal.connect(note, sender=Book)
    book.shelf = shelves[0 if is_same else 1]
    session.commit()
    assert book.shelf_code == ("a" if is_same else "b")
    assert received == ([] if is_same else ["pre_save", "post_save"])

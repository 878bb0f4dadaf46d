"""Links that a flush makes or cuts: sent as the database has them, whichever side set them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kit.sent_rows import SentRows
from sqlalchemy import Engine, ForeignKey, event
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    configure_mappers,
    mapped_column,
    relationship,
)

from aksara_signals import (
    AksaraSignalsWarning,
    post_relation_add,
    post_relation_remove,
    pre_relation_add,
    pre_relation_remove,
)
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Vehicle(Base):
    __tablename__ = "vehicle"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}


class Truck(Vehicle):
    __tablename__ = "truck"
    id: Mapped[int] = mapped_column(ForeignKey("vehicle.id"), primary_key=True)
    trailers: Mapped[list[Trailer]] = relationship(back_populates="truck")
    __mapper_args__ = {"polymorphic_identity": "truck"}


class Trailer(Base):
    __tablename__ = "trailer"
    id: Mapped[int] = mapped_column(primary_key=True)
    truck_id: Mapped[int | None] = mapped_column(ForeignKey("truck.id"))
    truck: Mapped[Truck | None] = relationship(back_populates="trailers")


class Archive(Base):
    __tablename__ = "archive"
    id: Mapped[int] = mapped_column(primary_key=True)
    files: Mapped[list[File]] = relationship(passive_deletes="all")


class File(Base):
    __tablename__ = "file"
    id: Mapped[int] = mapped_column(primary_key=True)
    archive_id: Mapped[int | None] = mapped_column(ForeignKey("archive.id", ondelete="SET NULL"))


@pytest.fixture
def session(sync_engine: Engine) -> Iterator[Session]:
    configure_mappers()
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        yield session


def test_a_foreign_key_to_a_joined_subclass(session: Session) -> None:
    """Set by its column, it is sent for the collection's owner, whichever table it refers to."""
    truck, trailer = Truck(), Trailer()
    session.add_all([truck, trailer])
    session.commit()
    seen: list[Any] = []
    post_relation_add.connect(lambda child, **kwargs: seen.append(child), Truck)
    trailer.truck_id = truck.id
    session.commit()
    assert seen == [trailer]


# SQLAlchemy warns of what it doesn't write: that is the point, here and below.
@pytest.mark.filterwarnings("ignore:Object of type <File> not in session")
def test_a_child_outside_of_the_session(session: Session, sent_rows: SentRows) -> None:
    """SQLAlchemy doesn't write it, whatever collection it is in; so no link is sent."""
    relations: list[Any] = []
    for signal in (pre_relation_add, post_relation_add):
        signal.connect(lambda **payload: relations.append(payload), Archive)
    file = File()
    session.add(Archive(id=7, files=[file]))
    session.expunge(file)
    assert sent_rows.rows_of(session) == ["created Archive 7"]
    assert relations == []


def test_a_child_in_two_collections(session: Session) -> None:
    """Where two collections set one key, it is sent for the owner that the row refers to."""
    seen: list[Any] = []
    post_relation_add.connect(lambda instance, **kwargs: seen.append(instance.id), Archive)
    file = File()
    session.add_all([Archive(files=[file]), Archive(files=[file])])
    session.commit()
    assert seen == [file.archive_id]
    post_relation_remove.connect(lambda instance, **kwargs: seen.append(instance.id), Archive)
    seen.clear()
    for archive in session.query(Archive):
        archive.files = []
    session.commit()
    assert seen == []  # with passive_deletes="all", the row still refers to it


def test_a_key_that_is_set_beside_its_relationship(session: Session) -> None:
    """If the relationship stays as it was, the column decides."""
    seen: list[Any] = []
    truck, trailer = Truck(), Trailer()
    session.add_all([truck, trailer])
    session.commit()
    post_relation_add.connect(lambda instance, **kwargs: seen.append(instance), Truck)
    trailer.truck_id = truck.id
    trailer.truck = None  # as it was
    session.commit()
    assert seen == [truck]
    trailer.truck_id = truck.id  # as it was, which isn't known: it has expired
    session.commit()
    trailer.truck = truck  # likewise
    session.commit()
    assert seen == [truck]


def test_children_that_sqlalchemy_leaves_to_the_database(
    session: Session, sent_rows: SentRows
) -> None:
    """With passive_deletes="all", a child keeps its key, whether or not it is taken out."""
    archive = Archive(id=7, files=[kept := File(), File()])
    session.add(archive)
    session.commit()
    relations: list[Any] = []
    for signal in (pre_relation_remove, post_relation_remove):
        signal.connect(lambda **payload: relations.append(payload), Archive)
    file = archive.files.pop()
    assert sent_rows.of(session) == []
    assert file.archive_id == archive.id
    assert relations == []
    assert kept in archive.files
    session.delete(archive)
    assert sent_rows.rows_of(session) == ["deleted Archive 7"]
    assert (file.archive_id, kept.archive_id) == (None, None)


def test_a_former_owner_outside_of_the_session(session: Session) -> None:
    """The removal is sent for it: the row is written, wherever the owner is."""
    seen: list[Any] = []
    truck, trailer = Truck(), Trailer()
    truck.trailers.append(trailer)
    session.add(truck)
    session.commit()
    assert trailer.truck is truck
    session.expunge(truck)
    post_relation_remove.connect(lambda instance, child, **_: seen.append((instance, child)), Truck)
    session.add(trailer)
    trailer.truck = None
    session.commit()
    assert seen == [(truck, trailer)]


def test_a_child_that_was_deleted_before(session: Session) -> None:
    """Nothing is sent a second time when it is removed from the collection that still holds it."""
    seen: list[Any] = []
    truck = Truck(trailers=[Trailer()])
    session.add(truck)
    session.commit()
    session.delete(truck.trailers[0])
    session.flush()
    post_relation_remove.connect(lambda child, **_: seen.append(child), Truck)
    truck.trailers = []
    session.commit()
    assert seen == []


def test_a_link_that_is_found_late_has_no_old_owner_to_be_read(session: Session) -> None:
    """After the flush the row says what the key has become, and not what it was."""
    session.add_all([first := Truck(), second := Truck(), Trailer(id=1, truck=first)])
    session.commit()
    first_id, second_id = first.id, second.id
    seen: list[Any] = []
    for signal in (post_relation_add, post_relation_remove):
        signal.connect(
            lambda signal, instance, **kwargs: seen.append((signal.name, instance.id)), Truck
        )

    @event.listens_for(session, "before_flush")
    def move(session: Session, *_: Any) -> None:
        trailer.truck_id = second_id

    trailer = session.get_one(Trailer, 1)
    session.expire(trailer)
    session.add(Archive())  # else nothing is flushed
    with pytest.warns(AksaraSignalsWarning, match="1 links"):
        session.commit()
    assert seen == [("post_relation_add", second_id)]
    assert first_id != second_id


class Chamber(Base):
    __tablename__ = "chamber"
    id: Mapped[int] = mapped_column(primary_key=True)
    before_id: Mapped[int | None] = mapped_column(ForeignKey("chamber.id"))
    before: Mapped[Chamber | None] = relationship(remote_side="Chamber.id", back_populates="behind")
    behind: Mapped[Chamber | None] = relationship(
        back_populates="before", cascade="all, delete-orphan", single_parent=True
    )


class Branch(Base):
    __tablename__ = "branch"
    id: Mapped[int] = mapped_column(primary_key=True)
    branch_id: Mapped[int | None] = mapped_column(ForeignKey("branch.id"))
    branch: Mapped[Branch | None] = relationship(remote_side="Branch.id", back_populates="twigs")
    twigs: Mapped[list[Branch]] = relationship(
        back_populates="branch", cascade="all, delete-orphan"
    )


@pytest.fixture
def relations() -> list[Any]:
    """The owners that links were sent for, before and after."""
    owners: list[Any] = []
    for signal in (pre_relation_add, post_relation_add):
        signal.connect(lambda instance, **kwargs: owners.append(instance), Base)
    return owners


@pytest.mark.filterwarnings("ignore:Object of type <Chamber> not in session")
def test_an_owner_that_has_left_the_session(
    session: Session, sent_rows: SentRows, relations: list[Any]
) -> None:
    """For what is linked to a new instance that was expunged as an orphan, no link is sent."""
    first, second, third = Chamber(id=1), Chamber(id=2), Chamber(id=3)
    session.add_all([first, second, third])
    first.before = third
    first.behind = third
    second.before = first  # pushes the third out, which takes the first with it
    assert first not in session
    assert sent_rows.rows_of(session) == ["created Chamber 2"]
    assert second.before_id is None
    assert relations == []


@pytest.mark.filterwarnings("ignore:Object of type <Branch> not in session")
def test_an_owner_that_the_flush_drops(
    session: Session, sent_rows: SentRows, relations: list[Any]
) -> None:
    """A new instance that was an orphan before a cascade added it isn't written; nor are its links."""
    orphan, twig = Branch(id=1), Branch(id=2)
    former = Branch(id=3, twigs=[orphan])
    former.twigs.remove(orphan)
    twig.branch = orphan
    session.add(twig)
    assert orphan in session
    assert sent_rows.rows_of(session) == ["created Branch 2"]
    assert orphan not in session
    assert relations == []

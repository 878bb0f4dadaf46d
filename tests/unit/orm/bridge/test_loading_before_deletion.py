"""Expired rows that are about to be deleted are read for receivers as SQLAlchemy reads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, String, event
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    mapped_column,
    relationship,
)

from aksara_signals import post_delete
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class House(Base):
    __tablename__ = "ld_house"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Guest(Base):
    __tablename__ = "ld_guest"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    house_id: Mapped[int | None] = mapped_column(ForeignKey(House.id))
    house: Mapped[House | None] = relationship()


class Boat(Base):
    __tablename__ = "ld_boat"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "boat"}


class Ferry(Boat):
    __tablename__ = "ld_ferry"

    id: Mapped[int] = mapped_column(ForeignKey(Boat.id), primary_key=True)
    harbour: Mapped[str] = mapped_column(default="here")
    __mapper_args__ = {"polymorphic_identity": "ferry"}


class Sloop(Boat):
    __mapper_args__ = {"polymorphic_identity": "sloop"}


class Sign(Base):
    __tablename__ = "ld_sign"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String)
    loud: Mapped[str] = column_property(name + "!!")


class Letter(Sign):
    __tablename__ = "ld_letter"

    id: Mapped[int] = mapped_column(ForeignKey(Sign.id), primary_key=True)
    house_id: Mapped[int | None] = mapped_column(ForeignKey(House.id))
    house: Mapped[House | None] = relationship()


class Flag(Boat):
    __tablename__ = "ld_flag"

    id: Mapped[int] = mapped_column(ForeignKey(Boat.id), primary_key=True)
    colour: Mapped[str] = mapped_column(String, default="red")
    loud: Mapped[str] = column_property(colour + "!!")
    __mapper_args__ = {"polymorphic_identity": "flag"}


@pytest.fixture
def session(sync_engine: Engine) -> Iterator[Session]:
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        yield session


def selects_of_deletion(session: Session, *instances: Any) -> list[str]:
    """What is read while expired rows are deleted."""
    session.add_all(instances)
    session.commit()
    for instance in instances:
        session.delete(instance)
    selects: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT"):
            selects.append(statement)

    event.listen(session.get_bind(), "before_cursor_execute", note)
    session.flush()
    event.remove(session.get_bind(), "before_cursor_execute", note)
    session.commit()
    return selects


@pytest.fixture
def names() -> list[str]:
    """What a receiver after the deletion reads."""
    names: list[str] = []
    post_delete.connect(lambda instance, **kwargs: names.append(instance.name), sender=Base)
    return names


@pytest.mark.parametrize("cls", [House, Guest, Boat, Ferry, Sloop, Letter])
@pytest.mark.parametrize("count", [1, 3])
def test_rows_are_read_as_without_receivers_or_all_at_once(
    session: Session, names: list[str], cls: Any, count: int
) -> None:
    """Rows with references one by one, as the flush reads all of them; others by one SELECT."""
    selects = selects_of_deletion(
        session, *(cls(id=number, name=f"no. {number}") for number in range(1, count + 1))
    )
    assert sorted(names) == [f"no. {number}" for number in range(1, count + 1)]
    for connection in post_delete.connections:
        post_delete.disconnect(connection.receiver, sender=connection.sender)
    plain = selects_of_deletion(
        session, *(cls(id=number, name=f"no. {number}") for number in range(1, count + 1))
    )
    assert len(plain) == count
    if count == 1 or issubclass(cls, (Guest, Letter)):
        assert selects == plain
    else:
        assert len(selects) == 1


@pytest.mark.parametrize("cls", [Sign, Flag])
@pytest.mark.parametrize("count", [1, 3])
def test_no_expression_is_worked_out(
    session: Session, names: list[str], cls: Any, count: int
) -> None:
    """Neither for one row nor for several, where the flush wouldn't."""
    selects = selects_of_deletion(
        session, *(cls(id=number, name=f"no. {number}") for number in range(1, count + 1))
    )
    assert sorted(names) == [f"no. {number}" for number in range(1, count + 1)]
    assert len(selects) == 1
    assert "||" not in selects[0]

"""Instances whose rows were inserted in bulk: persistent in the session as after a flush."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, String, event, func, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from aksara_signals import InstanceStateError
from aksara_signals.orm import SignalMixin
from aksara_signals.orm.bridge.rows import read_rows


class Base(SignalMixin, DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    parts: Mapped[list[Part]] = relationship(cascade="all, delete-orphan")


class Part(Base):
    __tablename__ = "part"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("owner.id"))
    name: Mapped[str | None]


class Place(Base):
    __tablename__ = "place"
    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Label(Base):
    __tablename__ = "label"
    code: Mapped[str] = mapped_column(
        String(10).with_variant(String(10, collation="NOCASE"), "sqlite"), primary_key=True
    )
    note: Mapped[str]


@pytest.fixture
def session(sync_engine: Engine) -> Iterator[Session]:
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        yield session


def create(session: Session, *instances: Any) -> list[Any]:
    """Insert in bulk through a plain session, where nothing has to wait."""
    with pytest.raises(StopIteration) as stop:
        type(instances[0]).objects.bulk_create(list(instances), session=session).send(None)
    created: list[Any] = stop.value.value
    return created


def test_relationships_that_lead_nowhere_are_no_relationships(session: Session) -> None:
    """An empty collection is taken, whether it was set, emptied again or read."""
    filled, read = Owner(parts=[Part()]), Owner()
    filled.parts.clear()
    assert read.parts == []
    owners = [Owner(parts=[]), filled, read]
    create(session, *owners)
    assert session.scalars(select(Owner.id).order_by(Owner.id)).all() == [
        each.id for each in owners
    ]
    with pytest.raises(InstanceStateError, match="relationship 'parts'"):
        Owner.objects.bulk_create([Owner(parts=[Part()])], session=session).send(None)


def test_rows_with_and_without_a_value_go_together(session: Session) -> None:
    """None is a value: one INSERT has them all."""
    statements: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement.partition(" ")[0])

    event.listen(session.get_bind(), "before_cursor_execute", note)
    create(session, *(Part(name=name) for name in ("a", None, "b", None)))
    event.remove(session.get_bind(), "before_cursor_execute", note)
    assert statements.count("INSERT") == 1
    assert session.scalars(select(Part.name).order_by(Part.id)).all() == ["a", None, "b", None]


def test_they_are_persistent_and_clean(session: Session) -> None:
    """In the identity map by their keys, of one column or of several."""
    part, place = Part(name="x"), Place(row=1, number=2)
    assert create(session, part) == [part]
    create(session, place)
    assert inspect(part).persistent
    assert session.get(Part, part.id) is part
    assert session.get(Place, (1, 2)) is place
    assert not session.new
    assert not session.dirty
    assert not inspect(part).modified
    assert session.in_transaction()


def test_a_rollback_makes_them_new_again(session: Session) -> None:
    """And a second insertion finds nothing of the first one."""
    create(session, part := Part(name="x"))
    session.rollback()
    assert inspect(part).transient
    assert part not in session
    session.add(part)
    session.commit()
    assert session.scalar(select(func.count(Part.id))) == 1


def test_an_orphan_is_none_any_more(session: Session) -> None:
    """Once it has a row, it doesn't matter which owner it was removed from before."""
    part = Part(name="x")
    Owner(parts=[part]).parts.remove(part)
    create(session, part)
    session.rollback()
    session.add(part)
    session.commit()
    assert session.scalar(select(func.count(Part.id))) == 1


def test_listeners_of_the_session_are_called_for_each(session: Session) -> None:
    """In the order of a flush, for each instance; without listeners nothing is called."""
    received: list[Any] = []

    def listen(name: str) -> None:
        event.listen(session, name, lambda _session, thing: received.append((name, thing)))

    names = ["before_attach", "after_attach", "transient_to_pending", "pending_to_persistent"]
    for name in names:
        listen(name)
    one, two = create(session, Part(name="1"), Part(name="2"))
    of_one = [name for name, thing in received if thing in (one, inspect(one))]
    of_two = [name for name, thing in received if thing in (two, inspect(two))]
    assert of_one == of_two == names


def test_rows_are_read_by_keys_in_another_case(session: Session) -> None:
    """Each under the key that was asked for, if the database finds it by that key."""
    labels = create(session, *(Label(code=each, note=each * 2) for each in ("a", "b", "c")))
    wanted = dict(zip([("A",), ("b",), ("x",)], labels, strict=True))
    found = read_rows(session, inspect(Label), ["note"], wanted)
    if session.get_bind().dialect.name == "postgresql":
        assert found == {("b",): ("bb",)}
    else:
        assert found == {("A",): ("aa",), ("b",): ("bb",)}

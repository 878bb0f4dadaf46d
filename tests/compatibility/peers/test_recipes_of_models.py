"""SQLAlchemy's ways of shaping a class beside our receivers: what they are sent, and what they may set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from kit.peers.recipes import SentLines, Twin
from sqlalchemy import DDL, JSON, FetchedValue, ForeignKey, String, event, func, select
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.mutable import MutableComposite, MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    attribute_keyed_dict,
    column_property,
    composite,
    mapped_column,
    relationship,
    validates,
)

from aksara_signals import post_delete, post_save, pre_save
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


# -- validators and hybrids -------------------------------------------------------------------------


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    first: Mapped[str]
    last: Mapped[str] = mapped_column()
    email: Mapped[str | None]
    shout = column_property(func.upper(last, type_=String))

    @validates("email")
    def lower_and_check(self, key: str, value: str | None) -> str | None:
        if value is not None and "@" not in value:
            raise ValueError(f"no address: {value}")
        return value and value.lower()

    @hybrid_property
    def name(self) -> str:
        return f"{self.first} {self.last}"

    @name.inplace.setter
    def _set_name(self, value: str) -> None:
        self.first, self.last = value.split()

    @name.inplace.expression
    @classmethod
    def _name(cls) -> Any:
        return cls.first + " " + cls.last


async def test_validators_see_what_receivers_set(twin: Twin) -> None:
    """Each value passes them once, be it set by the application or by a receiver."""

    async def fill(instance: Any, **kwargs: Any) -> None:
        if instance.email is None:
            instance.email = f"{instance.first}@EXAMPLE.ORG"

    pre_save.connect(fill, sender=Person)
    sent = SentLines(post_save)
    await twin.save(Person(first="ann", last="bell", email=None))
    assert sent.changes[-1]["email"] == (None, "ann@example.org")


async def test_a_validator_that_refuses_a_receiver(twin: Twin) -> None:
    """Its error is the receiver's, fails the flush, and leaves nothing behind."""

    async def spoil(instance: Any, **kwargs: Any) -> None:
        instance.email = "nowhere"

    pre_save.connect(spoil, sender=Person)
    twin.session.add(Person(first="ann", last="bell"))
    with pytest.raises(ValueError, match="no address"):
        await twin.commit()
    await twin.rollback()
    assert await twin.all(select(Person.id)) == []


async def test_hybrids_are_sent_as_their_columns(twin: Twin) -> None:
    """They can be set, created with and filtered by; changes names what is written."""
    sent = SentLines(post_save)
    person = await Person.objects.create(session=twin.session, name="ann bell")
    assert person.name == "ann bell"
    assert sent.changes[-1] == {"id": (None, 1), "first": (None, "ann"), "last": (None, "bell")}
    await person.update(session=twin.session, name="ann dell")
    assert sent.changes[-1] == {"last": ("bell", "dell")}
    assert await Person.objects.filter(name="ann dell").count(session=twin.session) == 1
    await twin.commit()
    await twin.refresh(person)
    assert person.shout == "DELL"  # a column_property, which is no change


# -- composites and values that change in place -----------------------------------------------------


@dataclass
class Span(MutableComposite):
    start: int
    end: int

    def __setattr__(self, key: str, value: Any) -> None:
        object.__setattr__(self, key, value)
        self.changed()


class Booking(Base):
    __tablename__ = "booking"
    id: Mapped[int] = mapped_column(primary_key=True)
    span: Mapped[Span] = composite(mapped_column("start"), mapped_column("end"))
    extra: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON))


async def test_a_change_in_place_is_sent_with_the_old_value(twin: Twin) -> None:
    """A dict that changed in place says nothing of what it was: that is read from the table."""
    sent = SentLines(pre_save, post_save)
    booking = Booking(span=Span(1, 2), extra={"paid": False})
    await twin.save(booking)
    sent.taken()
    booking.extra["paid"] = True
    await twin.flush()
    expected = {"extra": ({"paid": False}, {"paid": True})}
    assert sent.changes == [expected, expected]


async def test_a_composite_is_sent_as_its_columns(twin: Twin) -> None:
    """Replaced or changed in place, once, with what its columns were."""
    sent = SentLines(post_save)
    booking = Booking(span=Span(1, 2), extra={})
    await twin.save(booking)
    assert sent.taken() == ["post_save Booking created"]
    booking.span = Span(1, 5)
    await twin.flush()
    [changes] = sent.changes
    assert [*changes.values()] == [(2, 5)]
    sent.taken()
    booking.span.start = 0
    await twin.flush()
    [changes] = sent.changes
    assert [*changes.values()] == [(1, 0)]
    assert sent.taken() == ["post_save Booking"]


# -- attributes as rows -----------------------------------------------------------------------------


class Animal(Base):
    __tablename__ = "animal"
    id: Mapped[int] = mapped_column(primary_key=True)
    facts: Mapped[dict[str, Fact]] = relationship(
        collection_class=attribute_keyed_dict("key"), cascade="all, delete-orphan", lazy="selectin"
    )
    values: AssociationProxy[dict[str, str]] = association_proxy(
        "facts", "value", creator=lambda key, value: Fact(key=key, value=value)
    )


class Fact(Base):
    __tablename__ = "fact"
    animal_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


async def test_vertical_attributes(twin: Twin) -> None:
    """Each item of the dict is a row, sent once: made, changed and taken out."""
    animal = Animal()
    animal.values["legs"] = "4"
    sent = SentLines(post_save, post_delete)
    twin.session.add(animal)
    await twin.flush()
    assert sorted(sent.taken()) == ["post_save Animal created", "post_save Fact created"]
    animal.values["legs"] = "3"
    animal.values["mood"] = "bad"
    await twin.flush()
    assert {"value": ("4", "3")} in sent.changes
    assert sorted(sent.taken()) == ["post_save Fact", "post_save Fact created"]
    del animal.values["legs"]
    await twin.flush()
    assert sent.taken() == ["post_delete Fact"]
    await twin.commit()
    assert await twin.all(select(Fact.key)) == [("mood",)]


# -- what the database works out --------------------------------------------------------------------


class Ticket(Base):
    """A trigger writes its code."""

    __tablename__ = "ticket"
    __mapper_args__ = {"eager_defaults": False}
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    code: Mapped[str | None] = mapped_column(
        server_default=FetchedValue(), server_onupdate=FetchedValue()
    )


class EagerTicket(Base):
    """The same, whose code SQLAlchemy fetches with the flush."""

    __tablename__ = "eager_ticket"
    __mapper_args__ = {"eager_defaults": True}
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    code: Mapped[str | None] = mapped_column(
        server_default=FetchedValue(), server_onupdate=FetchedValue()
    )


TRIGGERS = {
    "sqlite": [
        f"""CREATE TRIGGER %(table)s_{verb} AFTER {verb} ON %(table)s BEGIN
        UPDATE %(table)s SET code = NEW.title || '!' WHERE id = NEW.id; END"""
        for verb in ("insert", "update")
    ],
    "postgresql": [
        """CREATE OR REPLACE FUNCTION set_code() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.code := NEW.title || '!'; RETURN NEW; END $$""",
        """CREATE TRIGGER %(table)s_code BEFORE INSERT OR UPDATE ON %(table)s
        FOR EACH ROW EXECUTE FUNCTION set_code()""",
    ],
}
for each_table in (Ticket.__table__, EagerTicket.__table__):
    for each_dialect, each_statements in TRIGGERS.items():
        for each_statement in each_statements:
            ddl = DDL(each_statement).execute_if(dialect=each_dialect)
            event.listen(each_table, "after_create", ddl)


async def test_what_a_trigger_writes_is_there(twin: Twin) -> None:
    """An async receiver reads it, after the INSERT and after the UPDATE."""
    seen: list[Any] = []

    async def look(instance: Any, **kwargs: Any) -> None:
        seen.append((type(instance), instance.code))

    classes: list[Any] = [Ticket]
    # RETURNING gives SQLite's rows as they are before their triggers run.
    if twin.plain.get_bind().dialect.name != "sqlite":
        classes.append(EagerTicket)
    post_save.connect(look, sender=classes)
    for cls in classes:
        ticket = cls(title="a")
        await twin.save(ticket)
        ticket.title = "b"
        await twin.commit()
    assert seen == [(cls, code) for cls in classes for code in ("a!", "b!")]

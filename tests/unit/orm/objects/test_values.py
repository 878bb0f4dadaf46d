"""Values, keys and criteria that can't be right are refused in words, and natural ones are taken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit import databases
from sqlalchemy import JSON, ForeignKey, String, TypeDecorator, select
from sqlalchemy.exc import NoResultFound
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    WriteOnlyMapped,
    attribute_keyed_dict,
    mapped_column,
    relationship,
)

from aksara_signals import InvalidOptionError, UnknownFieldError, UnmappedClassError
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Words(TypeDecorator[list[str]]):
    """A list in one string."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else " ".join(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value.split()


OVERLAPS = "things,by_label,some,unread,queried,owner"


class Owner(Base):
    __tablename__ = "values_owner"

    id: Mapped[int] = mapped_column(primary_key=True)
    things: Mapped[list[Thing]] = relationship(back_populates="owner", overlaps=OVERLAPS)
    by_label: Mapped[dict[str, Thing]] = relationship(
        collection_class=attribute_keyed_dict("label"), overlaps=OVERLAPS
    )
    some: Mapped[set[Thing]] = relationship(overlaps=OVERLAPS)
    unread: WriteOnlyMapped[Thing] = relationship(overlaps=OVERLAPS)
    queried: DynamicMapped[Thing] = relationship(overlaps=OVERLAPS)


class Thing(Base):
    __tablename__ = "values_thing"

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str | None]
    words: Mapped[list[str] | None] = mapped_column(Words)
    data: Mapped[Any | None] = mapped_column(JSON)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("values_owner.id"))
    owner: Mapped[Owner | None] = relationship(back_populates="things", overlaps=OVERLAPS)


class Own(Base):
    __tablename__ = "values_own"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("values_owner.id"))
    owner: Mapped[Owner | None] = relationship()

    def __init__(self, owner: int) -> None:
        self.owner_id = owner


class Abstract(Base):
    __abstract__ = True


class Seat(Base):
    __tablename__ = "values_seat"

    row: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture(autouse=True)
async def maker(async_engine: AsyncEngine) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Models bound to sessions on a database with empty tables."""
    async with databases.bound(Base, async_engine) as maker:
        yield maker


def function() -> int:
    return 3


# -- keys -----------------------------------------------------------------------------------------


async def test_a_key_may_be_a_dict_as_for_a_session() -> None:
    """``Session.get()`` takes it, too."""
    thing = await Thing.objects.create(label="a")
    seat = await Seat.objects.create(row=1, number=2)
    for key in (thing.id, (thing.id,), {"id": thing.id}):
        assert (await Thing.objects.get(key)).label == "a"
        assert (await Thing.objects.get(pk=key)).label == "a"
    for two in ((1, 2), {"number": 2, "row": 1}):
        assert (await Seat.objects.get(two)).row == seat.row
    with pytest.raises(UnknownFieldError, match="by the names 'row', and the primary key"):
        await Seat.objects.get({"row": 1})
    with pytest.raises(InvalidOptionError, match="the column holds one value"):
        await Thing.objects.get([1])


@pytest.mark.parametrize("make", [lambda: {1}, lambda: iter([1]), lambda: Thing, lambda: function])
async def test_what_can_be_no_key_is_refused(make: Any) -> None:
    """By position and as ``pk=``."""
    for queries in (Thing.objects, Thing.objects.filter(label="a")):
        for verb in (queries.get, queries.get_or_none):
            with pytest.raises(InvalidOptionError, match=r"Thing is id=.*, and the column "):
                await verb(make())
            with pytest.raises(InvalidOptionError, match=r"Thing is id=.*, and the column "):
                await verb(pk=make())


async def test_a_session_goes_into_session(maker: Any) -> None:
    """``get(session, 5)`` says where it goes."""
    async with maker() as session:
        with pytest.raises(InvalidOptionError, match=r"get\(5, session=session\)"):
            await Thing.objects.get(session, 5)
        with pytest.raises(InvalidOptionError, match="takes a list of instances"):
            await Thing.objects.bulk_create(session)


# -- criteria -------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [[1, 2], (1, 2), {1}, frozenset({1}), {1: 2}.keys()])
async def test_a_column_is_not_compared_with_several_values(several: Any) -> None:
    """in_() is named; the database would complain of a type, or find nothing."""
    for make in (Thing.objects.filter, Thing.objects.get, Thing.objects.get_or_create):
        with pytest.raises(InvalidOptionError, match=r"write \.owner_id\.in_\(\[…\]\)"):
            result: Any = make(owner_id=several)
            await result


async def test_a_column_may_hold_a_list() -> None:
    """JSON, and types of the user's own."""
    await Thing.objects.create(label="a", words=["b", "c"], data=[1])
    assert (await Thing.objects.get(words=["b", "c"])).data == [1]
    assert await Thing.objects.filter(label=None).count() == 0
    assert await Thing.objects.filter(id=select(Thing.id).scalar_subquery()).count() == 1
    with pytest.raises(NoResultFound):
        await Thing.objects.get(id=-1)


async def test_an_instance_is_compared_with_a_relationship_only() -> None:
    """And a relationship with an instance of its class."""
    owner = await Owner.objects.create()
    thing = await Thing.objects.create(owner_id=owner.id)
    assert (await Thing.objects.get(owner=owner)).id == thing.id
    for equals, words in (
        ({"owner_id": owner}, "give its key, or name the relationship"),
        ({"id": thing}, "give its key"),
        ({"owner": owner.id}, "to search by a key, name its foreign key"),
        ({"owner": thing}, "an instance of .*Owner"),
    ):
        with pytest.raises(InvalidOptionError, match=words):
            Thing.objects.filter(**equals)
    for value in (thing, [thing], []):
        with pytest.raises(InvalidOptionError, match="contains"):
            Owner.objects.filter(things=value)


def test_tables_and_statements_are_no_criteria() -> None:
    """Nor is a relationship an order."""
    for given in (Thing.__table__, select(Thing), select(Thing).subquery()):
        with pytest.raises(InvalidOptionError, match="returns rows and is not a condition"):
            Thing.objects.filter(given)
        with pytest.raises(InvalidOptionError, match="order_by"):
            Thing.objects.order_by(given)
    with pytest.raises(UnknownFieldError, match="'owner', which is a relationship"):
        Thing.objects.order_by(Thing.owner)
    Thing.objects.filter(select(Thing.id).exists()).order_by(select(Thing.id).scalar_subquery())


# -- what is set ----------------------------------------------------------------------------------


async def test_a_relationship_takes_its_own_class_and_kind_of_collection() -> None:
    """SQLAlchemy would fail in the midst of its events; nothing is set."""
    owner = await Owner.objects.create()
    thing = await Thing.objects.create(label="a")
    with pytest.raises(InvalidOptionError, match="None or an instance of"):
        await thing.update(label="b", owner=thing)
    for name, value, kind in (
        ("things", [3], "list"),
        ("things", [owner], "list"),
        ("things", (thing,), "list"),
        ("things", {"a": thing}, "list"),
        ("by_label", [thing], "dict"),
        ("by_label", {"a": 3}, "dict"),
        ("some", [thing], "set"),
        ("queried", [3], "list"),
    ):
        with pytest.raises(InvalidOptionError, match=f"a collection of .*Thing: a {kind} of"):
            await owner.update(**{name: value})
    with pytest.raises(InvalidOptionError, match=r"related\('unread'\)"):
        await owner.update(unread=[thing])
    assert thing.label == "a"
    await owner.update(things=[thing])
    assert (await Thing.objects.get(thing.id)).owner_id == owner.id


async def test_an_instance_is_not_made_of_what_a_relationship_cannot_take() -> None:
    """Unless its constructor is of the user's own, which may make of it what it likes."""
    thing = await Thing.objects.create(label="a")
    for make, operation in (
        (Thing.objects.create, "create"),
        (lambda **values: Thing.objects.get_or_create(values, label="new"), "get_or_create"),
    ):
        for owner in (3, thing):
            with pytest.raises(InvalidOptionError, match=rf"^{operation}\(\) was given owner="):
                await make(owner=owner)
        with pytest.raises(InvalidOptionError, match="give its key"):
            await make(owner_id=thing)
    for many in (3, thing, [3], None):
        with pytest.raises(InvalidOptionError, match="a list of instances"):
            await Owner.objects.create(things=many)
    owner = await Owner.objects.create(things=[thing])
    assert (await Own.objects.create(owner=owner.id)).owner_id == owner.id


async def test_an_instance_of_a_class_that_is_not_mapped_is_not_written() -> None:
    """An abstract class, or a model of SQLModel's without a table."""
    abstract: Any = Abstract()
    for write in (
        abstract.save,
        lambda: abstract.update(label="a"),
        abstract.delete,
    ):
        with pytest.raises(UnmappedClassError, match="Abstract is not mapped"):
            await write()
    with pytest.raises(UnmappedClassError, match="Abstract is not mapped"):
        abstract.related("things")


async def test_a_column_is_not_set_to_an_instance() -> None:
    """A foreign key takes the key, the relationship the instance."""
    owner = await Owner.objects.create()
    thing = await Thing.objects.create(label="a")
    for given in (owner, thing):
        for write in (
            thing.update,
            Thing.objects.update,
            Thing.objects.with_signals().update,
        ):
            with pytest.raises(InvalidOptionError, match="give its key, or name the relationship"):
                await write(owner_id=given)
    for code in (Owner, function):
        with pytest.raises(InvalidOptionError, match="the column takes a value"):
            await Thing.objects.update(label=code)


async def test_names_are_shortened_and_none_is_pythons_own() -> None:
    """However long they are."""
    thing = await Thing.objects.create(label="a")
    name = "hunter2-" * 500
    for write in (thing.update, Thing.objects.update, Thing.objects.with_signals().update):
        with pytest.raises(UnknownFieldError) as error:
            await write(**{name: 1})
        assert len(str(error.value)) < 300
    with pytest.raises(UnknownFieldError) as error:
        Thing.objects.filter(**{name: 1})
    assert len(str(error.value)) < 300
    with pytest.raises(UnknownFieldError, match="'__class__', which is not an attribute"):
        await thing.update(__class__=Owner)


async def test_a_dict_is_no_list_of_names_or_instances() -> None:
    """It would look as if its values were written."""
    thing = await Thing.objects.create(label="a")
    with pytest.raises(InvalidOptionError, match=r"give them to update\(name=value\)"):
        await thing.save(update_fields={"label": "b"})
    with pytest.raises(InvalidOptionError, match="takes names only"):
        await Thing.objects.bulk_update([thing], fields={"label": "b"})
    for given in ({}, {Thing(): 1}, "", b""):
        with pytest.raises(InvalidOptionError, match="takes a list of instances"):
            await Thing.objects.bulk_create(given)  # type: ignore[arg-type]
        with pytest.raises(InvalidOptionError, match="takes a list of instances"):
            await Thing.objects.bulk_update(given, fields=["label"])  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match="session= was given <dict object>"):
        await Thing.objects.update({"label": "b"})  # type: ignore[arg-type]

"""Natural spellings of models, managers and query sets that are taken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit import databases
from kit.support import Recorder
from sqlalchemy import ForeignKey, String, update
from sqlalchemy.exc import NoResultFound
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    composite,
    mapped_column,
    relationship,
    synonym,
)

from aksara_signals import (
    InstanceStateError,
    InvalidOptionError,
    InvalidReceiverError,
    NoSessionError,
    UnknownFieldError,
    post_bulk_update,
    post_save,
    pre_bulk_update,
    pre_save,
)
from aksara_signals.orm import SignalMixin, on_commit, on_rollback, session_scope


class Base(SignalMixin, DeclarativeBase):
    pass


class Place:
    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def __composite_values__(self) -> tuple[int, int]:
        return self.x, self.y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and (other.x, other.y) == (self.x, self.y)

    __hash__ = None


class Owner(Base):
    __tablename__ = "owner"

    id: Mapped[int] = mapped_column(primary_key=True)
    things: Mapped[list[Thing]] = relationship(back_populates="owner")
    card: Mapped[Card | None] = relationship()


class Card(Base):
    __tablename__ = "card"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("owner.id"))


class Thing(Base):
    __tablename__ = "thing"

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str | None]
    note: Mapped[str | None]
    x: Mapped[int] = mapped_column(default=0)
    y: Mapped[int] = mapped_column(default=0)
    place: Mapped[Place] = composite("x", "y")
    raw: Mapped[str | None] = mapped_column(String)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("owner.id"))
    owner: Mapped[Owner | None] = relationship(back_populates="things")
    title = synonym("label")
    heading = synonym("title")

    @hybrid_property
    def loud(self) -> str | None:
        return self.raw

    @loud.inplace.setter
    def _set_loud(self, value: str) -> None:
        self.raw = value.upper()

    @property
    def nick(self) -> str | None:
        return self.note

    @nick.setter
    def nick(self, value: str) -> None:
        self.note = value


class Seat(Base):
    __tablename__ = "seat"

    row: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture(autouse=True)
async def maker(async_engine: AsyncEngine) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Models bound to sessions on a database with empty tables."""
    async with databases.bound(Base, async_engine) as maker:
        yield maker


# -- keys and verbs -------------------------------------------------------------------------------


async def test_get_takes_a_primary_key() -> None:
    """One value, or a tuple where the key has several columns; criteria may follow."""
    thing = await Thing.objects.create(label="a")
    seat = await Seat.objects.create(row=1, number=2)
    for queries in (Thing.objects, Thing.query, Thing.objects.filter(label="a")):
        assert (await queries.get(thing.id)).id == thing.id
        assert (await queries.get_or_none(thing.id)).id == thing.id
        assert await queries.get_or_none(thing.id + 1) is None
        assert (await queries.get((thing.id,))).label == "a"
        assert (await queries.get(thing.id, Thing.label == "a")).label == "a"
        assert await queries.get_or_none(thing.id, Thing.label == "b") is None
        assert await queries.get_or_none(thing.id, label="b") is None
    assert (await Seat.objects.get((1, 2))).row == seat.row
    with pytest.raises(UnknownFieldError, match="row, number; give a tuple"):
        await Seat.objects.get(1)
    with pytest.raises(NoResultFound):
        await Thing.objects.get(None)


async def test_a_manager_writes_and_orders_without_a_filter(recorder: Recorder) -> None:
    """update, delete, with_signals, order_by and limit are on objects and query, too."""
    for label in "ab":
        await Thing.objects.create(label=label)
    recorder.record(post_save, Thing)
    assert await Thing.objects.update(note="n") == 2
    assert recorder.names == []
    assert await Thing.query.with_signals().update(note="m") == 2
    assert recorder.names == ["post_save"] * 2
    assert await Thing.query.with_signals().with_signals(False).update(note="l") == 2
    assert await Thing.query.with_signals(False).update(note="k") == 2
    assert recorder.names == ["post_save"] * 2
    assert [each.label for each in await Thing.objects.order_by("-label").all()] == ["b", "a"]
    ordered = Thing.objects.order_by("-label").order_by()
    assert ordered.order == ()
    assert [each.label for each in await Thing.objects.limit(1).order_by("label").all()] == ["a"]
    assert await Thing.objects.delete() == 2
    assert await Thing.query.count() == 0


async def test_a_limit_holds_for_the_verbs_that_choose_one() -> None:
    """get() and first() look no further than the limit."""
    for label in "ab":
        await Thing.objects.create(label=label)
    assert (await Thing.objects.order_by("label").limit(1).get()).label == "a"
    assert await Thing.objects.limit(0).first() is None
    assert (await Thing.objects.limit(5).first()).label == "a"


# -- attributes as names --------------------------------------------------------------------------


async def test_attributes_are_taken_for_names(recorder: Recorder) -> None:
    """Thing.label for "label", in update_fields, fields and related()."""
    recorder.record(post_save, Thing)
    recorder.record(post_bulk_update, Thing)
    thing = await Thing.objects.create(label="a", note="a")
    recorder.clear()
    thing.label = thing.note = "b"
    await thing.save(update_fields=[Thing.label])
    assert recorder.calls[-1].payload["update_fields"] == frozenset({"label"})
    await Thing.objects.bulk_update([thing], [Thing.note])
    assert recorder.calls[-1].payload["fields"] == frozenset({"note"})
    owner = await Owner.objects.create()
    await owner.related(Owner.things).add(each for each in [thing, thing])
    assert (await Thing.objects.get(owner=owner)).note == "b"


def test_attributes_of_other_classes_are_refused() -> None:
    """They are named with their class."""
    with pytest.raises(UnknownFieldError, match=r"related\(\) was given Thing\.owner"):
        Owner().related(Thing.owner)
    Owner().related(aliased(Owner).things)


# -- what is written ------------------------------------------------------------------------------


async def test_update_sets_attributes_of_every_kind(maker: Any) -> None:
    """Columns, composites, synonyms, relationships, hybrids and properties with a setter."""
    owner = await Owner.objects.create()
    thing = await Thing.objects.create(label="a")
    key, owner_id = thing.id, owner.id
    async with maker.begin() as session:
        await thing.update(
            session=session,
            place=Place(1, 2),
            heading="b",
            owner=owner,
            loud="c",
            nick="d",
        )
    found = await Thing.objects.get(key)
    assert (found.x, found.y, found.label, found.owner_id) == (1, 2, "b", owner_id)
    assert (found.raw, found.note) == ("C", "d")
    async with maker.begin() as session:
        await (
            Thing.objects.filter(id=key)
            .with_signals()
            .update(session=session, place=Place(3, 4), loud="e", owner=None)
        )
    found = await Thing.objects.get(key)
    assert (found.place, found.raw, found.owner_id) == (Place(3, 4), "E", None)


async def test_one_statement_writes_composites_and_synonyms() -> None:
    """What SQLAlchemy can put into an UPDATE may be named."""
    thing = await Thing.objects.create(label="a")
    assert await Thing.objects.update(place=Place(1, 2), heading="b") == 1
    found = await Thing.objects.get(thing.id)
    assert (found.place, found.label) == (Place(1, 2), "b")
    with pytest.raises(UnknownFieldError, match="not a column"):
        await Thing.objects.update(loud="c")


async def test_bulk_update_without_fields_writes_whatever_was_changed(
    maker: Any, recorder: Recorder, async_engine: AsyncEngine
) -> None:
    """Of each instance what it has changed; one that has changed nothing is left alone."""
    for signal in (pre_bulk_update, post_bulk_update):
        recorder.record(signal, Thing)
    one, two, three = [await Thing.objects.create(label=each, note=each) for each in "abc"]
    one.label, two.note, three.label = "A", "B", three.label
    await Thing.objects.update(note="elsewhere")
    assert await Thing.objects.bulk_update([one, two, three]) == 2
    assert recorder.names == ["pre_bulk_update", "post_bulk_update"]
    assert recorder.calls[0].payload["fields"] == frozenset({"label", "note"})
    rows = [(each.label, each.note) for each in await Thing.objects.order_by("id").all()]
    assert rows == [("A", "elsewhere"), ("b", "B"), ("c", "elsewhere")]
    recorder.clear()
    assert await Thing.objects.bulk_update([one, two, three]) == 0
    assert await Thing.objects.bulk_update([]) == 0
    assert recorder.names == []
    async with maker.begin() as session:
        session.add(one)
        one.label = "new"
        await Thing.objects.bulk_update([one], session=session)

        assert one not in session.dirty


async def test_what_a_receiver_takes_back_is_not_written_without_fields() -> None:
    """What a pre receiver sets is written; what it sets back isn't changed any more."""
    one = await Thing.objects.create(label="a", note="a")

    @pre_bulk_update(Thing)
    def set_back(instances: list[Thing], **kwargs: Any) -> None:
        instances[0].label = "a"
        instances[0].raw = "set"

    one.label = "b"
    await Thing.objects.bulk_update([one])
    assert (await Thing.objects.get(one.id)).raw == "set"


async def test_bulk_update_without_fields_refuses_what_it_would_lose() -> None:
    """A changed key, a changed relationship: named, and no receiver is called."""
    called: list[Any] = []
    pre_bulk_update.connect(lambda **kwargs: called.append(kwargs), sender=Thing)
    owner = await Owner.objects.create()
    one, two = [await Thing.objects.create(label=each) for each in "ab"]
    two.label, one.id = "c", one.id + 100
    with pytest.raises(InstanceStateError, match="primary key 'id' was changed"):
        await Thing.objects.bulk_update([two, one])
    one = await Thing.objects.get(label="a")
    one.owner = owner
    with pytest.raises(InstanceStateError, match="relationship 'owner' was changed"):
        await Thing.objects.bulk_update([two, one])
    with pytest.raises(InstanceStateError, match="no row yet"):
        await Thing.objects.bulk_update([two, Thing()])
    assert called == []
    assert await Thing.objects.filter(label="c").count() == 0


# -- callbacks ------------------------------------------------------------------------------------


async def test_callbacks_in_a_receiver_need_no_session(maker: Any) -> None:
    """They belong to the transaction at work, savepoints included; None is as good as nothing."""
    called: list[str] = []

    @pre_save(Thing)
    async def before(instance: Thing, **kwargs: Any) -> None:
        label = instance.label
        on_commit(lambda: called.append(f"commit {label}"))
        on_rollback(lambda: called.append(f"rollback {label}"))

    @post_save(Thing)
    def after(instance: Thing, **kwargs: Any) -> None:
        label = instance.label
        on_commit(None, lambda: called.append(f"commit {label} after"))

    async with maker() as session:
        session.add(Thing(label="a"))
        await session.flush()
        savepoint = await session.begin_nested()
        session.add(Thing(label="b"))
        await session.flush()
        await savepoint.rollback()
        await session.commit()
    assert called == ["commit a", "commit a after", "rollback b"]


async def test_callbacks_find_the_session_of_a_scope(maker: Any) -> None:
    """As all that writes without a session does."""
    called: list[str] = []
    async with maker() as session, session_scope(session):
        on_commit(lambda: called.append("commit"))
        await session.execute(update(Thing).values(label="x"))
        await session.commit()
    assert called == ["commit"]


async def test_callbacks_without_any_session_are_refused(maker: Any) -> None:
    """Outside, in a concurrent receiver and after the commit: in words, with the ways out."""
    errors: list[str] = []

    def attempt(**kwargs: Any) -> None:
        for register in (on_commit, on_rollback):
            with pytest.raises(NoSessionError, match="pass the session first") as error:
                register(print)
            errors.append(str(error.value).split()[0])

    attempt()
    post_save.connect(attempt, sender=Thing, concurrent=True)
    post_save.connect(attempt, sender=Thing, phase="after_commit")
    await Thing.objects.create(label="a")
    assert errors == ["on_commit()", "on_rollback()"] * 3


async def test_a_callback_is_given_by_name(maker: Any) -> None:
    """With a session and, where one is at work, without."""
    called: list[str] = []
    async with maker() as session, session_scope(session):
        on_commit(callback=lambda: called.append("alone"))
        on_commit(session=session, callback=lambda: called.append("beside"))
        on_rollback(callback=lambda: called.append("never"))
        await session.execute(update(Thing).values(label="x"))
        await session.commit()
    assert called == ["alone", "beside"]
    with pytest.raises(InvalidReceiverError, match="given None"):
        on_commit()  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("callback", "words"),
    [
        (post_save, "is the signal post_save"),
        (post_save.send, "is the signal post_save, or a method of it"),
        (Thing, "is a mapped class, and would make an instance"),
        (list[int], "is a type annotation"),
        (async_sessionmaker(), "makes sessions"),
    ],
    ids=["signal", "send", "class", "annotation", "factory"],
)
def test_what_does_nothing_when_it_is_called_is_no_callback(callback: Any, words: str) -> None:
    """It would be called after the commit without any effect."""
    with Session() as session:
        for register in (on_commit, on_rollback):
            with pytest.raises(InvalidReceiverError, match=words):
                register(session, callback)


async def test_a_reference_to_one_takes_one() -> None:
    """Of several, all but the last would be lost."""
    owner, card = await Owner.objects.create(), Card()
    for verb in ("add", "set", "remove"):
        with pytest.raises(InvalidOptionError, match="given 2 instances; it refers to one"):
            await getattr(owner.related("card"), verb)(card, Card())
    await owner.related("card").set(card, card)
    await owner.related("card").set([])

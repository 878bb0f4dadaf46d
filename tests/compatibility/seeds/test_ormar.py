"""ormar's page on signals, on SQLAlchemy models (000)."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from kit.support import Recorder
from sqlalchemy import ForeignKey, inspect
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from aksara_signals import (
    InvalidReceiverError,
    Signal,
    UnknownSignalError,
    post_bulk_create,
    post_bulk_update,
    post_delete,
    post_relation_add,
    post_relation_remove,
    post_save,
    post_update,
    pre_delete,
    pre_relation_add,
    pre_relation_remove,
    pre_save,
    pre_update,
)
from aksara_signals.orm import SignalMixin

Sessions = async_sessionmaker[AsyncSession]


class Base(SignalMixin, DeclarativeBase):
    pass


class Disc(Base):
    __tablename__ = "disc"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    is_gold: Mapped[bool] = mapped_column(default=False)
    plays: Mapped[int] = mapped_column(default=0)
    tracks: Mapped[list[Track]] = relationship(back_populates="disc", order_by="Track.id")
    genres: Mapped[list[Genre]] = relationship(secondary="disc_genre")


class Track(Base):
    __tablename__ = "track"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    disc_id: Mapped[int | None] = mapped_column(ForeignKey("disc.id"))
    disc: Mapped[Disc | None] = relationship(back_populates="tracks")


class Genre(Base):
    __tablename__ = "genre"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class DiscGenre(Base):
    __tablename__ = "disc_genre"

    disc_id: Mapped[int] = mapped_column(ForeignKey("disc.id"), primary_key=True)
    genre_id: Mapped[int] = mapped_column(ForeignKey("genre.id"), primary_key=True)


class Protocol(Base):
    """The audit log of the example with a method."""

    __tablename__ = "protocol"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    text: Mapped[str]


# -- Defining receivers ---------------------------------------------------------------------------


@pytest.mark.shows("Defining receivers: a trigger on update", "pre_update")
async def test_a_trigger_that_sets_a_column(sessions: Sessions) -> None:
    """What a pre_update receiver sets is written; a creation is no update."""

    @pre_update(Disc)
    async def honour(sender: type, instance: Disc, **kwargs: Any) -> None:
        if instance.plays > 50:
            instance.is_gold = True

    disc = await Disc.objects.create(name="Lagoon", plays=99)
    assert not disc.is_gold
    disc.plays = 30
    await disc.update()
    assert not disc.is_gold
    disc.plays = 60
    await disc.update()
    assert disc.is_gold
    assert (await Disc.objects.get(pk=disc.id)).is_gold


@pytest.mark.shows("Defining receivers: what a receiver must be", "pre_update")
async def test_what_a_receiver_must_be(sessions: Sessions) -> None:
    """Callable, with sender first and **kwargs; async or not."""
    seen: list[str] = []

    @pre_update(Disc)
    async def waits(sender: type, instance: Disc, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        seen.append(f"waits for {sender.__name__}")

    @pre_update(Disc)
    def goes(sender: type, instance: Disc, **kwargs: Any) -> None:
        seen.append(f"goes for {sender.__name__}")

    with pytest.raises(InvalidReceiverError, match="kwargs"):
        pre_update(Disc)(lambda sender, instance: None)
    with pytest.raises(InvalidReceiverError):
        pre_update(Disc)("no function")
    disc = await Disc.objects.create(name="a")
    await disc.update(name="b")
    assert seen == ["waits for Disc", "goes for Disc"]


@pytest.mark.shows("Defining receivers: queries inside", "pre_update")
async def test_queries_run_inside_receivers(sessions: Sessions) -> None:
    """A receiver has instance and class at hand, and queries through the session at work."""
    counts: list[int] = []

    @pre_update(Disc)
    async def count(sender: Any, instance: Disc, **kwargs: Any) -> None:
        counts.append(await sender.objects.filter(name=instance.name).count())

    disc = await Disc.objects.create(name="a")
    await disc.update(plays=1)
    assert counts == [1]


@pytest.mark.shows("Defining receivers: receivers are defined on a class level", "pre_update")
async def test_receivers_belong_to_the_class(sessions: Sessions) -> None:
    """Connected through one instance, a receiver runs for all of them."""
    seen: list[str] = []

    async def watch(sender: type, instance: Disc, **kwargs: Any) -> None:
        seen.append(instance.name)

    one, two = await Disc.objects.bulk_create([Disc(name="one"), Disc(name="two")])
    one.signals.pre_update.connect(watch)
    await two.update(plays=1)
    assert seen == ["two"]
    one.signals.pre_update.disconnect(watch)
    await two.update(plays=2)
    assert seen == ["two"]


@pytest.mark.shows("Defining receivers: a list of models", "pre_update")
async def test_one_receiver_for_a_list_of_models(sessions: Sessions) -> None:
    """A decorator takes a list."""
    seen: list[str] = []

    @pre_update([Disc, Track])
    async def watch(sender: type, instance: Any, **kwargs: Any) -> None:
        seen.append(f"{sender.__name__} {instance.name}")

    for model in (Disc, Track, Genre):
        instance = await model.objects.create(name="old")
        await instance.update(name="new")
    assert seen == ["Disc new", "Track new"]


@pytest.mark.shows("Defining receivers: several for one model", "pre_update")
async def test_several_receivers_for_one_model(sessions: Sessions) -> None:
    """Each of them runs, in the order of connection; inspect() knows the key."""
    seen: list[str] = []

    @pre_update(Disc)
    async def first(sender: Any, instance: Disc, **kwargs: Any) -> None:
        seen.append(f"{sender.__tablename__}: {instance.name}")

    @pre_update(Disc)
    async def second(sender: Any, instance: Disc, **kwargs: Any) -> None:
        seen.append(f"{sender.__tablename__}: {inspect(instance).identity}")

    disc = await Disc.objects.create(id=3, name="a")
    await disc.update(name="b")
    assert seen == ["disc: b", "disc: (3,)"]


class Auditor:
    """The object whose method is a receiver."""

    kind = "DISC"

    async def before_save(self, sender: type, instance: Any, **kwargs: Any) -> None:
        await Protocol(kind=f"{self.kind} saved", text=instance.name).save()


CONNECT = {
    "decorator": pre_save(Disc),
    "Meta": Disc.Meta.signals.pre_save.connect,
    "instance": Disc(name="Any").signals.pre_save.connect,
}


@pytest.mark.parametrize("way", CONNECT)
@pytest.mark.shows("Defining receivers: methods, Meta.signals, instance.signals", "pre_save")
async def test_a_method_connected_in_any_way(sessions: Sessions, way: str) -> None:
    """A bound method is connected; what it saves goes with the row that it is sent for."""
    CONNECT[way](Auditor().before_save)
    gc.collect()  # the object is held by its connection
    await Disc.objects.create(name="Miami Nights")
    [entry] = await Protocol.objects.all()
    assert (entry.kind, entry.text) == ("DISC saved", "Miami Nights")


@pytest.mark.shows("Defining receivers: references are strong", "post_save")
async def test_receivers_are_held() -> None:
    """A receiver that nothing else refers to stays connected."""
    seen: list[Any] = []

    def connect() -> None:
        post_save.connect(lambda **kwargs: seen.append(kwargs["instance"]), sender=Disc)

    connect()
    gc.collect()
    await post_save.send(Disc, instance="here")
    assert seen == ["here"]


# -- Disconnecting the receivers ------------------------------------------------------------------


@pytest.mark.parametrize("way", ["Meta", "instance"])
@pytest.mark.shows("Disconnecting the receivers", "pre_update")
async def test_disconnecting_through_the_model(sessions: Sessions, way: str) -> None:
    """What a decorator connected is disconnected through Meta or an instance."""
    seen: list[str] = []

    @pre_update(Disc)
    async def watch(sender: type, instance: Disc, **kwargs: Any) -> None:
        seen.append(instance.name)

    disc = await Disc.objects.create(name="a")
    await disc.update(name="b")
    emitter = Disc.Meta.signals if way == "Meta" else disc.signals
    assert emitter.pre_update.disconnect(watch)
    await disc.update(name="c")
    assert seen == ["b"]


# -- Available signals ----------------------------------------------------------------------------


@pytest.mark.shows("Available signals: silent operations", "post_save")
async def test_bulk_operations_and_queries_send_nothing_per_instance(
    sessions: Sessions, recorder: Recorder
) -> None:
    """Neither bulk operations nor statements over a query send signals of single instances."""
    for signal in (pre_save, post_save, pre_update, post_update, pre_delete, post_delete):
        recorder.record(signal)
    discs = await Disc.objects.bulk_create([Disc(name="a"), Disc(name="b")])
    discs[0].plays = 5
    await Disc.objects.bulk_update(discs, ["plays"])
    await Disc.objects.filter(name="a").update(plays=6)
    await Disc.objects.filter(name="a").delete()
    assert recorder.calls == []
    await Disc.objects.create(name="c")
    assert recorder.names == ["pre_save", "post_save"]


@pytest.mark.shows("Available signals: pre_save, post_save", "pre_save", "post_save")
async def test_saving_and_creating_are_sent(sessions: Sessions, recorder: Recorder) -> None:
    """By save() and by objects.create(), with sender and instance."""
    recorder.record(pre_save, Disc, created=True)
    recorder.record(post_save, Disc, created=True)
    created = await Disc.objects.create(name="created")
    saved = Disc(name="saved")
    await saved.save()
    assert [(c.signal, c.sender, c.payload["instance"]) for c in recorder.calls] == [
        ("pre_save", Disc, created),
        ("post_save", Disc, created),
        ("pre_save", Disc, saved),
        ("post_save", Disc, saved),
    ]


@pytest.mark.shows("Available signals: pre_update, post_update", "pre_update", "post_update")
async def test_updating_is_sent(sessions: Sessions, recorder: Recorder) -> None:
    """By update(), before and after the row changes."""
    recorder.record(pre_update, Disc)
    recorder.record(post_update, Disc)
    disc = await Disc.objects.create(name="a")
    assert recorder.calls == []
    await disc.update(name="b")
    assert [(call.signal, call.sender, call.payload["instance"]) for call in recorder.calls] == [
        ("pre_update", Disc, disc),
        ("post_update", Disc, disc),
    ]


@pytest.mark.shows("Available signals: pre_delete, post_delete", "pre_delete", "post_delete")
async def test_deleting_is_sent(sessions: Sessions, recorder: Recorder) -> None:
    """By delete(), before and after the row is gone (the text's descriptions are exchanged)."""
    recorder.record(pre_delete, Disc)
    recorder.record(post_delete, Disc)
    disc = await Disc.objects.create(name="a")
    await disc.delete()
    assert [(call.signal, call.sender, call.payload["instance"]) for call in recorder.calls] == [
        ("pre_delete", Disc, disc),
        ("post_delete", Disc, disc),
    ]


RELATED = {
    "genres": (Genre, "many to many"),
    "tracks": (Track, "the reverse side of a foreign key"),
}


@pytest.mark.parametrize("name", RELATED)
@pytest.mark.shows(
    "Available signals: pre_relation_add, post_relation_add",
    "pre_relation_add",
    "post_relation_add",
)
async def test_additions_to_a_relation_are_sent(
    sessions: Sessions, recorder: Recorder, name: str
) -> None:
    """With the owner, the child, the relation's name and what add() was given besides."""
    recorder.record(pre_relation_add, Disc)
    recorder.record(post_relation_add, Disc)
    async with sessions() as session:
        disc, child = Disc(name="d"), RELATED[name][0](name="c")
        session.add_all([disc, child])
        await session.flush()
        await disc.related(name).add(child, reason="liked")
    expected = {
        "instance": disc,
        "child": child,
        "relation_name": name,
        "passed_args": {"reason": "liked"},
        "session": session,
    }
    assert [(call.signal, call.sender, call.payload) for call in recorder.calls] == [
        ("pre_relation_add", Disc, expected),
        ("post_relation_add", Disc, expected),
    ]


@pytest.mark.parametrize("name", RELATED)
@pytest.mark.shows(
    "Available signals: pre_relation_remove, post_relation_remove",
    "pre_relation_remove",
    "post_relation_remove",
)
async def test_removals_from_a_relation_are_sent(
    sessions: Sessions, recorder: Recorder, name: str
) -> None:
    """With the owner, the child and the relation's name."""
    recorder.record(pre_relation_remove, Disc)
    recorder.record(post_relation_remove, Disc)
    async with sessions() as session:
        child = RELATED[name][0](name="c")
        disc = Disc(name="d", **{name: [child]})
        session.add(disc)
        await session.flush()
        await disc.related(name).remove(child)
    assert [
        (
            call.signal,
            call.payload["instance"],
            call.payload["child"],
            call.payload["relation_name"],
        )
        for call in recorder.calls
    ] == [
        ("pre_relation_remove", disc, child, name),
        ("post_relation_remove", disc, child, name),
    ]


@pytest.mark.shows("Available signals: post_bulk_update", "post_bulk_update")
async def test_a_bulk_update_is_sent_once(sessions: Sessions, recorder: Recorder) -> None:
    """With all instances, once they are written."""
    recorder.record(post_bulk_update, Disc)
    discs = await Disc.objects.bulk_create([Disc(name="a"), Disc(name="b")])
    for disc in discs:
        disc.plays = 7
    await Disc.objects.bulk_update(discs, ["plays"])
    [call] = recorder.calls
    assert (call.sender, call.payload["instances"]) == (Disc, discs)
    assert {disc.plays for disc in await Disc.objects.all()} == {7}


# -- Defining your own signals --------------------------------------------------------------------


@pytest.mark.shows("Defining your own signals: assigned", "custom")
async def test_a_signal_assigned_to_a_model() -> None:
    """A Signal put on Meta.signals is connected to and sent from there, with arguments or none."""
    seen: list[Any] = []
    Disc.Meta.signals.on_repress = Signal()

    async def note(sender: type, **kwargs: Any) -> None:
        seen.append((sender, kwargs.get("copies")))

    Disc.Meta.signals.on_repress.connect(note)
    await Disc.Meta.signals.on_repress.send(sender=Disc)
    await Disc.Meta.signals.on_repress.send(sender=Disc, copies=500)
    assert seen == [(Disc, None), (Disc, 500)]


@pytest.mark.shows("Defining your own signals: made by the first access", "custom")
async def test_a_signal_made_by_its_first_access() -> None:
    """An unknown name becomes a signal; what nearly spells a built-in one is a slip."""
    seen: list[Any] = []

    async def note(sender: type, **kwargs: Any) -> None:
        seen.append((sender, kwargs["formats"]))

    Disc.Meta.signals.remastered.connect(note)
    await Disc(name="any").signals.remastered.send(sender=Disc, formats=["LP"])
    assert seen == [(Disc, ["LP"])]
    with pytest.raises(UnknownSignalError, match="post_save"):
        _ = Disc.Meta.signals.post_sav


@pytest.mark.shows("Defining your own signals: triggered by a subclass's methods", "custom")
async def test_a_subclass_triggers_a_signal_of_its_own(sessions: Sessions) -> None:
    """A model's own method sends where it sees fit."""
    seen: list[str] = []

    @Genre.signals.renamed.connect
    async def note(sender: type, instance: Genre, **kwargs: Any) -> None:
        seen.append(instance.name)

    async def rename(genre: Genre, name: str) -> None:
        await genre.update(name=name)
        await genre.signals.renamed.send(sender=Genre, instance=genre)

    await rename(await Genre.objects.create(name="Pop"), "Dream Pop")
    assert seen == ["Dream Pop"]


@pytest.mark.shows("Beyond the text: bulk creation is sent as well", "post_bulk_create")
async def test_a_bulk_creation_is_sent_once(sessions: Sessions, recorder: Recorder) -> None:
    """ormar is silent about bulk creation; here it is sent as a whole."""
    recorder.record(post_bulk_create, Disc)
    discs = await Disc.objects.bulk_create([Disc(name="a"), Disc(name="b")])
    assert [call.payload["instances"] for call in recorder.calls] == [discs]

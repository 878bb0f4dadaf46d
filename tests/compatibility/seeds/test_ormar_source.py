"""The source of ormar's page (001), on a plain Session: no event loop, receivers are functions.

The page itself is shown with an AsyncSession, in ``test_ormar``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kit.support import Recorder
from sqlalchemy import Column, Engine, ForeignKey, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from aksara_signals import (
    Signal,
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


class Base(SignalMixin, DeclarativeBase):
    pass


shelves = Table(
    "shelf",
    Base.metadata,
    Column("crate_id", ForeignKey("crate.id"), primary_key=True),
    Column("single_id", ForeignKey("single.id"), primary_key=True),
)


class Single(Base):
    __tablename__ = "single"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    is_hit: Mapped[bool] = mapped_column(default=False)
    plays: Mapped[int] = mapped_column(default=0)


class Crate(Base):
    __tablename__ = "crate"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    singles: Mapped[list[Single]] = relationship(secondary=shelves)


class Diary(Base):
    __tablename__ = "diary"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@pytest.fixture
def session(sync_engine: Engine) -> Iterator[Session]:
    """A plain session on empty tables."""
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        yield session


def saved(session: Session, instance: Any) -> Any:
    session.add(instance)
    session.commit()
    return instance


@pytest.mark.shows("Defining receivers: a trigger on update", "pre_update")
def test_a_trigger_on_update(session: Session) -> None:
    """A plain function sets a column before the row is written."""

    @pre_update(Single)
    def chart(sender: type, instance: Single, **kwargs: Any) -> None:
        instance.is_hit = instance.plays > 50

    single = saved(session, Single(name="a", plays=80))
    assert not single.is_hit
    for plays, is_hit in ((30, False), (60, True)):
        single.plays = plays
        session.commit()
        assert single.is_hit is is_hit


@pytest.mark.shows("Defining receivers: class level", "pre_update")
def test_an_instance_connects_its_class(session: Session) -> None:
    """Connecting and disconnecting through an instance concern all of them."""
    seen: list[str] = []

    def watch(sender: type, instance: Single, **kwargs: Any) -> None:
        seen.append(instance.name)

    one, two = saved(session, Single(name="1")), saved(session, Single(name="2"))
    one.signals.pre_update.connect(watch)
    two.plays = 1
    session.flush()
    two.signals.pre_update.disconnect(watch)
    one.plays = 1
    session.flush()
    assert seen == ["2"]


@pytest.mark.shows("Defining receivers: a list of models, several receivers", "pre_update")
def test_lists_of_models_and_of_receivers(session: Session) -> None:
    """One receiver is called for two models, two for one of them."""
    seen: list[str] = []

    @pre_update([Single, Crate])
    def both(sender: type, instance: Any, **kwargs: Any) -> None:
        seen.append(f"both {sender.__name__}")

    @pre_update(Single)
    def one(sender: type, instance: Any, **kwargs: Any) -> None:
        seen.append(f"one {sender.__name__}")

    for instance in (Single(name="s"), Crate(name="c"), Diary(text="d")):
        saved(session, instance)
        setattr(instance, "text" if isinstance(instance, Diary) else "name", "new")
        session.commit()
    assert seen == ["both Single", "one Single", "both Crate"]


class Chronicler:
    """Writes from a method."""

    def note(self, sender: type, instance: Any, session: Session, **kwargs: Any) -> None:
        session.add(Diary(text=f"{sender.__name__} {instance.name}"))


@pytest.mark.shows("Defining receivers: a method; disconnecting", "pre_save")
def test_a_method_is_connected_and_disconnected(session: Session) -> None:
    """What a method adds to the session is written by the same flush."""
    chronicler = Chronicler()
    pre_save(Single)(chronicler.note)
    saved(session, Single(name="received"))
    assert Single.Meta.signals.pre_save.disconnect(chronicler.note)
    saved(session, Single(name="silent"))
    assert [entry.text for entry in session.query(Diary)] == ["Single received"]


LIFE_CYCLE = {
    pre_save: ["create", "save"],
    post_save: ["create", "save"],
    pre_update: ["update"],
    post_update: ["update"],
    pre_delete: ["delete"],
    post_delete: ["delete"],
}


@pytest.mark.shows("Available signals: the signatures", *(signal.name for signal in LIFE_CYCLE))
def test_signatures_of_the_life_cycle(session: Session) -> None:
    """Each takes sender and instance by position, and is sent by the operations it names."""
    received: dict[Signal, list[str]] = {signal: [] for signal in LIFE_CYCLE}
    under_way = ""

    def receiver(sender: type, instance: Single, /, *, signal: Signal, **kwargs: Any) -> None:
        assert sender is Single
        assert isinstance(instance, Single)
        received[signal].append(under_way)

    for signal in LIFE_CYCLE:
        options = {"created": True} if signal in (pre_save, post_save) else {}
        signal.connect(receiver, sender=Single, **options)
    for under_way in ("create", "save"):
        single = saved(session, Single(name=under_way))
    under_way = "update"
    single.plays += 1
    session.commit()
    under_way = "delete"
    session.delete(single)
    session.commit()
    assert received == LIFE_CYCLE


@pytest.mark.shows(
    "Available signals: relations",
    "pre_relation_add",
    "post_relation_add",
    "pre_relation_remove",
    "post_relation_remove",
)
def test_signatures_of_relations(session: Session, recorder: Recorder) -> None:
    """Plain list operations are sent, with nothing passed besides."""
    for signal in (pre_relation_add, post_relation_add, pre_relation_remove, post_relation_remove):
        recorder.record(signal, Crate, sync=True)
    single, crate = Single(name="s"), Crate(name="c")
    session.add_all([single, crate])
    crate.singles.append(single)
    session.flush()
    crate.singles.remove(single)
    session.flush()
    payload = {
        "instance": crate,
        "child": single,
        "relation_name": "singles",
        "passed_args": {},
        "session": session,
    }
    assert [(call.signal, call.payload) for call in recorder.calls] == [
        ("pre_relation_add", payload),
        ("post_relation_add", payload),
        ("pre_relation_remove", payload),
        ("post_relation_remove", payload),
    ]


@pytest.mark.shows("Defining your own signals", "custom")
def test_signals_of_ones_own() -> None:
    """Assigned or made by access, sent with the sender alone or with arguments."""
    seen: list[Any] = []
    Single.Meta.signals.on_charted = Signal(providing_args=["place"])
    Single.Meta.signals.on_charted.connect(lambda **kwargs: seen.append(kwargs["place"]))
    Single.Meta.signals.withdrawn.connect(lambda **kwargs: seen.append(kwargs["sender"]))
    Single.Meta.signals.on_charted.send_sync(sender=Single, place=1)
    Single.Meta.signals.withdrawn.send_sync(sender=Single)
    assert seen == [1, Single]

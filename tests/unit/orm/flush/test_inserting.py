"""Flushes that only insert rows: which of them take the short way, and what takes them off it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, FetchedValue, ForeignKey, event, inspect
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from aksara_signals import (
    AksaraSignalsWarning,
    SignalContext,
    post_relation_add,
    post_save,
    pre_save,
    pre_update,
)
from aksara_signals.orm import SignalMixin
from aksara_signals.orm.flush.inserting import InsertRun
from aksara_signals.orm.flush.run import FlushRun


class Base(SignalMixin, DeclarativeBase):
    pass


class Brick(Base):
    __tablename__ = "brick"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    computed: Mapped[str | None] = mapped_column(server_default="computed")


class Tile(Base):
    __tablename__ = "tile"

    id: Mapped[int] = mapped_column(primary_key=True)


class Silent(Base):
    __tablename__ = "silent"

    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int | None] = mapped_column(server_default=FetchedValue())


class Wall(Base):
    __tablename__ = "wall"

    id: Mapped[int] = mapped_column(primary_key=True)
    stones: Mapped[list[Stone]] = relationship(back_populates="wall")


class Stone(Base):
    __tablename__ = "stone"

    id: Mapped[int] = mapped_column(primary_key=True)
    wall_id: Mapped[int | None] = mapped_column(ForeignKey("wall.id"))
    wall: Mapped[Wall | None] = relationship(back_populates="stones")


class Way:
    """What was sent, and by which way through the flush."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.sent: list[str] = []
        self.steps: list[str] = []

    def note(self, sender: type, instance: Any, signal: Any, **_: Any) -> None:
        """A receiver."""
        self.sent.append(f"{signal.name} {sender.__name__} {inspect(instance).dict.get('id')}")

    def flush(self, *instances: object) -> list[str]:
        """Add instances, flush, and return the steps of the way."""
        self.session.add_all(instances)
        self.steps.clear()
        self.session.flush()
        return self.steps


SHORT = ["short before", "short record", "short after"]
WHOLE = ["whole before", "whole record", "whole after"]


@pytest.fixture
def way(sync_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    """A session whose flushes are watched."""
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        way = Way(session)
        for name, run in (("short", InsertRun), ("whole", FlushRun)):
            for step in ("before", "record", "after"):
                _watch(run, step, f"{name} {step}", way, monkeypatch)
        for signal in (pre_save, post_save):
            for sender in (Brick, Tile):
                signal.connect(way.note, sender=sender)
        yield way


def _watch(run: type, step: str, text: str, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    method: Callable[..., Any] = getattr(run, step)

    def watched(self: Any, *positional: Any) -> Any:
        way.steps.append(text)
        return method(self, *positional)

    monkeypatch.setattr(run, step, watched)


def test_new_rows_take_the_short_way(way: Way) -> None:
    """Whatever other new rows there are; each class is sent in the order of its rows."""
    assert way.flush(Brick(id=1, text=""), Brick(id=2, text=""), Tile(id=3), Silent(id=4)) == SHORT
    assert way.sent == [
        *("pre_save Brick 1", "pre_save Brick 2", "pre_save Tile 3"),
        *("post_save Brick 1", "post_save Brick 2", "post_save Tile 3"),
    ]


@pytest.mark.parametrize("phase", ["after_commit", "after_rollback"])
def test_receivers_that_wait_are_no_reason_for_the_whole_way(way: Way, phase: str) -> None:
    """Rows are queued for them by either way."""
    waited: list[int] = []
    post_save.connect(lambda instance, **_: waited.append(instance.id), sender=Brick, phase=phase)
    assert way.flush(Brick(id=1, text=""), Tile(id=2), Brick(id=3, text="")) == SHORT
    assert waited == []
    way.session.commit() if phase == "after_commit" else way.session.rollback()
    assert waited == [1, 3]


def test_the_payload_is_that_of_every_flush(way: Way) -> None:
    """Each row has arguments of its own, as far as a receiver can see."""
    received: list[dict[str, Any]] = []
    for signal in (pre_save, post_save):
        signal.connect(lambda **given: received.append(given), sender=Brick)
    one, two = Brick(id=1, text=""), Brick(id=2, text="")
    assert way.flush(one, two) == SHORT
    shared = {
        "sender": Brick,
        "created": True,
        "update_fields": None,
        "session": way.session,
        "raw": False,
    }
    assert received == [
        {"instance": instance, "signal": signal, **shared}
        for signal in (pre_save, post_save)
        for instance in (one, two)
    ]


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("updates", {}),
        ("deletes", {}),
        ("a part", {}),
        ("requests", {}),
        ("links", {}),
        ("receivers of changes", {}),
        ("receivers of some changes", {"fields": ["text"]}),
        ("receivers of the net", {"phase": "after_commit", "coalesce": True}),
    ],
)
async def test_everything_else_takes_the_whole_way(
    way: Way, what: str, options: dict[str, Any]
) -> None:
    """Other changes, and receivers that are given more than the instance, or are called later."""
    session = way.session
    known = Brick(id=1, text="")
    assert way.flush(known) == SHORT
    new: list[Any] = [Brick(id=2, text="")]
    match what:
        case "updates":
            known.text = "new"
        case "deletes":
            session.delete(known)
        case "a part":
            session.add_all(new)
            way.steps.clear()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # SQLAlchemy 2.1 deprecates it
                session.flush(new)
            assert way.steps == WHOLE
            return
        case "requests":
            session.add_all(new)
            way.steps.clear()
            await known.save(session=session)
            assert way.steps == WHOLE
            return
        case "links":
            post_relation_add.connect(lambda **_: None, sender=Wall)
            new = [Wall(stones=[Stone()])]
        case "receivers of changes":
            post_save.connect(lambda changes, **_: None, sender=Brick)
        case _:
            post_save.connect(lambda **_: None, sender=Brick, **options)
    assert way.flush(*new) == WHOLE


def test_what_pre_receivers_add_is_sent_as_well(way: Way) -> None:
    """The flush goes on the whole way, and the rows that were sent aren't sent again."""

    @pre_save(Brick)
    def add(session: Session, **_: Any) -> None:
        if not any(isinstance(each, Tile) for each in session.new):
            session.add(Tile(id=7))

    assert way.flush(Brick(id=1, text=""), Brick(id=2, text="")) == ["short before", *WHOLE]
    assert sorted(way.sent) == [
        *("post_save Brick 1", "post_save Brick 2", "post_save Tile 7"),
        *("pre_save Brick 1", "pre_save Brick 2", "pre_save Tile 7"),
    ]


def test_what_pre_receivers_change_is_sent_as_well(way: Way) -> None:
    """An UPDATE of a row that was loaded before."""
    known = Brick(id=1, text="")
    way.flush(known)
    pre_update.connect(way.note, sender=Brick)

    @pre_save(Brick, created=True)
    def change(**_: Any) -> None:
        known.text = "changed"

    assert way.flush(Brick(id=2, text="")) == ["short before", *WHOLE]
    assert "pre_update Brick 1" in way.sent


def test_a_row_that_a_pre_receiver_takes_back_isnt_sent(way: Way) -> None:
    """It is not written."""

    @pre_save(Brick)
    def take_back(instance: Brick, session: Session, **_: Any) -> None:
        if instance.id == 2:
            session.expunge(instance)

    assert way.flush(Brick(id=1, text=""), Brick(id=2, text="")) == [
        *("short before", "short record", "whole record", "whole after")
    ]
    assert way.sent[2:] == ["post_save Brick 1"]


def test_what_a_later_listener_adds_is_warned_of(way: Way) -> None:
    """As on the whole way: it has post signals only."""

    @event.listens_for(way.session, "before_flush")
    def add(session: Session, *_: Any) -> None:
        session.add(Tile(id=7))

    with pytest.warns(AksaraSignalsWarning, match="1 rows of Tile"):
        steps = way.flush(Brick(id=1, text=""))
    assert steps == ["short before", "short record", "whole record", "whole after"]
    assert way.sent == ["pre_save Brick 1", "post_save Brick 1", "post_save Tile 7"]


def test_receivers_that_are_connected_meanwhile_are_called(way: Way) -> None:
    """Those of post signals: they are looked up when the rows have been written."""
    later: list[str] = []

    @pre_save(Brick)
    def connect(**_: Any) -> None:
        post_save.connect(note_late, sender=Brick)

    def note_late(instance: Brick, **_: Any) -> None:
        later.append(instance.text)

    assert way.flush(Brick(id=1, text="x")) == [
        *("short before", "short record", "whole record", "whole after")
    ]
    assert later == ["x"]


def test_an_error_of_a_receiver_ends_the_flush(way: Way) -> None:
    """Nothing is written, and the next flush begins anew."""

    @pre_save(Brick)
    def fail(instance: Brick, **_: Any) -> None:
        if instance.text == "bad":
            raise ValueError("bad")

    bad = Brick(id=1, text="bad")
    with pytest.raises(ValueError, match="bad"):
        way.flush(bad)
    bad.text = "good"
    assert way.flush() == SHORT
    assert way.session.get(Brick, 1) is bad


def test_silenced_classes(way: Way) -> None:
    """Nothing is sent, by the shorter way as well."""
    with SignalContext.disable_for(Brick):
        assert way.flush(Brick(id=1, text=""), Tile(id=2)) == SHORT
    assert way.sent == ["pre_save Tile 2", "post_save Tile 2"]
    with SignalContext.disable_for(receivers=[lambda **_: None]):
        assert way.flush(Brick(id=3, text="")) == SHORT
    assert way.sent[2:] == ["pre_save Brick 3", "post_save Brick 3"]


async def test_async_receivers_find_what_the_database_has_set(async_engine: AsyncEngine) -> None:
    """It is loaded for them, all rows at once: they can't load it by reading."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    read: list[str | None] = []

    @post_save(Brick)
    async def look(instance: Brick, **_: Any) -> None:
        read.append(instance.computed)

    async with AsyncSession(async_engine) as session:
        session.add_all([Brick(id=number, text="") for number in range(1, 4)])
        await session.flush()
    assert read == ["computed"] * 3

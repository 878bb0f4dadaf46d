"""Flushes that SQLAlchemy refuses, and such as it doesn't: receivers change nothing about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kit.support import Recorder
from sqlalchemy import Column, Engine, ForeignKey, Table, func, select
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    WriteOnlyMapped,
    mapped_column,
    relationship,
)
from sqlalchemy.orm.exc import FlushError

from aksara_signals import (
    m2m_changed,
    post_relation_add,
    post_save,
    pre_relation_add,
    pre_save,
    pre_update,
)
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Band(Base):
    __tablename__ = "failing_band"
    id: Mapped[int] = mapped_column(primary_key=True)
    songs: Mapped[list[Song]] = relationship(back_populates="band")

    fans: WriteOnlyMapped[Fan] = relationship(secondary="failing_fandom")


class Song(Base):
    __tablename__ = "failing_song"
    id: Mapped[int] = mapped_column(primary_key=True)
    band_id: Mapped[int | None] = mapped_column(ForeignKey("failing_band.id"))
    band: Mapped[Band | None] = relationship(back_populates="songs")
    writers: Mapped[set[Fan]] = relationship(secondary="failing_authorship")
    demos: Mapped[list[Demo]] = relationship(lazy="raise")


class Fan(Base):
    __tablename__ = "failing_fan"
    id: Mapped[int] = mapped_column(primary_key=True)
    favourite_id: Mapped[int | None] = mapped_column(ForeignKey("failing_song.id"))
    favourite: Mapped[Song | None] = relationship()
    letters: Mapped[list[Letter]] = relationship()
    tickets: Mapped[list[Ticket]] = relationship(cascade="all, delete-orphan")


class Letter(Base):
    __tablename__ = "failing_letter"
    id: Mapped[int] = mapped_column(primary_key=True)
    fan_id: Mapped[int | None] = mapped_column(ForeignKey("failing_fan.id"))


class Ticket(Base):
    __tablename__ = "failing_ticket"
    id: Mapped[int] = mapped_column(primary_key=True)
    fan_id: Mapped[int] = mapped_column(ForeignKey("failing_fan.id"))


class Demo(Base):
    __tablename__ = "failing_demo"
    id: Mapped[int] = mapped_column(primary_key=True)
    song_id: Mapped[int | None] = mapped_column(ForeignKey("failing_song.id"))


class Stranger(Base):
    __tablename__ = "failing_stranger"
    name: Mapped[str] = mapped_column(primary_key=True)


for name, one, other in [("fandom", "band", "fan"), ("authorship", "song", "fan")]:
    Table(
        f"failing_{name}",
        Base.metadata,
        *(
            Column(f"{each}_id", ForeignKey(f"failing_{each}.id"), primary_key=True)
            for each in (one, other)
        ),
    )


@pytest.fixture
def sync_session(sync_engine: Engine) -> Iterator[Session]:
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        yield session


def broken_band(session: Session) -> Band:
    """A band whose flush fails: it has got a song twice, in two ways that exclude each other.

    The rollback that makes a new instance transient again leaves behind what was to be added to a
    collection that wasn't loaded. SQLAlchemy asserts that no loaded collection has any such thing.
    """
    band = Band()
    session.add(band)
    session.flush()
    Song(band=band)
    session.rollback()
    band.songs.append(Song())
    return band


def fail(session: Session) -> None:
    """Write a song; then fail to write a broken band."""
    band = broken_band(session)
    session.add(Song())
    session.flush()
    session.add(band)
    with pytest.raises(AssertionError):
        session.flush()


def count_songs(session: Session) -> int | None:
    return session.scalar(select(func.count()).select_from(Song))


@pytest.mark.parametrize("is_connected", [False, True])
def test_an_error_before_the_flush_rolls_back(
    sync_session: Session, recorder: Recorder, is_connected: bool
) -> None:
    """SQLAlchemy's errors leave the session as without receivers: it wants a rollback()."""
    if is_connected:
        recorder.record(post_relation_add, Band, sync=True)
    fail(sync_session)
    assert not sync_session.is_active
    with pytest.raises(PendingRollbackError):
        sync_session.commit()
    sync_session.rollback()
    assert count_songs(sync_session) == 0
    sync_session.add(Song())
    sync_session.commit()
    assert count_songs(sync_session) == 1


@pytest.mark.parametrize("is_connected", [False, True])
async def test_an_error_before_the_flush_of_an_async_session(
    async_engine: AsyncEngine, recorder: Recorder, is_connected: bool
) -> None:
    """An AsyncSession is rolled back likewise."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    if is_connected:
        recorder.record(post_relation_add, Band, sync=True)
    async with AsyncSession(async_engine) as session:
        await session.run_sync(fail)
        assert not session.is_active
        with pytest.raises(PendingRollbackError):
            await session.commit()
        await session.rollback()
        assert await session.run_sync(count_songs) == 0


@pytest.mark.parametrize("is_connected", [False, True])
def test_an_error_in_a_savepoint(
    sync_session: Session, recorder: Recorder, is_connected: bool
) -> None:
    """Only the innermost savepoint is rolled back."""
    if is_connected:
        recorder.record(post_relation_add, Band, sync=True)
    band = broken_band(sync_session)
    sync_session.add(Song())
    sync_session.flush()
    savepoint = sync_session.begin_nested()
    sync_session.add_all([Song(), band])
    with pytest.raises(AssertionError):
        sync_session.flush()
    savepoint.rollback()
    sync_session.commit()
    assert count_songs(sync_session) == 1


# SQLAlchemy warns that what is added before the rollback() is of no use: that is the point.
@pytest.mark.filterwarnings("ignore:Session's state has been changed on a non-active transaction")
@pytest.mark.parametrize("is_connected", [False, True])
def test_an_error_after_an_error(
    sync_session: Session, recorder: Recorder, is_connected: bool
) -> None:
    """Whatever is flushed before that rollback(), SQLAlchemy asks for it in its own words."""
    if is_connected:
        recorder.record(post_relation_add, Band, sync=True)
    band = broken_band(sync_session)
    sync_session.add(band)
    with pytest.raises(AssertionError):
        sync_session.flush()
    sync_session.add(band)
    with pytest.raises(PendingRollbackError):
        sync_session.flush()
    sync_session.rollback()
    assert count_songs(sync_session) == 0


def test_a_veto_leaves_the_transaction(sync_session: Session, recorder: Recorder) -> None:
    """A pre receiver that raises does so before the flush: the session goes on."""

    def refuse(**kwargs: object) -> None:
        raise ValueError("no")

    sync_session.add(Song())
    sync_session.flush()
    pre_save.connect(refuse, Band)
    recorder.record(post_save, Band, sync=True)
    band = Band()
    sync_session.add(band)
    with pytest.raises(ValueError, match="no"):
        sync_session.flush()
    sync_session.expunge(band)
    sync_session.commit()
    assert count_songs(sync_session) == 1
    assert recorder.calls == []


def test_a_veto_of_a_link_leaves_the_transaction(sync_session: Session) -> None:
    """So does a pre receiver of a link."""

    def refuse(**kwargs: object) -> None:
        raise ValueError("no")

    sync_session.add(Song())
    sync_session.flush()
    pre_relation_add.connect(refuse, Fan)
    fan = Fan(tickets=[Ticket()])
    sync_session.add(fan)
    with pytest.raises(ValueError, match="no"):
        sync_session.flush()
    sync_session.expunge(fan)
    sync_session.commit()
    assert count_songs(sync_session) == 1


WRONG: dict[str, tuple[type[Base], Callable[[Any, Stranger], object]]] = {
    "one to many": (Fan, lambda fan, wrong: fan.letters.append(wrong)),
    "many to one": (Fan, lambda fan, wrong: setattr(fan, "favourite", wrong)),
    "many to many": (Song, lambda song, wrong: song.writers.add(wrong)),
    "write-only": (Band, lambda band, wrong: band.fans.add(wrong)),
    "owned": (Fan, lambda fan, wrong: fan.tickets.append(wrong)),
    "assigned": (Fan, lambda fan, wrong: setattr(fan, "tickets", [Ticket(), wrong])),
}


@pytest.mark.parametrize(("owner", "add"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("owner_is", ["new", "old"])
@pytest.mark.parametrize("stranger_is", ["new", "old"])
@pytest.mark.parametrize("is_connected", [False, True])
def test_an_object_of_a_wrong_class(
    sync_session: Session,
    recorder: Recorder,
    owner: type[Base],
    add: Callable[[Any, Stranger], object],
    owner_is: str,
    stranger_is: str,
    is_connected: bool,
) -> None:
    """Where an object doesn't belong, SQLAlchemy says so, in its own words."""
    if is_connected:
        for signal in (pre_save, pre_relation_add, m2m_changed):
            recorder.record(signal, sync=True)
    instance, stranger = owner(), Stranger(name="Stranger")
    for each, is_old in ((instance, owner_is == "old"), (stranger, stranger_is == "old")):
        if is_old:
            sync_session.add(each)
            sync_session.commit()
    sync_session.add(instance)
    add(instance, stranger)
    with pytest.raises(FlushError, match="Attempting to flush an item of type"):
        sync_session.flush()
    assert not sync_session.is_active
    sync_session.rollback()
    assert all(call.payload["child"] is not stranger for call in recorder.of(pre_relation_add))
    assert recorder.of(m2m_changed) == []


def test_right_objects_beside_a_wrong_one(sync_session: Session, recorder: Recorder) -> None:
    """Pre signals know of the objects that do belong."""
    recorder.record(pre_relation_add, Fan, sync=True)
    fan, ticket = Fan(), Ticket()
    sync_session.add(fan)
    fan.tickets = [Stranger(name="Stranger"), ticket]
    with pytest.raises(FlushError):
        sync_session.flush()
    assert [call.payload["child"] for call in recorder.calls] == [ticket]


def test_lazy_raise_is_not_for_the_flush(sync_session: Session, recorder: Recorder) -> None:
    """Members whose reference is written are loaded by a flush in spite of ``lazy="raise"``."""
    recorder.record(pre_update, Demo, sync=True)
    demo = Demo()
    sync_session.add(Song(demos=[demo]))
    sync_session.commit()
    sync_session.delete(sync_session.scalars(select(Song)).one())
    sync_session.commit()
    assert [call.payload["instance"] for call in recorder.calls] == [demo]
    assert demo.song_id is None

"""Flushes that SQLAlchemy refuses: receivers that would hear of them change nothing about it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, ForeignKey, func, select
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from support import Recorder

from aksara_signals import post_relation_add, post_save, pre_save
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Band(Base):
    __tablename__ = "failing_band"
    id: Mapped[int] = mapped_column(primary_key=True)
    songs: Mapped[list[Song]] = relationship(back_populates="band")


class Song(Base):
    __tablename__ = "failing_song"
    id: Mapped[int] = mapped_column(primary_key=True)
    band_id: Mapped[int | None] = mapped_column(ForeignKey("failing_band.id"))
    band: Mapped[Band | None] = relationship(back_populates="songs")


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


@pytest.mark.parametrize("is_heard", [False, True])
def test_an_error_before_the_flush_rolls_back(
    sync_session: Session, recorder: Recorder, is_heard: bool
) -> None:
    """SQLAlchemy's errors leave the session as without receivers: it wants a rollback()."""
    if is_heard:
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


@pytest.mark.parametrize("is_heard", [False, True])
async def test_an_error_before_the_flush_of_an_async_session(
    async_engine: AsyncEngine, recorder: Recorder, is_heard: bool
) -> None:
    """An AsyncSession is rolled back likewise."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    if is_heard:
        recorder.record(post_relation_add, Band, sync=True)
    async with AsyncSession(async_engine) as session:
        await session.run_sync(fail)
        assert not session.is_active
        with pytest.raises(PendingRollbackError):
            await session.commit()
        await session.rollback()
        assert await session.run_sync(count_songs) == 0


@pytest.mark.parametrize("is_heard", [False, True])
def test_an_error_in_a_savepoint(sync_session: Session, recorder: Recorder, is_heard: bool) -> None:
    """Only the innermost savepoint is rolled back."""
    if is_heard:
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
@pytest.mark.parametrize("is_heard", [False, True])
def test_an_error_after_an_error(sync_session: Session, recorder: Recorder, is_heard: bool) -> None:
    """Whatever is flushed before that rollback(), SQLAlchemy asks for it in its own words."""
    if is_heard:
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

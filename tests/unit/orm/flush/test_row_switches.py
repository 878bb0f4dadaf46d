"""A new object that takes over the row of a deleted one: deleted first, then created."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import ForeignKey
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from aksara_signals import post_delete, post_save, pre_delete, pre_save
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Member(Base):
    __tablename__ = "member"

    id: Mapped[int] = mapped_column(primary_key=True)
    profile: Mapped[Profile | None] = relationship(cascade="all, delete-orphan")


class Profile(Base):
    __tablename__ = "profile"

    member_id: Mapped[int] = mapped_column(ForeignKey("member.id"), primary_key=True)
    bio: Mapped[str]
    lang: Mapped[str | None]


class Other(Base):
    __tablename__ = "other"

    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
async def sessions(async_engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    maker = async_sessionmaker(async_engine)
    async with maker.begin() as session:
        session.add(Member(id=1, profile=Profile(bio="old", lang="de")))
        session.add(Other(id=1))
    return maker


async def replace(sessions: async_sessionmaker[AsyncSession]) -> None:
    """Give a member a new profile, which gets the row of the old one."""
    async with sessions.begin() as session:
        member = await session.get_one(Member, 1)
        await session.run_sync(lambda _: setattr(member, "profile", Profile(bio="new")))


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("phase", ["immediate", "after_commit"])
async def test_both_halves_hold_what_the_row_holds(
    sessions: async_sessionmaker[AsyncSession], phase: str, is_async: bool
) -> None:
    """The deleted half has the old values; the new one those that SQLAlchemy's UPDATE left alone."""
    received: list[Any] = []

    def saved(instance: Profile, created: bool, **kwargs: Any) -> None:
        received.append(("save", instance.bio, instance.lang, created))

    def deleted(instance: Profile, **kwargs: Any) -> None:
        received.append(("delete", instance.bio, instance.lang))

    async def saved_async(instance: Profile, created: bool, **kwargs: Any) -> None:
        saved(instance, created)

    async def deleted_async(instance: Profile, **kwargs: Any) -> None:
        deleted(instance)

    post_save.connect(saved_async if is_async else saved, sender=Profile, phase=phase)
    post_delete.connect(deleted_async if is_async else deleted, sender=Profile, phase=phase)
    await replace(sessions)
    assert received == [("delete", "old", "de"), ("save", "new", "de", True)]


async def test_a_new_half_that_was_given_everything_is_as_it_was_given(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    """There is nothing left to read from the row."""
    received: list[Any] = []

    @post_save(Profile, phase="after_commit")
    async def note(instance: Profile, **kwargs: Any) -> None:
        received.append((instance.member_id, instance.bio, instance.lang))

    async with sessions.begin() as session:
        member = await session.get_one(Member, 1)
        profile = Profile(bio="new", lang=None)
        await session.run_sync(lambda _: setattr(member, "profile", profile))
    assert received == [(1, "new", None)]


async def test_what_a_new_half_was_given_is_not_read_again(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    """Only the columns that it was not given are expired."""
    states: list[Any] = []

    @post_save(Profile)
    def note(instance: Profile, **kwargs: Any) -> None:
        states.append(({*vars(instance)} & {"bio", "lang"}, instance.lang))

    await replace(sessions)
    assert states == [({"bio"}, "de")]


async def test_pre_signals_come_in_the_same_order(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    """The pre signals are sent in the order of the post signals."""
    received: list[Any] = []

    @pre_save(Profile)
    @pre_delete(Profile)
    @post_save(Profile)
    @post_delete(Profile)
    async def note(signal: Any, instance: Profile, **kwargs: Any) -> None:
        received.append((signal.name, instance.bio))

    await replace(sessions)
    assert received == [
        ("pre_delete", "old"),
        ("pre_save", "new"),
        ("post_delete", "old"),
        ("post_save", "new"),
    ]


async def test_other_classes_keep_their_order(sessions: async_sessionmaker[AsyncSession]) -> None:
    """A class with deleted objects only comes after the new objects of other classes."""
    received: list[Any] = []

    @pre_save(Base)
    @pre_delete(Base)
    async def note(signal: Any, instance: Any, **kwargs: Any) -> None:
        received.append((signal.name, type(instance).__name__))

    async with sessions.begin() as session:
        other, member = await session.get_one(Other, 1), await session.get_one(Member, 1)
        with session.no_autoflush:  # a cascade loads
            await session.delete(other)
            await session.delete(member)
        session.add(Member(id=2))
    assert received == [
        ("pre_delete", "Member"),
        ("pre_save", "Member"),
        ("pre_delete", "Other"),
        ("pre_delete", "Profile"),
    ]

"""Mapped classes with relationships of every kind, and what tests do with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, Integer, Table
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    WriteOnlyMapped,
    attribute_keyed_dict,
    mapped_column,
    relationship,
)

from aksara_signals import (
    SignalContext,
    post_relation_add,
    post_relation_remove,
    pre_relation_add,
    pre_relation_remove,
)
from aksara_signals.orm import SignalMixin

RELATIONS = (pre_relation_add, post_relation_add, pre_relation_remove, post_relation_remove)


class Base(SignalMixin, DeclarativeBase):
    pass


def link(name: str, left: str, right: str, **options: Any) -> Table:
    """A secondary table between two tables with a key of one column."""
    return Table(
        name,
        Base.metadata,
        Column("left_id", ForeignKey(f"{left}.id"), primary_key=True),
        Column("right_id", ForeignKey(f"{right}.id"), primary_key=True),
        **options,
    )


post_tag = link("post_tag", "post", "tag")
post_label = link("post_label", "post", "tag")
post_fan = link("post_fan", "post", "person")
post_reader = link("post_reader", "post", "person")
post_cover = link("post_cover", "post", "tag")
post_named = link("post_named", "post", "tag")
follow = link("follow", "person", "person")


class Person(Base):
    __tablename__ = "person"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    posts: Mapped[list[Post]] = relationship(back_populates="author")
    following: Mapped[list[Person]] = relationship(
        secondary=follow,
        primaryjoin=lambda: Person.id == follow.c.left_id,
        secondaryjoin=lambda: Person.id == follow.c.right_id,
        back_populates="followers",
    )
    locker: Mapped[Locker | None] = relationship(
        secondary="locker_keeper", back_populates="keeper", uselist=False
    )
    followers: Mapped[list[Person]] = relationship(
        secondary=follow,
        primaryjoin=lambda: Person.id == follow.c.right_id,
        secondaryjoin=lambda: Person.id == follow.c.left_id,
        back_populates="following",
    )


class Post(Base):
    __tablename__ = "post"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    kind: Mapped[str] = mapped_column(default="post")
    author_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    author: Mapped[Person | None] = relationship(back_populates="posts")
    tags: Mapped[list[Tag]] = relationship(secondary=post_tag, back_populates="posts")
    labels: Mapped[set[Tag]] = relationship(secondary=post_label)  # one-way
    fans: WriteOnlyMapped[Person] = relationship(secondary=post_fan, passive_deletes=True)
    readers: DynamicMapped[Person] = relationship(secondary=post_reader, passive_deletes=True)
    cover: Mapped[Tag | None] = relationship(secondary=post_cover, uselist=False)
    named: Mapped[dict[str, Tag]] = relationship(
        secondary=post_named, collection_class=attribute_keyed_dict("name")
    )
    comments: Mapped[list[Comment]] = relationship(cascade="all, delete-orphan")  # one-way
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "post"}


class Essay(Post):
    __mapper_args__ = {"polymorphic_identity": "essay"}


class Tag(Base):
    __tablename__ = "tag"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    posts: Mapped[list[Post]] = relationship(secondary=post_tag, back_populates="tags")


class Locker(Base):
    """One person's at most, and found by a code that is no key."""

    __tablename__ = "locker"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(unique=True)
    keeper: Mapped[Person | None] = relationship(
        secondary="locker_keeper", back_populates="locker", uselist=False
    )
    items: Mapped[list[Item]] = relationship(back_populates="locker")
    visitors: Mapped[list[Person]] = relationship(secondary="locker_visitor")


link("locker_keeper", "locker", "person")


locker_visitor = Table(
    "locker_visitor",
    Base.metadata,
    Column("locker_id", ForeignKey("locker.id"), primary_key=True),
    Column("person_id", ForeignKey("person.id", ondelete="CASCADE"), primary_key=True),
)


class Item(Base):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str | None] = mapped_column(ForeignKey("locker.code"))
    locker: Mapped[Locker | None] = relationship(back_populates="items")


class Comment(Base):
    __tablename__ = "comment"

    id: Mapped[int] = mapped_column(primary_key=True)
    post_id: Mapped[int | None] = mapped_column(ForeignKey("post.id"))
    text: Mapped[str]


seat_guest = Table(
    "seat_guest",
    Base.metadata,
    Column("row", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("person_id", ForeignKey("person.id"), primary_key=True),
    ForeignKeyConstraint(["row", "number"], ["seat.row", "seat.number"]),
)


class Seat(Base):
    __tablename__ = "seat"

    row: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    guests: Mapped[list[Person]] = relationship(secondary=seat_guest, backref="seats")


async def saved(session: AsyncSession, *instances: Any) -> None:
    """Commit new instances, silently, with all collections loaded."""
    with SignalContext.disable_all():
        session.add_all(instances)
        await session.commit()


async def on(session: AsyncSession, work: Callable[[], Any]) -> None:
    """Do what may load lazily, and commit."""
    await session.run_sync(lambda _: work())
    await session.commit()

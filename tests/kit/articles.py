"""Articles and what belongs to them, with columns that a query may leave out."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column, ForeignKey, Table, column, func
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, relationship

from aksara_signals.orm import SignalMixin
from kit.databases import create_all


class Base(SignalMixin, DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "person"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Editor(Person):
    __tablename__ = "editor"

    id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    desk: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "editor"}


links = Table(
    "article_topic",
    Base.metadata,
    Column("article_id", ForeignKey("article.id"), primary_key=True),
    Column("topic_id", ForeignKey("topic.id"), primary_key=True),
)


class Topic(Base):
    __tablename__ = "topic"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]


class Article(Base):
    __tablename__ = "article"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str | None]
    views: Mapped[int] = mapped_column(default=0)
    data: Mapped[dict[str, Any] | None] = mapped_column(MutableDict.as_mutable(JSON))
    edited: Mapped[str | None] = mapped_column(onupdate=func.lower("NOW"))
    body: Mapped[str | None] = mapped_column(deferred=True)
    shout: Mapped[str | None] = column_property(func.upper(column("title")), deferred=False)
    editor_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    editor: Mapped[Person | None] = relationship(lazy="joined")
    topics: Mapped[list[Topic]] = relationship(secondary=links)


class Remark(Base):
    __tablename__ = "remark"

    id: Mapped[int] = mapped_column(primary_key=True)
    topic_id: Mapped[int | None] = mapped_column(ForeignKey("topic.id"))
    topic: Mapped[Topic | None] = relationship()


class Pair(Base):
    __tablename__ = "pair"

    left: Mapped[int] = mapped_column(primary_key=True)
    right: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    note: Mapped[str | None]


async def articles_in(async_engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Sessions on a database with three articles and their editors."""
    await create_all(async_engine, Base.metadata)
    maker = async_sessionmaker(async_engine)
    async with maker.begin() as session:
        for number in (1, 2, 3):
            editor = Editor(id=number, name=f"editor {number}", desk=f"desk {number}")
            session.add(
                Article(
                    id=number, title=f"title {number}", body="b", data={"n": number}, editor=editor
                )
            )
            session.add(Topic(id=number, name=f"topic {number}"))
            session.add(Pair(left=number, right=number, name="n", note="note"))
    return maker


def quiet(**kwargs: Any) -> None:
    """Read nothing."""

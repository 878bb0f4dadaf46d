"""The mapped classes that the examples of Aksara's text are about."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, inspect
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from aksara_signals.orm import SignalMixin

Sessions = async_sessionmaker[AsyncSession]


class Base(SignalMixin, AsyncAttrs, DeclarativeBase):
    pass


class Reader(Base):
    __tablename__ = "reader"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Topic(Base):
    __tablename__ = "topic"

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]


class StoryTopic(Base):
    __tablename__ = "story_topic"

    story_id: Mapped[int] = mapped_column(ForeignKey("story.id"), primary_key=True)
    topic_id: Mapped[int] = mapped_column(ForeignKey("topic.id"), primary_key=True)


class Story(Base):
    __tablename__ = "story"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    slug: Mapped[str | None]
    reads: Mapped[int] = mapped_column(default=0)
    writer_id: Mapped[int | None] = mapped_column(ForeignKey("reader.id"))
    writer: Mapped[Reader | None] = relationship()
    topics: Mapped[list[Topic]] = relationship(secondary=StoryTopic.__table__)
    created_at: Mapped[datetime | None]
    updated_at: Mapped[datetime | None]


class Remark(Base):
    __tablename__ = "remark"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    writer_id: Mapped[int] = mapped_column(ForeignKey("reader.id"))
    story_id: Mapped[int] = mapped_column(ForeignKey("story.id"))
    story: Mapped[Story] = relationship()


class Ledger(Base):
    """The audit log of the examples."""

    __tablename__ = "ledger"

    id: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str]
    row: Mapped[str]
    action: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


def columns(instance: Any) -> dict[str, Any]:
    """What ``to_dict()`` gives in Aksara."""
    mapper = inspect(type(instance))
    return {attribute.key: getattr(instance, attribute.key) for attribute in mapper.column_attrs}

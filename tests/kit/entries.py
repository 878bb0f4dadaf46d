"""Mapped classes with keys, defaults and computed columns of many kinds, to be written in bulk."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import JSON, Computed, Engine, ForeignKey, String, event, func, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Blog(Base):
    __tablename__ = "blog"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Entry(Base):
    __tablename__ = "entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    slug: Mapped[str | None]
    views: Mapped[int] = mapped_column(server_default=text("7"))
    state: Mapped[str] = mapped_column(default=lambda: "draft")
    edited: Mapped[str | None] = mapped_column(onupdate=func.lower("NOW"))
    shout: Mapped[str | None] = mapped_column(Computed("upper(title)", persisted=True))
    tags: Mapped[Any] = mapped_column(JSON, nullable=True)
    blog_id: Mapped[int | None] = mapped_column(ForeignKey("blog.id"))
    blog: Mapped[Blog | None] = relationship()


class Country(Base):
    """A natural key: nothing that the database makes distinguishes its rows."""

    __tablename__ = "country"

    code: Mapped[str] = mapped_column(String(2), primary_key=True)
    rank: Mapped[int] = mapped_column(server_default=text("1"))


class Seat(Base):
    __tablename__ = "seat"

    row: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    guest: Mapped[str | None]
    seen: Mapped[int] = mapped_column(default=0, onupdate=1)


class Token(Base):
    __tablename__ = "token"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    version: Mapped[int] = mapped_column()
    note: Mapped[str | None]
    __mapper_args__ = {"version_id_col": version}


class Animal(Base):
    __tablename__ = "animal"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column()
    name: Mapped[str]
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "animal"}


class Dog(Animal):
    __tablename__ = "dog"

    id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
    trick: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "dog"}


@contextmanager
def statements(engine: AsyncEngine | Engine) -> Iterator[list[str]]:
    """The statements executed inside, transactions aside."""
    found: list[str] = []
    target = engine.sync_engine if isinstance(engine, AsyncEngine) else engine

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.split(maxsplit=1)[0] in {"INSERT", "UPDATE", "SELECT", "DELETE"}:
            found.append(statement)

    event.listen(target, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(target, "before_cursor_execute", note)


def entries(count: int) -> list[Entry]:
    return [Entry(title=f"t{number}") for number in range(count)]

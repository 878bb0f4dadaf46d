"""An application with an outbox: its classes, its tables, and what is in them."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Connection,
    DateTime,
    Enum,
    ForeignKey,
    Row,
    Table,
    event,
    func,
    select,
    text,
)
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from aksara_signals.contrib.outbox import Outbox
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Storehouse(Base):
    __tablename__ = "shop"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    articles: Mapped[list[Article]] = relationship(
        back_populates="shop", cascade="all, delete-orphan"
    )


class Article(Base):
    __tablename__ = "article"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    secret: Mapped[str | None]
    stock: Mapped[int] = mapped_column(server_default=text("7"))
    edited: Mapped[str | None] = mapped_column(onupdate=func.lower("NOW"))
    body: Mapped[str | None] = mapped_column(deferred=True)
    details: Mapped[dict[str, Any] | None] = mapped_column(MutableDict.as_mutable(JSON))
    shop_id: Mapped[int | None] = mapped_column(ForeignKey("shop.id"))
    shop: Mapped[Storehouse | None] = relationship(back_populates="articles")
    labels: Mapped[list[Label]] = relationship(secondary="article_label", back_populates="articles")


class Label(Base):
    __tablename__ = "label"

    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str]
    articles: Mapped[list[Article]] = relationship(
        secondary="article_label", back_populates="labels"
    )


class ArticleLabel(Base):
    __tablename__ = "article_label"

    article_id: Mapped[int] = mapped_column(ForeignKey("article.id"), primary_key=True)
    label_id: Mapped[int] = mapped_column(ForeignKey("label.id"), primary_key=True)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Reading(Base):
    """Its key is made of what isn't JSON."""

    __tablename__ = "reading"

    sensor: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True).with_variant(DATETIME(fsp=6), "mysql", "mariadb"), primary_key=True
    )
    color: Mapped[Color] = mapped_column(Enum(Color), primary_key=True)
    value: Mapped[float | None]


outbox = Outbox(Base.metadata)
"""Not installed."""
table: Table = outbox.tables.outbox


@contextmanager
def inserts(engine: Any, name: str = table.name) -> Iterator[list[str]]:
    """The statements executed inside that write to the outbox."""
    found: list[str] = []
    target = engine.sync_engine if isinstance(engine, AsyncEngine) else engine

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if name in statement and not statement.startswith("SELECT"):
            found.append(statement.split(maxsplit=1)[0])

    event.listen(target, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(target, "before_cursor_execute", note)


def rows_in(connection: Session | Connection, of: Table = table) -> list[Row[Any]]:
    """The rows of an outbox, in the order of writing."""
    return list(connection.execute(select(of).order_by(of.c.seq)).all())


async def stored(session: AsyncSession | Session, of: Table = table) -> list[Row[Any]]:
    """The same, by any session."""
    if isinstance(session, Session):
        return rows_in(session, of)
    return await session.run_sync(rows_in, of)

"""The mapped classes of the comparisons, their databases, and receivers that do next to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from sqlalchemy import Column, Engine, ForeignKey, Table, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.pool import StaticPool

from aksara_signals.orm import SignalMixin


class PlainBase(DeclarativeBase):
    """SQLAlchemy alone."""


class SignalBase(SignalMixin, DeclarativeBase):
    """With the mixin."""


class Columns:
    """What all models have."""

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    views: Mapped[int] = mapped_column(default=0)


class Plain(Columns, PlainBase):
    __tablename__ = "plain"


class Sending(Columns, SignalBase):
    __tablename__ = "sending"


class Late(Columns, SignalBase):
    """For receivers after the commit."""

    __tablename__ = "late"


class Watched(Columns, PlainBase):
    """With SQLAlchemy's own listeners."""

    __tablename__ = "watched"


@event.listens_for(Watched, "before_insert")
def _before_insert(mapper: Any, connection: Any, target: Any) -> None:
    target.views = 1


@event.listens_for(Watched, "after_insert")
def _after_insert(mapper: Any, connection: Any, target: Any) -> None:
    pass


class PlainTag(PlainBase):
    __tablename__ = "plain_tag"
    id: Mapped[int] = mapped_column(primary_key=True)


class SendingTag(SignalBase):
    __tablename__ = "sending_tag"
    id: Mapped[int] = mapped_column(primary_key=True)


plain_links = Table(
    "plain_links",
    PlainBase.metadata,
    Column("post", ForeignKey("plain_post.id"), primary_key=True),
    Column("tag", ForeignKey("plain_tag.id"), primary_key=True),
)

sending_links = Table(
    "sending_links",
    SignalBase.metadata,
    Column("post", ForeignKey("sending_post.id"), primary_key=True),
    Column("tag", ForeignKey("sending_tag.id"), primary_key=True),
)


class PlainPost(PlainBase):
    __tablename__ = "plain_post"
    id: Mapped[int] = mapped_column(primary_key=True)
    tags: Mapped[list[PlainTag]] = relationship(secondary=plain_links)


class SendingPost(SignalBase):
    __tablename__ = "sending_post"
    id: Mapped[int] = mapped_column(primary_key=True)
    tags: Mapped[list[SendingTag]] = relationship(secondary=sending_links)


async def receive(sender: Any, instance: Any, **kwargs: Any) -> None:
    """A receiver that sets something."""
    instance.views = 1


def receive_sync(sender: Any, instance: Any, **kwargs: Any) -> None:
    """The same as a function."""
    instance.views = 1


async def look(sender: Any, instance: Any, **kwargs: Any) -> None:
    """A receiver that does nothing."""


def look_sync(sender: Any, instance: Any, **kwargs: Any) -> None:
    """The same as a function."""


@contextmanager
def connected(*pairs: tuple[Any, Any], sender: Any = Sending, **options: Any) -> Iterator[None]:
    """Signals with a receiver each, for as long as the block runs."""
    with ExitStack() as stack:
        for signal, function in pairs:
            stack.enter_context(signal.connected_to(function, sender=sender, **options))
        yield


def make_engine() -> Engine:
    """One connection to an empty database in memory."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    PlainBase.metadata.create_all(engine)
    SignalBase.metadata.create_all(engine)
    return engine


def make_async_engine(loop: asyncio.AbstractEventLoop) -> AsyncEngine:
    """The same, by aiosqlite."""
    engine = create_async_engine("sqlite+aiosqlite://")

    async def prepare() -> None:
        async with engine.begin() as connection:
            await connection.run_sync(PlainBase.metadata.create_all)
            await connection.run_sync(SignalBase.metadata.create_all)

    loop.run_until_complete(prepare())
    return engine

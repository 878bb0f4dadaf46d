"""The models of the story that our signals are sent for, and what their receivers write down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import Column, ForeignKey, Table, func, select
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from aksara_signals import (
    m2m_changed,
    post_delete,
    post_save,
    pre_delete,
    pre_save,
)
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    id: Mapped[int] = mapped_column(primary_key=True)


post_tag = Table(
    "post_tag",
    Base.metadata,
    Column("post_id", ForeignKey("post.id"), primary_key=True),
    Column("tag_id", ForeignKey("tag.id"), primary_key=True),
)


class Author(Base):
    __tablename__ = "author"
    name: Mapped[str]
    posts: Mapped[list[Post]] = relationship(
        back_populates="author", foreign_keys="Post.author_id", cascade="all"
    )
    edited: Mapped[list[Post]] = relationship(
        back_populates="editor", foreign_keys="Post.editor_id"
    )


class Post(Base):
    __tablename__ = "post"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "post"}
    name: Mapped[str]
    slug: Mapped[str] = mapped_column(default="")
    kind: Mapped[str]
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    editor_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author | None] = relationship(
        back_populates="posts", foreign_keys="Post.author_id"
    )
    editor: Mapped[Author | None] = relationship(
        back_populates="edited", foreign_keys="Post.editor_id"
    )
    tags: Mapped[list[Tag]] = relationship(secondary=post_tag, back_populates="posts")


class Treatise(Post):
    __tablename__ = "treatise"
    __mapper_args__ = {"polymorphic_identity": "treatise"}
    id: Mapped[int] = mapped_column(ForeignKey("post.id"), primary_key=True)
    length: Mapped[int] = mapped_column(default=0)


class Tag(Base):
    __tablename__ = "tag"
    name: Mapped[str]
    posts: Mapped[list[Post]] = relationship(secondary=post_tag, back_populates="tags")
    awards: Mapped[list[Award]] = relationship(back_populates="tag")
    winners: AssociationProxy[list[Author]] = association_proxy(
        "awards", "author", creator=lambda author: Award(author=author, name="award")
    )


class Award(Base):
    __tablename__ = "award"
    name: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    tag_id: Mapped[int] = mapped_column(ForeignKey("tag.id"))
    author: Mapped[Author] = relationship()
    tag: Mapped[Tag] = relationship(back_populates="awards")


lines: list[str] = []
CHAPTERS: dict[str, Callable[[AsyncSession], Awaitable[None]]] = {}
ChapterT = Callable[[AsyncSession], Awaitable[None]]


def chapter(function: ChapterT) -> ChapterT:
    CHAPTERS[function.__name__] = function
    return function


# -- what receivers write down ----------------------------------------------------------------------


def saved(signal: Any, sender: Any, instance: Any, update_fields: Any, **kwargs: Any) -> None:
    line = f"{signal.name} {sender.__name__} {instance.name}"
    if signal is post_save and kwargs["created"]:
        line += " created"
    if kwargs["raw"]:
        line += " raw"
    if update_fields is not None:
        line += f" {sorted(update_fields)}"
    lines.append(line)


def deleted(signal: Any, sender: Any, instance: Any, **kwargs: Any) -> None:
    known = "with" if instance.id else "without"
    lines.append(f"{signal.name} {sender.__name__} {instance.name} {known} key")


def linked(
    sender: Any, instance: Any, action: str, reverse: bool, model: Any, pk_set: Any, **kwargs: Any
) -> None:
    side = "reverse" if reverse else "forward"
    keys = None if pk_set is None else sorted(pk_set)
    lines.append(f"{action} {instance.name} {side} {model.__name__} {keys}")


def made(signal: Any, sender: Any, **kwargs: Any) -> None:
    given = f" {sorted(kwargs['kwargs'])}" if "kwargs" in kwargs else f" {kwargs['instance'].name}"
    lines.append(f"{signal.name} {sender.__name__}{given}")


def listen() -> None:
    for signal in (pre_save, post_save):
        signal.connect(saved)
    for signal in (pre_delete, post_delete):
        signal.connect(deleted)
    m2m_changed.connect(linked)


async def read(session: AsyncSession, what: Any) -> Any:
    """One value as it stands in the table."""
    return await session.scalar(select(what))


async def count(session: AsyncSession, model: type) -> str:
    return str(await read(session, func.count(model.id)))

"""The mapped classes that most tests with a database write."""

from __future__ import annotations

from sqlalchemy import ForeignKey, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    posts: Mapped[list[Post]] = relationship(back_populates="author", order_by="Post.id")


class Post(Base):
    __tablename__ = "post"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    slug: Mapped[str | None]
    views: Mapped[int] = mapped_column(server_default=text("7"))
    edited_at: Mapped[str | None] = mapped_column(onupdate=func.lower("NOW"))
    body: Mapped[str | None] = mapped_column(deferred=True)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author | None] = relationship(back_populates="posts")


class Audit(Base):
    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Promise(Base):
    """Its foreign key is looked at when the transaction is committed, and not before."""

    __tablename__ = "promise"

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(
        ForeignKey("author.id", deferrable=True, initially="DEFERRED")
    )


async def titles(session: AsyncSession) -> list[str]:
    """Of all posts that are stored, in the order of their keys."""
    return list(await session.scalars(select(Post.title).order_by(Post.id)))

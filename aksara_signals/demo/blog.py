"""A small blog, and the receivers that its author would write."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

from sqlalchemy import ForeignKey, String
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from aksara_signals import (
    Signal,
    post_delete,
    post_init,
    post_save,
    post_update,
    pre_delete,
    pre_save,
    pre_update,
)
from aksara_signals.demo.timeline import Timeline
from aksara_signals.orm import SignalMixin
from aksara_signals.types import Changes


class Base(SignalMixin, DeclarativeBase):
    """The base of the blog's models; inheriting the mixin is the whole set-up."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {str: String(200)}
    """MySQL asks for a length."""


class Author(Base):
    __tablename__ = "aksara_demo_author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    posts: Mapped[list[Post]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Post(Base):
    __tablename__ = "aksara_demo_post"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    slug: Mapped[str | None]
    author_id: Mapped[int] = mapped_column(ForeignKey("aksara_demo_author.id"))
    author: Mapped[Author] = relationship(back_populates="posts")


class AuditEntry(Base):
    __tablename__ = "aksara_demo_audit_entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class ClickbaitError(Exception):
    """A title that the editor rejects."""


@contextmanager
def connected_receivers(timeline: Timeline, cache: dict[int, str]) -> Iterator[None]:
    """Connect what the blog's author would write, for as long as the block lasts.

    Args:
        timeline: Prints a line for each call of a receiver.
        cache: Rendered pages by the identifier of their post; a deleted post's page is dropped.
    """

    async def generate_slug(instance: Post, **kwargs: Any) -> str:
        instance.slug = re.sub(r"[^a-z0-9]+", "-", instance.title.lower()).strip("-")
        return f"slug is {instance.slug!r}"

    async def reject_clickbait(instance: Post, **kwargs: Any) -> None:
        if "you won't believe" in instance.title.lower():
            raise ClickbaitError("not in this blog")

    async def write_audit_entry(
        instance: Post, created: bool, session: AsyncSession, **kwargs: Any
    ) -> str:
        action = "created" if created else "updated"
        session.add(AuditEntry(text=f"post {instance.id} {action}"))
        return f"adds 'post {instance.id} {action}' to the same transaction"

    async def show_changes(changes: Changes, **kwargs: Any) -> str:
        return ", ".join(f"{name}: {old!r} -> {new!r}" for name, (old, new) in changes.items())

    def warm_cache(instance: Post, **kwargs: Any) -> str:
        cache[instance.id] = f"<h1>{instance.title}</h1><p>by {instance.author.name}</p>"
        return f"page rendered, cache holds {len(cache)}"

    async def announce(instance: Post, **kwargs: Any) -> str:
        return f"committed: mail about {instance.title!r} can be sent"

    async def back_up(instance: Post, **kwargs: Any) -> str:
        return f"archives {instance.title!r}"

    async def clean_cache(instance: Post, **kwargs: Any) -> str:
        page = cache.pop(instance.id, None)
        return f"{'page dropped' if page else 'no page to drop'}, cache holds {len(cache)}"

    def greet(**kwargs: Any) -> str:
        return "an object was constructed"

    async def entry_written(instance: AuditEntry, **kwargs: Any) -> str:
        return f"audit entry {instance.id} is written"

    wanted: list[tuple[Signal, Callable[..., Any], type, dict[str, Any]]] = [
        (post_init, greet, Post, {}),
        (pre_save, reject_clickbait, Post, {"priority": 10}),
        (pre_save, generate_slug, Post, {}),
        (pre_update, show_changes, Post, {}),
        (post_update, warm_cache, Post, {}),
        (post_save, warm_cache, Post, {"created": True}),
        (post_save, write_audit_entry, Post, {}),
        (post_save, announce, Post, {"created": True, "phase": "after_commit"}),
        (post_save, entry_written, AuditEntry, {}),
        (pre_delete, back_up, Post, {}),
        (post_delete, clean_cache, Post, {}),
    ]
    with ExitStack() as connected:
        for signal, receiver, sender, options in wanted:
            connected.enter_context(
                signal.connected_to(timeline.showing(receiver), sender, **options)
            )
        yield

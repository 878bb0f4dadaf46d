"""Receivers that fit their signal, and receivers that don't. Checked, never run.

Each ``type: ignore`` here stands for an error that the checkers must report: an unnecessary one is
an error itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_type

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped

from aksara_signals import post_bulk_create, post_save, post_statement, typed_signal
from aksara_signals.contrib.outbox import Durable, DurableEvent, Retry


class Post:
    """Stands for a mapped class."""


class Comment:
    """Stands for another one."""


class Guide(Post):
    """Stands for a subclass."""


# -- what fits ------------------------------------------------------------------------------------


@post_save(Post)
async def by_name(sender: type[Post], instance: Post, created: bool, **kwargs: Any) -> int:
    """The usual one."""
    return 1


@post_save(Post)
async def with_provenance(instance: Post, provenance: Mapping[str, Any], **kwargs: Any) -> None:
    """Is given the values of provenance()."""


@post_save(Post)
async def without_sender(instance: Post, **kwargs: Any) -> None:
    """Takes what it needs."""


@post_save(Post, phase="after_commit")
async def with_nothing(**kwargs: Any) -> None:
    """Needs nothing."""


@post_save(Post)
def by_position(s: type[Post], i: Post, created: bool, **kwargs: Any) -> None:
    """Names of its own for the leading parameters."""


@post_save(Guide)
async def of_a_base(sender: type[Post], instance: Post, **kwargs: Any) -> None:
    """A receiver of a class may be written for its base."""


@post_save(Post, Comment)
async def of_two(instance: Post | Comment, **kwargs: Any) -> None:
    """Two senders, one receiver."""


@post_save("Post")
async def by_string(instance: Comment, **kwargs: Any) -> str:
    """What a string stands for no type checker knows."""
    return ""


@post_save(sender=Post, priority=1)
def of_named(sender: type[Post], instance: Post, **kwargs: Any) -> str:
    """Named by keyword, a sender isn't looked at, and the receiver stays what it is."""
    return ""


assert_type(of_named(Post, Post()), str)


@post_save(senders=[Post, Guide])
@post_save(each for each in (Post, Guide))
async def of_named_ones(instance: Post | Guide, **kwargs: Any) -> None:
    """Nor are several."""


@post_bulk_create(sender=Post)
@post_bulk_create(Post)
async def of_many(instances: list[Post], **kwargs: Any) -> None:
    """A list of instances."""


post_save(Post)(lambda sender, instance, **kwargs: None)
post_save(Post)(lambda s, i, created, **kwargs: None)

# -- durable ones ----------------------------------------------------------------------------------


@post_save(Post, durable="typed.index")
async def by_a_worker(
    instance: Post, created: bool, session: AsyncSession, event: DurableEvent, **kwargs: Any
) -> None:
    """The same signature as any other, and the event."""
    assert_type(event.values, Mapping[str, Any])


@post_save(Post, created=True, durable=Durable("typed.mail", include=("title",), retry=Retry()))
async def with_options(event: DurableEvent, **kwargs: Any) -> None:
    """Options, and a filter."""


@post_bulk_create(Post, durable="typed.bulk")
async def of_many_by_a_worker(event: DurableEvent, **kwargs: Any) -> None:
    """No instances: their keys are in event.data."""


post_save.connect(by_a_worker, sender=Post, durable="typed.index")
post_save.connect(by_a_worker, sender=Post, durable=Durable("typed.index"))
post_save.connect(by_a_worker, sender=Post, durable=None)

# -- narrowed to changes ---------------------------------------------------------------------------


class Page(DeclarativeBase):
    """Has attributes whose types are known."""

    status: Mapped[str]
    title: Mapped[str | None]
    views: Mapped[int]


@post_save(Page.status)
@post_save(Page.status, Page.views)
@post_save(Page.status, phase="after_commit", coalesce=True)
def of_an_attribute(sender: type[Page], instance: Page, **kwargs: Any) -> str:
    """The attribute says nothing about its class, so the receiver stays what it is."""
    return ""


assert_type(of_an_attribute(Page, Page()), str)


@post_save(Page, fields="status")
@post_save(Page, fields=["status", Page.title], created=True)
@post_save(Page, transition={"status": ("draft", {"open", "done"}), "views": (..., 5)})
@post_save(Page, transition={Page.status: ("draft", {"open", "done"})})
@post_save(Page, transition={Page.title: (None, "x")})
@post_save(Page, transition={Page.views: (1, ...)}, phase="after_commit")
@post_save(Page, transition=None, fields=None)
def of_changes(instance: Page, **kwargs: Any) -> None:
    """Names, attributes, and values of their types."""


post_save.connect(of_changes, Page, fields=[Page.status], transition={Page.status: ("a", "b")})
post_save.connect(of_changes, Page.status)

# -- what doesn't ---------------------------------------------------------------------------------


async def of_comments(sender: type[Comment], instance: Comment, **kwargs: Any) -> None:
    """Knows comments only."""


async def of_comments_only(instance: Comment, **kwargs: Any) -> None:
    """The same without a sender."""


@post_statement(Post)
async def of_statements(kind: str, row_count: int | None, **kwargs: Any) -> None:
    """Knows no instance."""


@post_save(Post, statements=True)
async def of_rows(instance: Post, **kwargs: Any) -> None:
    """Is called for the rows of statements, too."""


async def of_many_comments(instances: list[Comment], **kwargs: Any) -> None:
    """Knows lists of comments only."""


post_save(Page, fields=5)  # type: ignore[call-overload]
post_save(Page, transition={"status": "draft"})  # type: ignore[dict-item]
post_save(Page, transition=[("status", 1, 2)])  # type: ignore[call-overload]
post_save(Page, creatd=True)  # type: ignore[call-overload]
post_save(Page, transition={Page.status: ("draft", 5)})  # pyright: ignore[reportCallIssue, reportArgumentType]
post_save(Page, transition={Page.views: (1, {"done"})})  # pyright: ignore[reportCallIssue, reportArgumentType]
post_save.connect(by_a_worker, durable=5)  # type: ignore[call-overload]
post_save.connect(by_a_worker, durable=Durable)  # type: ignore[call-overload]
post_save(Post)(of_comments)  # type: ignore[arg-type]
post_save(Post)(of_comments_only)  # type: ignore[arg-type]
post_save(Post, Guide)(of_comments_only)  # type: ignore[arg-type]
post_bulk_create(Post)(of_many_comments)  # type: ignore[arg-type]

# -- typed payloads -------------------------------------------------------------------------------


@typed_signal
def paid(sender: type[Post], *, amount: int, currency: str = "EUR") -> None:
    """Something has been paid."""


@paid.connect
async def thank(sender: type[Post], amount: int, **kwargs: Any) -> str:
    """Fits the example."""
    return str(amount)


@paid(Post, priority=1)
async def thank_first(sender: type[Post], amount: int, **kwargs: Any) -> str:
    """So does this."""
    return str(amount)


async def thank_wrongly(sender: type[Post], amount: str, **kwargs: Any) -> None:
    """Takes the amount for a text."""


paid.connect(thank_wrongly)  # type: ignore[arg-type]
paid(Post)(thank_wrongly)  # type: ignore[arg-type]


async def use() -> None:
    """Sending is checked, and results keep their types."""
    assert_type(await by_name(Post, instance=Post(), created=True), int)
    assert_type(await by_string(instance=Comment()), str)
    assert_type(await thank(Post, amount=1), str)
    await paid.send(Post, amount=1)
    paid.send_sync(Post, amount=1, currency="GBP")
    await paid.send(Post, amount="1")  # type: ignore[arg-type]
    await paid.send(Post)  # type: ignore[call-arg]

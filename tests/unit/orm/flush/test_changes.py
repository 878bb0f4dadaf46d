"""``changes``: what old values cost, and that they are right however they were lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import contextmanager
from typing import Any

import pytest
from kit import databases
from kit.models import Base, Post
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from aksara_signals import post_save, post_update, pre_save


@pytest.fixture
async def session(async_engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    await databases.create_all(async_engine, Base.metadata)
    async with AsyncSession(async_engine, expire_on_commit=False) as session:
        yield session


@contextmanager
def selects(session: AsyncSession) -> Any:
    """Notes the SELECTs of a session."""
    noted: list[str] = []
    engine = session.bind.sync_engine

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT"):
            noted.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield noted
    event.remove(engine, "before_cursor_execute", note)


def ask(seen: list[Any]) -> Any:
    """A receiver that names changes, before and after."""

    def receiver(changes: Any, **kwargs: Any) -> None:
        seen.append(dict(changes))

    for signal in (pre_save, post_save):
        signal.connect(receiver, Post)
    return receiver


async def test_what_is_known_is_not_read(session: AsyncSession) -> None:
    """Old values that the instance has cost no statement."""
    seen: list[Any] = []
    session.add(post := Post(title="old", slug="old", edited_at="x"))
    await session.commit()
    ask(seen)
    post.title, post.slug = "new", None
    post.edited_at = "y"  # else the database would set it
    with selects(session) as noted:
        await session.flush()
    assert noted == []
    assert seen == [{"title": ("old", "new"), "slug": ("old", None), "edited_at": ("x", "y")}] * 2


async def test_what_is_not_known_is_read_once(session: AsyncSession) -> None:
    """However many receivers ask, before and after."""
    seen: list[Any] = []
    session.add(post := Post(title="old", slug="old", edited_at="x"))
    await session.commit()
    ask(seen)
    post_update.connect(lambda changes, **kwargs: seen.append(dict(changes)), Post)
    session.expire(post, ["title", "slug"])
    post.title, post.slug, post.edited_at = "new", "new", "y"
    with selects(session) as noted:
        await session.flush()
    assert len(noted) == 1
    assert "post.title" in noted[0]
    assert "post.slug" in noted[0]
    assert "edited_at" not in noted[0]
    expected = {"title": ("old", "new"), "slug": ("old", "new"), "edited_at": ("x", "y")}
    assert seen == [expected] * 3


async def test_what_a_receiver_assigns_is_read_for_the_next_one(session: AsyncSession) -> None:
    """If that one is synchronous: between async ones no query can be made."""
    seen: list[Any] = []
    session.add(post := Post(title="old", slug="old", body="old", edited_at="x"))
    await session.commit()
    session.expire(post)

    @pre_save(Post)
    def change(instance: Post, **kwargs: Any) -> None:
        instance.slug = instance.body = "new"

    ask(seen)
    post.edited_at = "y"
    await session.flush()
    changes = {"slug": ("old", "new"), "body": ("old", "new"), "edited_at": ("x", "y")}
    assert seen == [changes] * 2


async def test_no_receiver_of_changes_causes_no_read(session: AsyncSession) -> None:
    """Old values are loaded for receivers that name changes only."""
    session.add(post := Post(title="old", edited_at="x"))
    await session.commit()
    called: list[str] = []
    post_save.connect(lambda **kwargs: called.append("called"), Post)
    session.expire(post, ["title"])
    post.title, post.edited_at = "new", "y"
    with selects(session) as noted:
        await session.flush()
    assert (noted, called) == ([], ["called"])


async def test_changes_cant_be_changed(session: AsyncSession) -> None:
    """They are shared by all receivers of the row."""
    errors: list[Exception] = []

    @post_save(Post)
    def change(changes: Any, **kwargs: Any) -> None:
        try:
            changes["title"] = 1
        except TypeError as error:
            errors.append(error)

    session.add(Post(title="x"))
    await session.flush()
    assert len(errors) == 1

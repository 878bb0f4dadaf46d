"""The provenance of writes: receivers are given what was in force at the flush."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from kit.databases import create_all
from kit.relationships import Base, Post, Tag
from sqlalchemy import Engine, event, insert, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

import aksara_signals
from aksara_signals import (
    Signal,
    m2m_changed,
    post_bulk_create,
    post_bulk_update,
    post_delete,
    post_init,
    post_relation_add,
    post_save,
    post_statement,
    post_update,
    pre_bulk_create,
    pre_bulk_update,
    pre_delete,
    pre_init,
    pre_relation_add,
    pre_save,
    pre_update,
    provenance,
)
from aksara_signals.orm.flush.recipients import recipients_of


@pytest.fixture
async def session(async_engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """A session on empty tables."""
    await create_all(async_engine, Base.metadata)
    async with AsyncSession(async_engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture
def given() -> list[Any]:
    """What receivers were given."""
    return []


@pytest.fixture
def note(given: list[Any]) -> Callable[[Signal], None]:
    """Connects a sync and an async receiver that note what they are given."""

    def connect(signal: Signal) -> None:
        def note_here(provenance: Any, **kwargs: Any) -> None:
            given.append((signal.name, dict(provenance), aksara_signals.provenance.current()))

        async def note_there(provenance: Any, **kwargs: Any) -> None:
            note_here(provenance)

        signal.connect(note_here)
        signal.connect(note_there)

    return connect


ACTOR = {"actor": 1}


async def test_receivers_of_a_flush_are_given_what_is_in_force_there(
    session: AsyncSession, note: Callable[[Signal], None], given: list[Any]
) -> None:
    """Sync and async ones, before and after it, in the greenlet and outside of it."""
    signals = (pre_save, pre_update, post_update, post_save, pre_delete, post_delete)
    for signal in signals:
        note(signal)
    async with provenance(actor=1):
        post = Post(title="x")
        session.add(post)
    async with provenance(actor=2):
        await session.commit()
    async with provenance(actor=3):
        post.title = "y"
        await session.flush()
    async with provenance(actor=4):
        await session.delete(post)
        await session.commit()
    assert given == [
        (name, {"actor": actor}, {"actor": actor})
        for actor, names in (
            (2, ("pre_save", "post_save")),
            (3, ("pre_save", "pre_update", "post_update", "post_save")),
            (4, ("pre_delete", "post_delete")),
        )
        for name in names
        for _ in range(2)
    ]


def test_a_plain_session_gives_the_same(
    sync_engine: Engine, note: Callable[[Signal], None], given: list[Any]
) -> None:
    """Outside of any greenlet."""
    Base.metadata.create_all(sync_engine)
    note(post_save)
    with Session(sync_engine) as session, provenance(actor=1):
        session.add(Post(title="x"))
        session.commit()
    assert given == [("post_save", ACTOR, ACTOR)] * 2


async def test_bulk_operations_carry_it(
    session: AsyncSession, note: Callable[[Signal], None], given: list[Any]
) -> None:
    """Before and after the fact."""
    for signal in (pre_bulk_create, post_bulk_create, pre_bulk_update, post_bulk_update):
        note(signal)
    async with provenance(actor=1):
        posts = await Post.objects.bulk_create([Post(title="x")], session=session)
        posts[0].title = "y"
        await Post.objects.bulk_update(posts, session=session)
    names = ("pre_bulk_create", "post_bulk_create", "pre_bulk_update", "post_bulk_update")
    assert given == [(name, ACTOR, ACTOR) for name in names for _ in range(2)]


async def test_statements_carry_it(
    session: AsyncSession, note: Callable[[Signal], None], given: list[Any]
) -> None:
    """The rows of a statement, and the statement itself; deferred receivers have that of theirs."""
    note(post_statement)

    @post_save(Post, statements=True, phase="after_commit")
    @post_save(Post, statements=True)
    def row(signal: Signal, provenance: Any, **kwargs: Any) -> None:
        given.append((signal.name, dict(provenance), aksara_signals.provenance.current()))

    async with provenance(actor=1):
        await session.execute(insert(Post).values(title="x"))
    async with provenance(actor=2):
        await session.execute(update(Post).values(title="y"))
    expected = [
        (name, {"actor": actor}, {"actor": actor})
        for actor in (1, 2)
        for name in ("post_save", "post_statement", "post_statement")
    ]
    assert sorted(given, key=str) == sorted(expected, key=str)
    given.clear()
    await session.commit()
    assert given == [("post_save", {"actor": each}, {"actor": each}) for each in (1, 2)]


async def test_links_carry_it(
    session: AsyncSession, note: Callable[[Signal], None], given: list[Any]
) -> None:
    """m2m_changed and the signals of relations."""
    for signal in (m2m_changed, pre_relation_add, post_relation_add):
        note(signal)
    async with provenance(actor=1):
        session.add(Post(title="x", tags=[Tag(name="t")]))
        await session.commit()
    names = {name for name, *_ in given}
    assert names == {"m2m_changed", "pre_relation_add", "post_relation_add"}
    assert all(each[1:] == (ACTOR, ACTOR) for each in given)


def test_constructors_carry_it(note: Callable[[Signal], None], given: list[Any]) -> None:
    """pre_init and post_init."""
    note(pre_init)
    note(post_init)
    with provenance(actor=1):
        Post(title="x")
    assert given == [(name, ACTOR, ACTOR) for name in ("pre_init", "post_init") for _ in range(2)]


async def test_concurrent_receivers_of_a_flush_are_given_it(
    session: AsyncSession, given: list[Any]
) -> None:
    """In tasks of their own."""

    @post_save(Post, concurrent=True)
    async def note(provenance: Any, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        given.append((provenance, aksara_signals.provenance.current()))

    async with provenance(actor=1):
        session.add(Post(title="x"))
        await session.commit()
    assert given == [(ACTOR, ACTOR)]


async def test_what_a_receiver_writes_has_what_it_adds(
    session: AsyncSession, given: list[Any]
) -> None:
    """The inner flush has both, the rest of the outer one does not."""

    @post_save(Post)
    async def tag(session: AsyncSession, **kwargs: Any) -> None:
        async with provenance(via="tag"):
            session.add(Tag(name="t"))
            await session.flush()

    @post_save()
    async def note(sender: type, provenance: Any, **kwargs: Any) -> None:
        given.append((sender, provenance))

    async with provenance(actor=1):
        session.add(Post(title="x"))
        await session.commit()
    assert given == [(Tag, {"actor": 1, "via": "tag"}), (Post, ACTOR)]


async def test_asking_for_it_asks_for_no_changes(session: AsyncSession, given: list[Any]) -> None:
    """An old value that isn't known is not read for it."""

    @pre_save(Post)
    @post_save(Post)
    def note(provenance: Any, **kwargs: Any) -> None:
        given.append(provenance)

    recipients = recipients_of(Post)
    for moment in (recipients.pre, recipients.post):
        assert not any(each.asks_for_changes for each in moment.values())
    post = Post(title="x")
    session.add(post)
    await session.commit()
    session.expire(post, ["title"])
    statements: list[str] = []
    bind = session.get_bind()
    event.listen(bind, "before_cursor_execute", lambda *given: statements.append(given[2]))
    post.title = "y"
    async with provenance(actor=1):
        await session.commit()
    assert given[-2:] == [ACTOR, ACTOR]
    assert [each for each in statements if each.startswith("SELECT")] == []


async def test_a_receiver_may_ask_for_both(session: AsyncSession, given: list[Any]) -> None:
    """Before the flush and after it."""

    @pre_save(Post)
    @post_save(Post)
    async def note(changes: Any, provenance: Any, **kwargs: Any) -> None:
        given.append((changes["title"], provenance))

    async with provenance(actor=1):
        session.add(Post(title="x"))
        await session.commit()
    assert given == [((None, "x"), ACTOR)] * 2

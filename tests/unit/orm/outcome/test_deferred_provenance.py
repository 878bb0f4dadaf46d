"""The provenance of deferred receivers: what was in force when the signal was sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kit.committing import COMMIT, ROLLBACK, Sessions
from kit.models import Audit, Author, Post
from sqlalchemy import event
from sqlalchemy.orm import Session

import aksara_signals
from aksara_signals import Signal, on_delivery_error, post_delete, post_save, provenance
from aksara_signals.orm import on_commit


@pytest.fixture
def given() -> list[Any]:
    """What receivers were given."""
    return []


async def test_it_is_captured_at_the_flush(sessions: Sessions, given: list[Any]) -> None:
    """Not at the commit; what is in force while the receiver runs is the same."""

    @post_save(Post, phase=COMMIT)
    async def note(instance: Post, provenance: Any, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        given.append((instance.title, provenance, aksara_signals.provenance.current()))

    @post_save(Post, phase=COMMIT)
    def note_here(**kwargs: Any) -> None:
        given.append(provenance.current())

    async with sessions() as session:
        async with provenance(actor=1):
            session.add(Post(title="a"))
            await session.flush()
        session.add(Post(title="b"))
        await session.flush()
        async with provenance(actor=2):
            session.add(Post(title="c"))
            await session.flush()
        async with provenance(actor=3):
            await session.commit()
            assert provenance.current() == {"actor": 3}
    one, none, two = {"actor": 1}, dict[str, Any](), {"actor": 2}
    assert given == [("a", one, one), one, ("b", none, none), none, ("c", two, two), two]


def test_a_plain_session_captures_it_too(session: Session, given: list[Any]) -> None:
    """What was in force at the commit is so again afterwards, whatever the receivers do."""

    @post_save(Post, phase=COMMIT)
    def note(provenance: Any, **kwargs: Any) -> None:
        given.append((provenance, aksara_signals.provenance.current()))
        aksara_signals.provenance(forgotten=True).__enter__()

    with provenance(actor=1):
        session.add(Post(title="a"))
        session.flush()
    session.add(Post(title="b"))
    session.flush()
    with provenance(actor=2):
        session.commit()
        assert provenance.current() == {"actor": 2}
    assert given == [({"actor": 1}, {"actor": 1}), ({}, {})]
    assert provenance.current() == {}


async def test_after_a_rollback(sessions: Sessions, given: list[Any]) -> None:
    """The same."""

    @post_save(Post, phase=ROLLBACK)
    async def note(provenance: Any, **kwargs: Any) -> None:
        given.append(provenance)

    async with sessions() as session:
        async with provenance(actor=1):
            session.add(Post(title="a"))
            await session.flush()
        await session.rollback()
    assert given == [{"actor": 1}]


async def test_concurrent_receivers_and_those_with_a_time_limit(
    sessions: Sessions, given: list[Any]
) -> None:
    """Each of their tasks has the values of its own delivery."""

    @post_save(Post, phase=COMMIT, concurrent=True)
    async def at_once(instance: Post, provenance: Any, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        given.append((instance.title, provenance, aksara_signals.provenance.current()))

    @post_save(Post, phase=COMMIT, timeout_seconds=60)
    async def in_time(instance: Post, provenance: Any, **kwargs: Any) -> None:
        given.append((instance.title, provenance, aksara_signals.provenance.current()))

    async with sessions() as session:
        for actor in (1, 2):
            async with provenance(actor=actor):
                session.add(Post(title=str(actor)))
                await session.flush()
        await session.commit()
    one, two = {"actor": 1}, {"actor": 2}
    assert given == [("1", one, one), ("2", two, two)] * 2


async def test_what_a_deferred_receiver_writes_carries_it_on(
    sessions: Sessions, given: list[Any]
) -> None:
    """In a session of its own, and to deferred receivers of that, too."""

    @post_save(Post, phase=COMMIT)
    async def write(instance: Post, **kwargs: Any) -> None:
        async with provenance(via="write"), sessions.begin() as session:
            session.add(Audit(text=instance.title))

    @post_save(Audit, phase=COMMIT)
    async def note(provenance: Any, **kwargs: Any) -> None:
        given.append(provenance)

    async with sessions() as session:
        async with provenance(actor=1):
            session.add(Post(title="a"))
            await session.flush()
        await session.commit()
    assert given == [{"actor": 1, "via": "write"}]


def test_a_callback_has_that_of_its_registration(session: Session, given: list[Any]) -> None:
    """on_commit() takes functions without parameters; they read it."""
    with provenance(actor=1):
        on_commit(session, lambda: given.append(provenance.current()))
    session.add(Author(name="a"))
    session.commit()
    assert given == [{"actor": 1}]


def test_a_signal_sent_by_hand_captures_it(session: Session, given: list[Any]) -> None:
    """At the send; an argument of that name takes its place."""
    paid = Signal("paid")

    @paid.connect(phase=COMMIT)
    def note(provenance: Any, **kwargs: Any) -> None:
        given.append((provenance, aksara_signals.provenance.current()))

    with provenance(actor=1):
        paid.send_sync(None, session=session)
        paid.send_sync(None, session=session, provenance="mine")
    session.add(Author(name="a"))
    session.commit()
    assert given == [({"actor": 1}, {"actor": 1}), ("mine", {"actor": 1})]


def test_the_net_has_the_last_one(session: Session, given: list[Any]) -> None:
    """Of all that is combined, also where the net has no provenance."""

    @post_save(Post, phase=COMMIT, coalesce=True)
    @post_delete(Post, phase=COMMIT, coalesce=True)
    def note(signal: Signal, provenance: Any, **kwargs: Any) -> None:
        given.append((signal.name, provenance))

    def write(post: Post, title: str, **values: object) -> None:
        with provenance(**values):
            post.title = title
            session.add(post)
            session.flush()

    post = Post(title="a")
    write(post, "a", actor=1, request="x")
    write(post, "b", actor=2)
    session.commit()
    write(post, "c", actor=3)
    write(post, "d")
    session.commit()
    assert given == [("post_save", {"actor": 2}), ("post_save", {})]


def test_the_net_of_deletes_has_the_last_one(session: Session, given: list[Any]) -> None:
    """A row that is deleted, created again and deleted."""

    @post_delete(Post, phase=COMMIT, coalesce=True)
    def note(provenance: Any, **kwargs: Any) -> None:
        given.append(provenance)

    session.add(Post(id=1, title="a"))
    session.commit()
    for actor in (1, 2):
        with provenance(actor=actor):
            session.delete(session.get_one(Post, 1))
            session.flush()
        if actor == 1:
            session.add(Post(id=1, title="a"))
            session.flush()
    session.commit()
    assert given == [{"actor": 2}]


async def test_the_report_of_a_failure_has_it(sessions: Sessions, given: list[Any]) -> None:
    """Receivers of on_delivery_error are given that of the failed delivery."""

    @post_save(Post, phase=COMMIT)
    async def fail(**kwargs: Any) -> None:
        raise LookupError

    @on_delivery_error.connect
    async def note(provenance: Any, **kwargs: Any) -> None:
        given.append(provenance)

    try:
        async with sessions() as session:
            for actor in (1, 2):
                async with provenance(actor=actor):
                    session.add(Post(title="a"))
                    await session.flush()
            await session.commit()
    finally:
        on_delivery_error.disconnect(note)
    assert given == [{"actor": 1}, {"actor": 2}]


def test_the_report_of_a_copy_that_can_not_be_made_has_it(
    session: Session, given: list[Any]
) -> None:
    """Its receiver is not called."""

    def fail(instance: Post, context: Any) -> None:
        raise LookupError

    @post_save(Post, phase=COMMIT)
    def never(**kwargs: Any) -> None:
        given.append("called")

    @on_delivery_error.connect
    def note(provenance: Any, **kwargs: Any) -> None:
        given.append(provenance)

    with provenance(actor=1):
        session.add(Post(title="a"))
        session.flush()
    event.listen(Post, "load", fail)
    try:
        session.commit()
    finally:
        event.remove(Post, "load", fail)
        on_delivery_error.disconnect(note)
    assert given == [{"actor": 1}]

"""Receivers that wait for the outcome: which of them are called, and with what, by one flush."""

from __future__ import annotations

from typing import Any

from kit.models import Audit, Author, Post, Promise
from kit.support import Recorder
from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from aksara_signals import Signal, on_delivery_error, post_delete, post_save

COMMIT = "after_commit"
Sessions = async_sessionmaker[AsyncSession]


async def test_only_a_later_class_of_a_flush_has_one(
    sessions: Sessions, recorder: Recorder
) -> None:
    """Classes without a receiver that waits, in front of it and behind it, take nothing away."""
    recorder.record(post_save, Audit)  # has a receiver, but none that waits
    recorder.record(post_save, Post, phase=COMMIT)
    async with sessions.begin() as session:
        session.add_all([Author(name="a"), Audit(text="b"), Post(title="c"), Audit(text="d")])
    instances = [call.payload["instance"] for call in recorder.calls]
    assert [type(each) for each in instances] == [Audit, Audit, Post]
    assert instances[-1].title == "c"


async def test_each_class_of_a_flush_has_one(sessions: Sessions, recorder: Recorder) -> None:
    """All are called, in the order of the flush; created and deleted rows are distinguished."""
    async with sessions.begin() as session:
        session.add_all([author := Author(name="old"), doomed := Audit(text="doomed")])
    recorder.record(post_save, phase=COMMIT)
    recorder.record(post_delete, phase=COMMIT)
    async with sessions.begin() as session:
        session.add_all([author, doomed])
        author.name = "new"
        session.add(Post(title="x"))
        await session.delete(doomed)
    sent = [
        (call.signal, call.sender, call.payload.get("created"), call.payload["instance"].id)
        for call in recorder.calls
    ]
    assert sorted(sent, key=str) == [
        ("post_delete", Audit, None, 1),
        ("post_save", Author, False, 1),
        ("post_save", Post, True, 1),
    ]


async def test_a_long_chain_of_commits_with_sends_inside(sessions: Sessions) -> None:
    """Only what stands on one stack counts as deep: each commit begins a stack of its own."""
    again = Signal("again", providing_args=["number"])
    seen: list[int] = []

    @post_save(Audit, phase=COMMIT)
    async def send_again(instance: Audit, **kwargs: Any) -> None:
        await again.send(Audit, number=int(instance.text))

    @again.connect
    async def write_another(number: int, **kwargs: Any) -> None:
        seen.append(number)
        if number < 60:
            async with sessions.begin() as session:
                session.add(Audit(text=str(number + 1)))

    async with sessions.begin() as session:
        session.add(Audit(text="1"))
    assert seen == list(range(1, 61))


async def test_a_failure_is_reported_with_what_was_sent(
    sessions: Sessions, reported: list[dict[str, Any]]
) -> None:
    """``payload`` is what the receiver was sent; signal and sender have places of their own."""

    @post_save(Post, phase=COMMIT)
    async def fail(**kwargs: Any) -> None:
        raise ZeroDivisionError

    async with sessions.begin() as session:
        session.add(Post(title="x"))
    [report] = reported
    assert report["sender"] is Post
    assert report["signal"] is on_delivery_error
    assert report["failed_signal"] is post_save
    assert report["connection"].receiver is fail
    assert set(report["payload"]) == {"instance", "created", "update_fields", "session", "raw"}


async def test_a_failure_of_a_later_receiver_is_reported_beside_the_others(
    sessions: Sessions, reported: list[dict[str, Any]], recorder: Recorder
) -> None:
    """The receivers before and after it are called once."""
    recorder.record(post_save, Promise, phase=COMMIT)

    @post_save(Promise, phase=COMMIT)
    async def fail(**kwargs: Any) -> None:
        raise ZeroDivisionError

    recorder.record(post_save, Promise, phase=COMMIT)
    async with sessions.begin() as session:
        session.add_all([Author(id=1, name="a"), Promise(author_id=1)])
    assert len(recorder.calls) == 2
    assert [type(report["error"]) for report in reported] == [ZeroDivisionError]


async def test_sql_is_known_to_receivers_that_wait(sessions: Sessions, recorder: Recorder) -> None:
    """The copy has what the database has worked out."""
    recorder.record(post_save, Post, phase=COMMIT)
    async with sessions.begin() as session:
        session.add(Post(title=func.lower("TITLE")))
    assert [call.payload["instance"].title for call in recorder.calls] == ["title"]

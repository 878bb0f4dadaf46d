"""What a flush queues for deferred receivers: which rows, with which notes beside them."""

from __future__ import annotations

from typing import Any

from kit.models import Audit, Base
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from aksara_signals import post_delete, post_save
from aksara_signals.orm.outcome.entries import Queued, Written
from aksara_signals.orm.outcome.queue import entries_in
from aksara_signals.orm.outcome.rows import QueuedRows

COMMIT = "after_commit"


def kinds_of(session: Session) -> list[type]:
    """The kinds of the entries of a session, in order."""
    return [type(each) for each in entries_in(session)]


def connect(text: str, seen: list[Any], signal: Any = post_save, **options: Any) -> None:
    """Connect a deferred receiver that notes what it is sent."""

    def note(instance: Audit, **kwargs: Any) -> None:
        seen.append((text, instance.id, instance.text))

    signal.connect(note, sender=Audit, phase=COMMIT, weak=False, **options)


def two_audits(engine: Engine) -> Session:
    """A session with two new rows that have been flushed."""
    Base.metadata.create_all(engine)
    session = Session(engine)
    session.add_all([Audit(id=1, text="a"), Audit(id=2, text="a")])
    session.flush()
    return session


def test_rows_of_which_nobody_is_sent_the_net_take_one_entry(sync_engine: Engine) -> None:
    """What they share stands once, and no note of a write is made."""
    seen: list[Any] = []
    connect("each", seen)
    with two_audits(sync_engine) as session:
        assert kinds_of(session) == [QueuedRows]
        session.commit()
    assert seen == [("each", 1, "a"), ("each", 2, "a")]


def test_rows_of_which_a_receiver_is_sent_the_net_have_notes(sync_engine: Engine) -> None:
    """Each row is noted as written, and is an entry for each receiver, also for the others."""
    seen: list[Any] = []
    connect("each", seen)
    connect("net", seen, coalesce=True)
    with two_audits(sync_engine) as session:
        assert kinds_of(session) == [Written, Queued, Queued] * 2
        session.commit()
    assert sorted(seen) == [(text, key, "a") for text in ("each", "net") for key in (1, 2)]


def test_rows_are_noted_for_a_receiver_of_another_signal(sync_engine: Engine) -> None:
    """The net of a row depends on all its writes, also on those that this receiver isn't sent."""
    seen: list[Any] = []
    connect("saved", seen)
    connect("deleted", seen, post_delete, coalesce=True)
    with two_audits(sync_engine) as session:
        first, second = (each for each in entries_in(session) if isinstance(each, Written))
        assert {first.key, second.key} == {
            Audit.__mapper__.identity_key_from_primary_key((key,)) for key in (1, 2)
        }
        session.delete(session.get_one(Audit, 1))
        session.commit()
    assert seen == [("saved", 1, "a"), ("saved", 2, "a")], "of the first, the net is nothing"


def test_only_rows_that_a_filter_lets_through_are_queued(sync_engine: Engine) -> None:
    """A row that no receiver is called for takes nothing until the commit."""
    seen: list[Any] = []
    connect("b", seen, transition={"text": ("a", "b")})
    with two_audits(sync_engine) as session:
        for audit, text in zip(session.query(Audit).order_by(Audit.id), ("b", "c"), strict=True):
            audit.text = text
        session.flush()
        [rows] = entries_in(session)
        assert isinstance(rows, QueuedRows)
        assert len(rows.keys) == 1
        session.commit()
    assert seen == [("b", 1, "b")]


def test_a_deleted_row_is_queued_by_the_key_that_it_had(sync_engine: Engine) -> None:
    """A key that was changed and never written isn't that of the row."""
    seen: list[Any] = []
    connect("deleted", seen, post_delete)
    with two_audits(sync_engine) as session:
        audit = session.get_one(Audit, 1)
        with session.no_autoflush:
            audit.id = 5
            session.delete(audit)
        session.commit()
    assert seen == [("deleted", 1, "a")]

"""Rows that wait together: which of them share an entry, and in which order they are sent."""

from __future__ import annotations

from functools import partial
from typing import Any

from kit.models import Audit, Author, Base, Post
from sqlalchemy import Engine
from sqlalchemy.orm import Session, load_only

from aksara_signals import post_save, post_update, provenance
from aksara_signals.orm.outcome.queue import _QUEUE, Queue, queued_for_commit
from aksara_signals.orm.outcome.rows import QueuedRows
from aksara_signals.testing import as_if_committed

COMMIT, ROLLBACK = "after_commit", "after_rollback"


def entries_of(session: Session) -> list[Any]:
    """All entries of the queue of a session."""
    queue: Queue = vars(session)[_QUEUE]
    return [each for _, entries in queue.lists() for each in entries]


def rows_of(session: Session) -> list[int]:
    """The number of rows of each entry."""
    entries = entries_of(session)
    assert all(isinstance(each, QueuedRows) for each in entries)
    return [len(each.keys) for each in entries]


def test_rows_of_a_flush_and_of_the_next_one_share_an_entry(sync_engine: Engine) -> None:
    """A transaction of many flushes takes no more for each row than one of a single flush."""
    post_save.connect(lambda **kwargs: None, sender=Audit, phase=COMMIT)
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        for size in (3, 1, 2):
            session.add_all([Audit(text="a") for _ in range(size)])
            session.flush()
        assert rows_of(session) == [6]


def test_rows_with_something_of_their_own_have_another_entry(sync_engine: Engine) -> None:
    """Another kind of change, other known columns, another provenance: each row is sent its own."""
    seen: list[Any] = []

    @post_save(Author, phase=COMMIT)
    def note(instance: Author, created: bool, provenance: Any, **kwargs: Any) -> None:
        known = {key for key in ("id", "name") if key in vars(instance)}
        seen.append((instance.id, created, known, dict(provenance)))

    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        session.add_all([first := Author(id=1, name="a"), Author(id=2, name="b")])
        session.flush()
        with provenance(actor=1):
            session.add(Author(id=3, name="c"))
            session.flush()
        first.name = "d"
        session.flush()
        assert rows_of(session) == [2, 1, 1]
        session.commit()
    both = {"id", "name"}
    assert seen == [
        (1, True, both, {}),
        (2, True, both, {}),
        (3, True, both, {"actor": 1}),
        (1, False, both, {}),
    ]


def test_rows_of_which_other_columns_are_known(sync_engine: Engine) -> None:
    """Each copy has the columns of its own row, and names what it lacks."""
    seen: list[Any] = []

    @post_save(Post, phase=COMMIT)
    def note(instance: Post, **kwargs: Any) -> None:
        seen.append((instance.id, instance.title, vars(instance).get("body", "not loaded")))

    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session, session.begin():
        session.add_all([Post(id=each, title="a", body="b") for each in (1, 2, 3)])
    seen.clear()
    with Session(sync_engine) as session, session.begin():
        posts = [session.get_one(Post, each) for each in (1, 2, 3)]
        assert posts[1].body == "b"  # loads it
        for post in posts:
            post.title = "c"
        session.flush()
        assert rows_of(session) == [1, 1, 1]
    assert seen == [(1, "c", "not loaded"), (2, "c", "b"), (3, "c", "not loaded")]


def test_a_row_is_sent_to_all_its_receivers_before_the_next_one(sync_engine: Engine) -> None:
    """One signal after the other, with a copy for each receiver."""
    seen: list[Any] = []
    copies: list[Any] = []

    def note(signal: Any, instance: Audit, **kwargs: Any) -> None:
        seen.append((instance.id, signal.name))
        copies.append(instance)

    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        session.add_all(audits := [Audit(id=1, text="a"), Audit(id=2, text="a")])
        session.commit()
        for signal, phase in (
            (post_update, COMMIT),
            (post_save, COMMIT),
            (post_save, ROLLBACK),
            (post_save, COMMIT),
        ):
            signal.connect(partial(note), sender=Audit, phase=phase)
        for audit in audits:
            audit.text = "b"
        session.flush()
        assert len(queued_for_commit()) == 6
        session.commit()
    names = ["post_update", "post_save", "post_save"]
    assert seen == [(number, name) for number in (1, 2) for name in names]
    assert len(set(map(id, copies))) == 6


def test_rows_of_a_savepoint_are_undone_together(sync_engine: Engine) -> None:
    """Rows after it don't share the entry of those, nor does what a released one has written."""
    seen: list[Any] = []
    for phase in (COMMIT, ROLLBACK):
        post_save.connect(
            lambda instance, phase=phase, **kwargs: seen.append((phase, instance.text)),
            sender=Audit,
            phase=phase,
        )
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        session.add(Audit(text="before"))
        session.flush()
        for text, is_kept in (("undone", False), ("released", True)):
            savepoint = session.begin_nested()
            session.add_all([Audit(text=text), Audit(text=text)])
            session.flush()
            savepoint.commit() if is_kept else savepoint.rollback()
            session.add(Audit(text="after"))
            session.flush()
        session.commit()
    assert seen == [
        (COMMIT, "before"),
        (ROLLBACK, "undone"),
        (ROLLBACK, "undone"),
        (COMMIT, "after"),
        (COMMIT, "released"),
        (COMMIT, "released"),
        (COMMIT, "after"),
    ]


def test_rows_before_a_block_are_not_delivered_with_those_in_it(sync_engine: Engine) -> None:
    """``as_if_committed()`` delivers what its block has queued, and the rest waits."""
    seen: list[str] = []
    post_save.connect(
        lambda instance, **kwargs: seen.append(instance.text), sender=Audit, phase=COMMIT
    )
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        session.add(Audit(text="before"))
        session.flush()
        with as_if_committed(session):
            session.add(Audit(text="inside"))
            session.flush()
        assert seen == ["inside"]
        session.commit()
    assert seen == ["inside", "before"]


def test_a_query_that_leaves_columns_out(sync_engine: Engine) -> None:
    """The columns are loaded before rows wait, so all of them share an entry."""
    post_save.connect(lambda **kwargs: None, sender=Author, phase=COMMIT)
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session:
        session.add_all([Author(name="a"), Author(name="b")])
        session.commit()
        for author in session.query(Author).options(load_only(Author.id)):
            author.name = "c"
        session.flush()
        assert rows_of(session) == [2]

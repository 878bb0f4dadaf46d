"""Links of a many-to-many relationship, against plain SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator
from time import process_time
from typing import Any

from harness import Comparison, OwnTime, compare
from models import (
    PlainPost,
    PlainTag,
    SendingPost,
    SendingTag,
    connected,
    look_sync,
    make_engine,
)
from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from aksara_signals import m2m_changed

LINKS = 4_000


def rows() -> Iterator[Comparison]:
    """The comparison."""
    engine = make_linked_engine(LINKS)
    with connected((m2m_changed, look_sync), sender=SendingPost.tags):
        yield compare(
            "4,000 many-to-many links added to one instance, one function, "
            "against plain SQLAlchemy",
            1.5,
            ours=linking(engine, SendingPost, SendingTag, LINKS),
            reference=linking(engine, PlainPost, PlainTag, LINKS),
            rounds=12,
        )
    engine.dispose()


def make_linked_engine(tags: int) -> Engine:
    """A database with one post and as many tags, of both kinds."""
    engine = make_engine()
    with Session(engine) as session:
        for post, tag in ((PlainPost, PlainTag), (SendingPost, SendingTag)):
            session.execute(insert(post.__table__), [{"id": 1}])
            session.execute(insert(tag.__table__), [{"id": n + 1} for n in range(tags)])
        session.commit()
    return engine


def linking(engine: Engine, post_class: Any, tag_class: Any, count: int) -> OwnTime:
    """A job of which the change of the collection and the flush count."""

    def once() -> float:
        with Session(engine) as session:
            tags = session.scalars(select(tag_class).limit(count)).all()
            post = session.get_one(post_class, 1)
            assert not post.tags  # which loads the collection
            start = process_time()
            post.tags.extend(tags)
            session.flush()
            taken = process_time() - start
            session.rollback()
        return taken

    return OwnTime(once)

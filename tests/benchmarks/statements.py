"""ORM statements whose rows are sent, against loops by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness import Comparison, Job, compare
from models import Plain, Sending, look_sync, make_engine
from sqlalchemy import Engine, insert, select, update
from sqlalchemy.orm import Session, make_transient_to_detached

from aksara_signals import post_save

COUNTS = (1_000, 10_000)


def rows() -> Iterator[Comparison]:
    """The comparisons of statements."""
    engine = make_engine()
    yield _select(engine)
    for count in COUNTS:
        yield _update(engine, count)
    engine.dispose()


def _select(engine: Engine) -> Comparison:
    def read(model: Any) -> Job:
        def once() -> None:
            with Session(engine) as session:
                for _ in range(20):
                    session.scalars(select(model).where(model.id == 1)).all()

        return once

    with post_save.connected_to(look_sync, sender=Sending):
        return compare(
            "20 SELECTs while nobody asks for statements, against no mixin",
            1.0,
            ours=read(Sending),
            reference=read(Plain),
            rounds=200,
        )


def _update(engine: Engine, count: int) -> Comparison:
    with Session(engine) as session:
        for model in (Plain, Sending):
            session.execute(update(model).values(title="x"))
            present = len(session.scalars(select(model.id)).all())
            written = [{"title": "x"} for _ in range(count - present)]
            session.execute(insert(model), written)
        session.commit()

    def ours() -> None:
        with Session(engine) as session:
            session.execute(update(Sending).values(title="y"))

    def by_hand() -> None:
        with Session(engine) as session:
            statement = update(Plain).values(title="y").returning(*Plain.__table__.c)
            for row in session.execute(statement).all():
                instance = Plain(**row._mapping)
                make_transient_to_detached(instance)
                look_sync(
                    signal=post_save,
                    sender=Plain,
                    instance=instance,
                    created=False,
                    update_fields=None,
                    session=session,
                    raw=False,
                )

    with post_save.connected_to(look_sync, sender=Sending, statements=True):
        return compare(
            f"an UPDATE of {count:,} rows with a receiver, against a loop by hand over RETURNING",
            1.4,
            ours=ours,
            reference=by_hand,
            rounds=max(8, 40_000 // count),
        )

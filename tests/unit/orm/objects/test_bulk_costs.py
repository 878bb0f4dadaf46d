"""What bulk operations cost for each row."""

from __future__ import annotations

from typing import Any

from kit.costs import calls_of
from kit.models import Audit, Base
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from aksara_signals import post_bulk_create


def receive(**kwargs: Any) -> None:
    """A receiver that does nothing."""


def drive(coroutine: Any) -> None:
    """Run a coroutine that never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it had to wait")


def test_bulk_create_calls_no_function_for_each_row() -> None:
    """Each of 10,000 rows would pay for it: what concerns a class is asked once for a class."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    post_bulk_create.connect(receive, sender=Audit)

    def cost(size: int) -> int:
        audits = [Audit(text="row") for _ in range(size)]
        with Session(engine) as session:
            return calls_of(lambda: drive(Audit.objects.bulk_create(audits, session=session)))

    cost(10)  # what is worked out once
    try:
        assert cost(300) - cost(100) < 20
    finally:
        engine.dispose()

"""Receivers of the rows of statements that are called only for certain changes."""

from __future__ import annotations

from typing import Any

from kit.committing import COMMIT
from kit.tickets import Base, Place, Ticket
from sqlalchemy import Engine, insert, update
from sqlalchemy.orm import Session

from aksara_signals import post_save, post_update

FILTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "status": {"fields": ["status", "level"]},
    "open": {"transition": {"status": ("new", "open")}},
    "new": {"transition": {"status": (None, "new")}},
    "moved": {"transition": {"place": (Place("A", 1), Place("A", 2))}},
}


def test_the_rows_of_statements_are_judged_one_by_one(sync_engine: Engine) -> None:
    """At once, after the commit, and for the net; a default that the statement doesn't name is in
    the row, and was not set."""
    Base.metadata.create_all(sync_engine)
    called: list[tuple[str, int]] = []

    def connect(signal: Any, name: str, **options: Any) -> None:
        def note(instance: Ticket, **kwargs: Any) -> None:
            called.append((name, instance.id))

        signal.connect(note, Ticket, statements=True, **options)

    for name, options in FILTERS.items():
        connect(post_save, name, **options)
        connect(post_update, f"{name} update", **options)
        connect(post_save, f"{name} later", phase=COMMIT, **options)
        connect(post_save, f"{name} net", phase=COMMIT, coalesce=True, **options)

    def take(ending: str = "") -> list[tuple[str, int]]:
        wanted = {f"{name}{ending}": name for name in FILTERS}
        return [(wanted[name], key) for name, key in called if name in wanted]

    with Session(sync_engine) as session:
        rows = [{"id": key, "building": "A", "room": 1} for key in (1, 2)]
        session.execute(insert(Ticket), rows)
        assert sorted(take()) == [("all", 1), ("all", 2), ("new", 1), ("new", 2)]
        session.commit()
        for ending in (" later", " net"):
            assert sorted(take(ending)) == [("all", 1), ("all", 2), ("new", 1), ("new", 2)]
        assert take(" update") == []
        called.clear()
        session.execute(update(Ticket).where(Ticket.id == 2).values(status="done"))
        session.execute(update(Ticket).values(room=Ticket.room + 1).where(Ticket.id == 1))
        session.execute(update(Ticket).where(Ticket.id == 1).values(status="open", level=None))
        expected = [
            ("all", 2),
            ("status", 2),
            ("all", 1),
            ("moved", 1),
            ("all", 1),
            ("status", 1),
            ("open", 1),
        ]
        assert take() == take(" update") == expected
        session.commit()
        assert take(" later") == expected
        assert sorted(take(" net")) == [
            ("all", 1),
            ("all", 2),
            ("moved", 1),
            ("open", 1),
            ("status", 1),
            ("status", 2),
        ]

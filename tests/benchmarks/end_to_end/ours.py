"""This library: a session, as with SQLAlchemy alone."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase

from aksara_signals import post_save
from aksara_signals.orm import SignalMixin
from end_to_end.by_session import BySession, NoteColumns
from end_to_end.library import main, received


class Base(SignalMixin, DeclarativeBase):
    pass


class Note(NoteColumns, Base):
    pass


class Ours(BySession):
    """Writes by a session."""

    note = Note

    def connect(self) -> None:
        post_save.connect(received, sender=Note)


if __name__ == "__main__":
    main(Ours())

"""What a flush would write, worked out before it does."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from aksara_signals.orm import SignalMixin
from aksara_signals.orm.prediction import Prediction


class Base(SignalMixin, DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "predicted_note"

    id: Mapped[int] = mapped_column(primary_key=True)


def test_a_flush_of_some_objects_tells_of_these() -> None:
    """SQLAlchemy 2.0 can restrict a flush; the rest is left for the next one."""
    session = Session()
    notes = [Note(id=number) for number in range(3)]
    session.add_all(notes)
    some = Prediction(session, lambda cls: cls is Note, notes[1:2], {}).changes()
    everything = Prediction(session, lambda cls: cls is Note, None, {}).changes()
    assert [change.instance for change in some] == notes[1:2]
    assert [change.instance for change in everything] == notes

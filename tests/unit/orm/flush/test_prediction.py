"""What a flush would write, worked out before it does."""

from __future__ import annotations

from typing import Any

import pytest
from kit.support import Recorder
from sqlalchemy import Engine, ForeignKey, select
from sqlalchemy.exc import SAWarning
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    make_transient,
    mapped_column,
    relationship,
)

from aksara_signals import post_delete, post_save, pre_delete, pre_save
from aksara_signals.orm import SignalMixin
from aksara_signals.orm.flush.prediction import Prediction
from aksara_signals.orm.flush.recipients import FlushRecipients


class Base(SignalMixin, DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "predicted_note"

    id: Mapped[int] = mapped_column(primary_key=True)


def test_a_flush_of_some_objects_predicts_these() -> None:
    """SQLAlchemy 2.0 can restrict a flush; the rest is left for the next one."""
    session = Session()
    notes = [Note(id=number) for number in range(3)]
    session.add_all(notes)
    with pre_save.connected_to(lambda **kwargs: None, Note):
        some = Prediction(session, FlushRecipients(), notes[1:2], {}, {}).changes()
        everything = Prediction(session, FlushRecipients(), None, {}, {}).changes()
    assert [change.instance for change in some] == notes[1:2]
    assert [change.instance for change in everything] == notes


# SQLAlchemy 2.1 says that it will be gone one day.
@pytest.mark.filterwarnings("ignore:The .objects. parameter")
def test_a_flush_of_some_deleted_objects(sync_engine: Engine, recorder: Recorder) -> None:
    """Whatever else was deleted, changed or added is left for the next flush, which sends it."""
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine, expire_on_commit=False) as session:
        notes = [Note(id=number) for number in (1, 2, 3)]
        session.add_all(notes)
        session.commit()
        for signal in (pre_save, post_save, pre_delete, post_delete):
            recorder.record(signal, Note, sync=True)
        for note in notes:
            session.delete(note)
        session.add(Note(id=7))
        session.flush(notes[1:2])
        assert _sent(recorder) == [("pre_delete", 2), ("post_delete", 2)]
        recorder.clear()
        session.commit()
        assert sorted(_sent(recorder)) == [
            ("post_delete", 1),
            ("post_delete", 3),
            ("post_save", 7),
            ("pre_delete", 1),
            ("pre_delete", 3),
            ("pre_save", 7),
        ]
        assert session.scalars(select(Note.id)).all() == [7]


class Folder(Base):
    __tablename__ = "predicted_folder"

    id: Mapped[int] = mapped_column(primary_key=True)
    sheets: Mapped[list[Sheet]] = relationship(cascade="all, delete-orphan")


class Sheet(Base):
    __tablename__ = "predicted_sheet"

    id: Mapped[int] = mapped_column(primary_key=True)
    folder_id: Mapped[int] = mapped_column(ForeignKey("predicted_folder.id"))
    lines: Mapped[list[Line]] = relationship(cascade="all, delete-orphan")


class Line(Base):
    __tablename__ = "predicted_line"

    id: Mapped[int] = mapped_column(primary_key=True)
    sheet_id: Mapped[int] = mapped_column(ForeignKey("predicted_sheet.id"))


def test_what_an_orphan_without_a_row_owns_is_deleted(
    sync_engine: Engine, recorder: Recorder
) -> None:
    """One that was made transient is not, but takes along what it has, as SQLAlchemy writes it."""
    Base.metadata.create_all(sync_engine)
    with Session(sync_engine, expire_on_commit=False) as session:
        session.add(folder := Folder(id=1, sheets=[Sheet(id=1), Sheet(id=2)]))
        folder.sheets[0].lines.append(Line(id=3))
        session.commit()
        for signal in (pre_delete, post_delete):
            recorder.record(signal, Sheet, sync=True)
            recorder.record(signal, Line, sync=True)
        make_transient(folder.sheets[0])
        folder.sheets.clear()
        with pytest.warns(SAWarning, match="not in session"):
            session.commit()
        sent = _sent(recorder)
        assert sorted(sent[:2]) == [("pre_delete", 2), ("pre_delete", 3)]
        assert sorted(sent[2:]) == [("post_delete", 2), ("post_delete", 3)]
        assert session.scalars(select(Sheet.id)).all() == [1]
        assert session.scalars(select(Line.id)).all() == []


def _sent(recorder: Recorder) -> list[tuple[str, Any]]:
    return [(call.signal, call.payload["instance"].id) for call in recorder.calls]

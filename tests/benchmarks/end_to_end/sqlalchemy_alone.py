"""SQLAlchemy's own listeners: functions that can't await."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase

from end_to_end.by_session import BySession, NoteColumns
from end_to_end.library import main, received_sync


class Base(DeclarativeBase):
    pass


class Note(NoteColumns, Base):
    pass


class SQLAlchemyAlone(BySession):
    """Writes by a session."""

    note = Note

    def connect(self) -> None:
        event.listen(Note, "after_insert", self._inserted)

    def _inserted(self, mapper: Any, connection: Any, target: Note) -> None:
        received_sync(Note, instance=target, created=True)


if __name__ == "__main__":
    main(SQLAlchemyAlone())

"""ormar, with an async receiver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ormar
import sqlalchemy
from ormar.databases.connection import DatabaseConnection

from end_to_end.library import main, received


class Ormar:
    """Writes by ``create()``, in a transaction."""

    async def open(self, path: Path, *, receiving: bool) -> None:
        self._database = DatabaseConnection(f"sqlite+aiosqlite:///{path}")
        config = ormar.OrmarConfig(
            metadata=sqlalchemy.MetaData(), database=self._database, tablename="note"
        )

        class Note(ormar.Model):
            ormar_config = config

            id: int = ormar.Integer(primary_key=True)
            title: str = ormar.String(max_length=100)
            views: int = ormar.Integer(default=0)

        self._note: Any = Note
        await self._database.connect()
        if receiving:
            config.signals.post_save.connect(received)

    async def rows(self, count: int) -> None:
        async with self._database.transaction():
            for _ in range(count):
                await self._note.objects.create(title="x")

    async def close(self) -> None:
        await self._database.disconnect()


if __name__ == "__main__":
    main(Ormar())

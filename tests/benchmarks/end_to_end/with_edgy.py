"""Edgy, with an async receiver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import edgy

from end_to_end.library import main, received


class Edgy:
    """Writes by ``create()``, in a transaction."""

    async def open(self, path: Path, *, receiving: bool) -> None:
        registry = edgy.Registry(database=f"sqlite+aiosqlite:///{path}")

        class Note(edgy.Model):
            id: int = edgy.BigIntegerField(primary_key=True, autoincrement=True)
            title: str = edgy.CharField(max_length=100)
            views: int = edgy.IntegerField(default=0)

            class Meta:
                pass

            Meta.registry = registry
            Meta.tablename = "note"

        self._note: Any = Note
        self._registry = registry
        await registry.__aenter__()
        if receiving:
            Note.meta.signals.post_save.connect(received, sender=Note, weak=False)

    async def rows(self, count: int) -> None:
        async with self._registry.database.transaction():
            for _ in range(count):
                await self._note.query.create(title="x")

    async def close(self) -> None:
        await self._registry.__aexit__()


if __name__ == "__main__":
    main(Edgy())

"""Tortoise ORM, with an async receiver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tortoise import Tortoise, fields
from tortoise.models import Model
from tortoise.signals import post_save
from tortoise.transactions import in_transaction

from end_to_end.library import main, received


class Note(Model):
    id = fields.IntField(primary_key=True)
    title = fields.CharField(max_length=100)
    views = fields.IntField(default=0)

    class Meta:
        table = "note"


async def _received(sender: type, instance: Note, created: bool, *others: Any) -> None:
    await received(sender, instance=instance, created=created)


class TortoiseORM:
    """Writes by ``create()``, in a transaction."""

    async def open(self, path: Path, *, receiving: bool) -> None:
        await Tortoise.init(db_url=f"sqlite://{path}", modules={"models": [__name__]})
        if receiving:
            post_save(Note)(_received)

    async def rows(self, count: int) -> None:
        async with in_transaction():
            for _ in range(count):
                await Note.create(title="x")

    async def close(self) -> None:
        await Tortoise.close_connections()


if __name__ == "__main__":
    main(TortoiseORM())

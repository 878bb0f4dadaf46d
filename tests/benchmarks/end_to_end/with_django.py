"""Django, in synchronous code and with a function: its database layer can nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import django
from django.conf import settings

from end_to_end.library import main, received_sync


class Django:
    """Writes by ``create()``, in a transaction."""

    async def open(self, path: Path, *, receiving: bool) -> None:
        # What it does to its database is refused inside an event loop, unless this is set.
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
        engine = "django.db.backends.sqlite3"
        settings.configure(DATABASES={"default": {"ENGINE": engine, "NAME": path}})
        django.setup()
        from django.db import connection, models, transaction
        from django.db.models.signals import post_save

        class Note(models.Model):
            title = models.CharField(max_length=100)
            views = models.IntegerField(default=0)

            class Meta:
                app_label = "notes"
                db_table = "note"

        if receiving:
            post_save.connect(received_sync, sender=Note)
        self._note: Any = Note
        self._connection = connection
        self._atomic = transaction.atomic

    async def rows(self, count: int) -> None:
        with self._atomic():
            for _ in range(count):
                self._note.objects.create(title="x")

    async def close(self) -> None:
        self._connection.close()


if __name__ == "__main__":
    main(Django())

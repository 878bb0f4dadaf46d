"""The database of a test, as other processes are given it."""

from __future__ import annotations

import json

from sqlalchemy import make_url

from kit.databases import Database


def as_text(database: Database) -> str:
    """A database as JSON, for the environment of another process."""
    return json.dumps(
        {
            "dialect": database.dialect,
            "async_url": database.async_url.render_as_string(hide_password=False),
            "sync_url": database.sync_url.render_as_string(hide_password=False),
            "schema": database.schema,
        }
    )


def from_text(text: str) -> Database:
    """The database that :func:`as_text` has written."""
    found = json.loads(text)
    return Database(
        dialect=found["dialect"],
        async_url=make_url(found["async_url"]),
        sync_url=make_url(found["sync_url"]),
        schema=found["schema"],
    )

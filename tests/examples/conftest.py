"""Fixtures of the example applications: URLs, since that is all that they take, and a look inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import databases
import pytest
from sqlalchemy import Engine, text

Look = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def async_url(database: databases.Database) -> str:
    """The URL of ``database`` for an async engine; on PostgreSQL it leads to the test's schema."""
    url = database.async_url
    if database.schema is not None:
        # asyncpg takes settings of the server from a DSN only; the rest of the URL goes before it.
        url = url.update_query_dict({"dsn": f"postgresql:///?search_path={database.schema}"})
    return url.render_as_string(hide_password=False)


@pytest.fixture
def sync_url(database: databases.Database) -> str:
    """The same for a sync engine."""
    url = database.sync_url
    if database.schema is not None:
        url = url.update_query_dict({"options": f"-csearch_path={database.schema}"})
    return url.render_as_string(hide_password=False)


@pytest.fixture
def look(sync_engine: Engine) -> Look:
    """Reads committed rows, on a connection that has nothing to do with the application's."""

    def rows(query: str) -> list[tuple[Any, ...]]:
        with sync_engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    return rows

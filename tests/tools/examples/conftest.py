"""Fixtures of the example applications: each imported anew, on the URL of an empty database."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from kit import databases
from sqlalchemy import Engine, text

from aksara_signals.contrib.inspector import Inspector

EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "examples"

# Registries that outlive a test, as Advanced Alchemy's does, want no two classes of one full name.
numbers = itertools.count()

Look = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def blog(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example after which the test's module is named, imported anew for each test.

    So its stand-ins are empty, and its receivers, which every test finds connected, are
    disconnected at the end, as are all that a test connects.
    """
    name = request.path.stem.removeprefix("test_")
    file = EXAMPLES / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_{next(numbers)}", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def opened_inspectors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Inspector]]:
    """The inspectors that a test makes; at its end they stop recording."""
    opened: list[Inspector] = []
    make = Inspector.__init__

    def note(self: Inspector, **options: Any) -> None:
        make(self, **options)
        opened.append(self)

    monkeypatch.setattr(Inspector, "__init__", note)
    yield opened
    for each in opened:
        each.close()


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

"""Fixtures of the tests that hold others' behaviour against ours."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest
from kit.databases import Database, create_all, postgresql_database, sqlite_database
from kit.peers import aksara_links, aksara_receivers, aksara_saves, aksara_world
from kit.peers.dispatchers import Dispatcher, Notes
from kit.peers.recipes import Twin
from sqlalchemy import Engine, MetaData, event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from aksara_signals.orm import session_scope
from aksara_signals.testing import restored_signals

CHAPTERS_OF = (aksara_links, aksara_receivers, aksara_saves)
"""The modules that add their chapters to our story when they are imported."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test that takes a ``peer`` runs with each of its module's ``PEERS``."""
    if "peer" in metafunc.fixturenames:
        metafunc.parametrize("peer", metafunc.module.PEERS, ids=lambda each: each.name)


@pytest.fixture
def signal(peer: Dispatcher) -> Any:
    """A signal of the peer's own."""
    return peer.signal()


@pytest.fixture
def notes() -> Notes:
    """What receivers write down in one test."""
    return Notes()


@pytest.fixture(scope="session")
def django_story() -> dict[str, list[str]]:
    """The signals that Django sends in the story, by chapter."""
    script = Path(__file__).parents[2] / "kit" / "peers" / "django_story.py"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def our_story(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[str]]:
    """The signals that the library sends in the story, by chapter; on each database."""
    if request.param == "sqlite":
        return asyncio.run(play(sqlite_database(tmp_path_factory.mktemp("story"))))
    with postgresql_database(request.getfixturevalue("postgresql_server")) as database:
        return asyncio.run(play(database))


async def play(database: Database) -> dict[str, list[str]]:
    """Play every chapter on empty tables."""
    engine = database.create_async_engine()
    metadata, lines = aksara_world.Base.metadata, aksara_world.lines
    story: dict[str, list[str]] = {}
    for chapter, play_chapter in aksara_world.CHAPTERS.items():
        await create_all(engine, metadata)
        lines.clear()
        with restored_signals():
            aksara_world.listen()
            session = AsyncSession(engine, expire_on_commit=False)
            async with session, session_scope(session):
                await play_chapter(session)
        story[chapter] = [*lines]
        async with engine.begin() as connection:
            await connection.run_sync(metadata.drop_all)
    await engine.dispose()
    return story


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def tables(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Database, Engine]]:
    """The tables of the module's ``Base``, made once on each database, and an engine on them."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            database = sqlite_database(tmp_path_factory.mktemp("recipes"))
        else:
            server = request.getfixturevalue("postgresql_server")
            database = stack.enter_context(postgresql_database(server))
        engine = database.create_sync_engine()
        stack.callback(engine.dispose)
        request.module.Base.metadata.create_all(engine)
        yield database, engine


@pytest.fixture(params=["sync", "async"])
async def make_session(
    request: pytest.FixtureRequest, tables: tuple[Database, Engine]
) -> AsyncIterator[Callable[..., Twin]]:
    """Makes sessions of either kind on empty tables of the module's ``Base``."""
    database, engine = tables
    async with AsyncExitStack() as stack:
        stack.callback(empty, engine, request.module.Base.metadata)
        if request.param == "async":
            async_engine = database.create_async_engine()
            stack.push_async_callback(async_engine.dispose)

        def make(**options: Any) -> Twin:
            if request.param == "sync":
                twin = Twin(Session(engine, **options))
            else:
                twin = Twin(AsyncSession(async_engine, **options))
            stack.push_async_callback(twin.close)
            return twin

        yield make


def empty(engine: Engine, metadata: MetaData) -> None:
    """Delete all rows; the next keys are the first again."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            names = ", ".join(f'"{name}"' for name in metadata.tables)
            connection.exec_driver_sql(f"TRUNCATE {names} RESTART IDENTITY CASCADE")
            return
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())


@pytest.fixture
async def twin(make_session: Callable[..., Twin]) -> Twin:
    """One such session."""
    return make_session()


@pytest.fixture(params=[True, False], ids=["before ours", "after ours"])
def listen(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Listens to sessions, before our own listeners or after them; both are to work."""
    listened: list[tuple[str, Any]] = []

    def start(name: str, listener: Any) -> None:
        event.listen(Session, name, listener, insert=request.param)
        listened.append((name, listener))

    start.is_first = request.param
    yield start
    for name, listener in listened:
        event.remove(Session, name, listener)

"""Fixtures of the tests that hold others' dispatchers and ours to one behaviour."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aksara_world
import pytest
from databases import create_all
from dispatchers import Dispatcher, Notes
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from aksara_signals.orm import session_scope


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
    """The story that Django tells, by chapter."""
    script = Path(__file__).with_name("django_story.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
async def our_story(
    async_engine: AsyncEngine,
) -> AsyncIterator[Callable[[str], Awaitable[list[str]]]]:
    """Tells a chapter of ours, on empty tables."""
    await create_all(async_engine, aksara_world.Base.metadata)

    async def tell(chapter: str) -> list[str]:
        aksara_world.told.clear()
        aksara_world.listen()
        session = AsyncSession(async_engine, expire_on_commit=False)
        async with session, session_scope(session):
            await aksara_world.CHAPTERS[chapter](session)
        return [*aksara_world.told]

    yield tell
    aksara_world.told.clear()

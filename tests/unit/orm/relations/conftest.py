"""Fixtures of the tests of relationships."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from kit import databases
from kit.relationships import Base
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession


@pytest.fixture
async def session(async_engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """A session on empty tables, whose instances stay readable after a commit."""
    await databases.create_all(async_engine, Base.metadata)
    async with AsyncSession(async_engine, expire_on_commit=False) as session:
        yield session

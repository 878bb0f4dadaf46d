"""Fixtures of the tests that write the models of this folder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from kit import databases
from kit.models import Base
from kit.sent_rows import SentRows
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from aksara_signals import on_delivery_error


@pytest.fixture
async def engine(async_engine: AsyncEngine) -> AsyncEngine:
    """An engine on a database that has the tables."""
    await databases.create_all(async_engine, Base.metadata)
    return async_engine


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """A session with SQLAlchemy's defaults."""
    async with AsyncSession(engine) as session:
        yield session


@pytest.fixture
async def sessions(async_engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Sessions on empty tables."""
    await databases.create_all(async_engine, Base.metadata)
    return async_sessionmaker(async_engine)


@pytest.fixture
def reported() -> Iterator[list[dict[str, Any]]]:
    """What on_delivery_error sends."""
    reports: list[dict[str, Any]] = []

    async def observe(**payload: Any) -> None:
        await asyncio.sleep(0)
        reports.append(payload)

    on_delivery_error.connect(observe)
    yield reports
    on_delivery_error.disconnect(observe)


@pytest.fixture
def sent_rows() -> SentRows:
    """Which rows the signals are sent for."""
    return SentRows()

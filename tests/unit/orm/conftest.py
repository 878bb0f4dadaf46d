"""Fixtures of the tests that write the models of this folder."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from kit.models import Base
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from aksara_signals import on_delivery_error


@pytest.fixture
async def sessions(async_engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Sessions on empty tables."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    return async_sessionmaker(async_engine)


@pytest.fixture
def reported() -> Iterator[list[dict[str, Any]]]:
    """What on_delivery_error tells."""
    reports: list[dict[str, Any]] = []

    async def observe(**payload: Any) -> None:
        await asyncio.sleep(0)
        reports.append(payload)

    on_delivery_error.connect(observe)
    yield reports
    on_delivery_error.disconnect(observe)

"""What the tests of the reference texts share: tables, bound sessions, and muted signals.

Each test carries ``@pytest.mark.shows(passage, *signals)``. With ``--mute``, every test runs once
for each of its signals, with that signal made a no-op: each of these runs must fail, which
``test_the_tests_mean_it`` checks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit import databases
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from aksara_signals import Signal, signals
from aksara_signals.dispatch.connections.routing import NO_RECEIVERS
from aksara_signals.orm.flush import recipients

CUSTOM = "custom"
"""Stands, among a test's signals, for all that are not built in."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mute", action="store_true", help="run each test with its signals muted")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    shows = metafunc.definition.get_closest_marker("shows")
    muted = ("nothing",)
    if metafunc.config.getoption("--mute", default=False):  # unknown unless this folder is named
        assert shows is not None, f"{metafunc.function.__name__} says not what it shows"
        muted = shows.args[1:]
        assert muted, f"{metafunc.function.__name__} stands for no signal"
    metafunc.parametrize("muted", muted, indirect=True, ids=str if len(muted) > 1 else ("",))


@pytest.fixture(autouse=True)
def muted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make one signal a no-op, if the parameter names one."""
    name = request.param
    if name == "nothing":
        return
    assert name == CUSTOM or name in signals.__all__
    plan_for = Signal.plan_for

    def without_receivers(self: Signal, sender: Any) -> Any:
        is_meant = self.name not in signals.__all__ if name == CUSTOM else self.name == name
        return NO_RECEIVERS if is_meant else plan_for(self, sender)

    monkeypatch.setattr(Signal, "plan_for", without_receivers)
    monkeypatch.setattr(recipients, "_known", {})  # worked out from plans before


@pytest.fixture
async def sessions(
    request: pytest.FixtureRequest, async_engine: AsyncEngine
) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Sessions on empty tables of the module's ``Base``, bound to it."""
    async with databases.bound(request.module.Base, async_engine) as maker:
        yield maker

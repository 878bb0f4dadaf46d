"""The unit of work at random: what is sent is what is written, before and after, once each.

Random classes, relationships and steps, on all databases. When one of these tests fails, Hypothesis
prints the smallest script that it found; it runs by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit import databases
from kit.effort import IS_ORDINARY, times
from kit.properties.blueprints import Blueprint, blueprints
from kit.properties.stories import REACTIONS, STEPS, Reaction, Step
from kit.properties.trials import (
    BEFORE_18,
    Trial,
    mariadb_session,
    postgresql_session,
    sqlite_session,
)
from sqlalchemy import StaticPool
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine


def play_async(engine: AsyncEngine, *arguments: Any) -> None:
    """Play before a witness in an async session, whose async receivers wait."""
    blueprint, steps, reactions = arguments

    async def play() -> None:
        async with AsyncSession(engine) as session:
            await session.run_sync(Trial(blueprint, waits=True).play, steps, reactions)
        await engine.dispose()

    asyncio.run(play())


def play_twice(sessions: Callable[[], Any], blueprint: Blueprint, steps: list[Step]) -> None:
    """Play before a witness, and again without receivers; both must come to the same."""
    watched, silent = Trial(blueprint), Trial(blueprint)
    with sessions() as session:
        watched.play(session, steps, [])
    with sessions() as session:
        silent.replay(session, [*watched.story.lines])
    try:
        assert watched.refusals == silent.refusals
        assert watched.rows == silent.rows
    except AssertionError as objection:
        objection.add_note(watched.story.script())
        raise


@settings(max_examples=times(60), deadline=None, derandomize=IS_ORDINARY)
@given(blueprints(), STEPS)
def test_every_written_row_is_sent(blueprint: Blueprint, steps: list[Step]) -> None:
    """Once before and once after it is written, with its true changes; and nothing else happens."""
    play_twice(sqlite_session, blueprint, steps)


@settings(max_examples=times(60), deadline=None, derandomize=IS_ORDINARY)
@given(blueprints(), STEPS, REACTIONS)
def test_receivers_may_write(
    blueprint: Blueprint, steps: list[Step], reactions: list[Reaction]
) -> None:
    """What receivers write is sent like everything else."""
    with sqlite_session() as session:
        Trial(blueprint).play(session, steps, reactions)


@settings(max_examples=times(30), deadline=None, derandomize=IS_ORDINARY)
@given(blueprints(), STEPS, REACTIONS)
def test_async_receivers_may_wait(
    blueprint: Blueprint, steps: list[Step], reactions: list[Reaction]
) -> None:
    """In an async session it is the same, and receivers can read every column."""
    engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    databases.use_begin_recipe(engine.sync_engine)
    play_async(engine, blueprint, steps, reactions)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@settings(
    max_examples=times(10),
    deadline=None,
    derandomize=IS_ORDINARY,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(blueprints(), STEPS, st.booleans())
def test_on_postgresql(
    database: databases.Database, blueprint: Blueprint, steps: list[Step], is_old: bool
) -> None:
    """The same on PostgreSQL, also where it doesn't return old values."""
    play_twice(lambda: postgresql_session(database, is_old=is_old), blueprint, steps)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@settings(
    max_examples=times(10),
    deadline=None,
    derandomize=IS_ORDINARY,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(blueprints(), STEPS, REACTIONS, st.booleans())
def test_receivers_may_write_on_postgresql(
    database: databases.Database,
    blueprint: Blueprint,
    steps: list[Step],
    reactions: list[Reaction],
    is_old: bool,
) -> None:
    """What receivers write on PostgreSQL, in an async session, is sent like everything else."""
    with postgresql_session(database):
        engine = database.create_async_engine()
        if is_old:
            databases.take_for(engine.sync_engine, BEFORE_18)
        play_async(engine, blueprint, steps, reactions)


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
@settings(
    max_examples=times(10),
    deadline=None,
    derandomize=IS_ORDINARY,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(blueprints(), STEPS, st.booleans())
def test_on_mariadb(
    database: databases.Database, blueprint: Blueprint, steps: list[Step], is_mysql: bool
) -> None:
    """The same on MariaDB, also where it returns no rows, as MySQL."""
    play_twice(lambda: mariadb_session(database, is_mysql=is_mysql), blueprint, steps)


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
@settings(
    max_examples=times(10),
    deadline=None,
    derandomize=IS_ORDINARY,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(blueprints(), STEPS, REACTIONS, st.booleans())
def test_receivers_may_write_on_mariadb(
    database: databases.Database,
    blueprint: Blueprint,
    steps: list[Step],
    reactions: list[Reaction],
    is_mysql: bool,
) -> None:
    """What receivers write on MariaDB, in an async session, is sent like everything else."""
    with mariadb_session(database):
        engine = database.create_async_engine()
        if is_mysql:
            databases.take_for_mysql(engine.sync_engine)
        play_async(engine, blueprint, steps, reactions)

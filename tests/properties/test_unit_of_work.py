"""The unit of work at random: what is told is what is written, before and after, once each.

Random classes, relationships and steps, on both databases. When one of these tests fails, Hypothesis
prints the smallest script that it found; it runs by itself.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import databases
import pytest
from blueprints import BY_UPDATES, Blueprint, blueprints
from effort import times
from hypothesis import HealthCheck, given, note, settings
from row_log import log_rows
from sqlalchemy import StaticPool, create_engine, select
from sqlalchemy.exc import SAWarning, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from stories import REACTIONS, STEPS, Reaction, Step, Story
from witness import Witness

from aksara_signals import AksaraSignalsWarning


class Trial:
    """A story, its witness, and what became of it.

    Args:
        blueprint: The classes of the story.
        waits: Whether async receivers really wait.
    """

    def __init__(self, blueprint: Blueprint, *, waits: bool = False) -> None:
        self.story = Story(blueprint, self._after_line)
        self.refusals: list[str | None] = []
        self.rows: dict[str, list[Any]] = {}
        self._witness: Witness | None = None
        self._waits = waits

    def play(self, session: Session, steps: list[Step], reactions: list[Reaction]) -> None:
        """Take the steps before a witness; print the story if there is an objection."""
        self._witness = witness = Witness(self.story, waits=self._waits)
        with witness.listening():
            self._do(session, lambda: self.story.play(session, steps, reactions), witness)

    def replay(self, session: Session, lines: list[str]) -> None:
        """Run the same lines with nobody listening."""
        self._do(session, lambda: self.story.replay(session, lines), None)

    def _do(self, session: Session, work: Callable[[], None], witness: Witness | None) -> None:
        metadata = self.story.base.metadata
        engine = session.get_bind().engine
        try:
            with warnings.catch_warnings():
                # What SQLAlchemy warns of is the fault of the random classes and steps.
                warnings.simplefilter("ignore", SAWarning)
                warnings.simplefilter("error", AksaraSignalsWarning)
                if witness is None:
                    metadata.create_all(engine)
                else:
                    log_rows(engine, metadata, witness.timeline.append)
                work()
        except BaseException:
            note(self.story.script())
            raise
        for table in metadata.tables.values():
            # An UPDATE that would set what is there already may be left out when somebody listens,
            # because what has expired was loaded by then; so what every UPDATE sets may differ.
            columns = [each for each in table.columns if not each.name.startswith(BY_UPDATES)]
            rows = session.execute(select(*columns))
            self.rows[table.name] = sorted(map(tuple, rows), key=str)
        session.rollback()

    def _after_line(self, refusal: SQLAlchemyError | None) -> None:
        self.refusals.append(refusal and type(refusal).__name__)
        if self._witness is not None:
            self._witness.judge(self.story.lines, has_failed=refusal is not None)


@contextmanager
def sqlite_session() -> Iterator[Session]:
    """A session on an empty database in memory."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    databases.use_begin_recipe(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()


@contextmanager
def postgresql_session(database: databases.Database) -> Iterator[Session]:
    """A session on a schema that is emptied first."""
    engine = database.create_sync_engine()
    with engine.begin() as connection:
        connection.exec_driver_sql(f'DROP SCHEMA "{database.schema}" CASCADE')
        connection.exec_driver_sql(f'CREATE SCHEMA "{database.schema}"')
    with Session(engine) as session:
        yield session
    engine.dispose()


def play_async(engine: AsyncEngine, *arguments: Any) -> None:
    """Play before a witness in an async session, whose async receivers wait."""
    blueprint, steps, reactions = arguments

    async def play() -> None:
        async with AsyncSession(engine) as session:
            await session.run_sync(Trial(blueprint, waits=True).play, steps, reactions)
        await engine.dispose()

    asyncio.run(play())


def play_twice(sessions: Callable[[], Any], blueprint: Blueprint, steps: list[Step]) -> None:
    """Play before a witness, and again with nobody listening; both must come to the same."""
    heard, unheard = Trial(blueprint), Trial(blueprint)
    with sessions() as session:
        heard.play(session, steps, [])
    with sessions() as session:
        unheard.replay(session, [*heard.story.lines])
    try:
        assert heard.refusals == unheard.refusals
        assert heard.rows == unheard.rows
    except AssertionError:
        note(heard.story.script())
        raise


@settings(max_examples=times(100), deadline=None)
@given(blueprints(), STEPS)
def test_every_written_row_is_told(blueprint: Blueprint, steps: list[Step]) -> None:
    """Once before and once after it is written, with its true changes; and nothing else happens."""
    play_twice(sqlite_session, blueprint, steps)


@settings(max_examples=times(100), deadline=None)
@given(blueprints(), STEPS, REACTIONS)
def test_receivers_may_write(
    blueprint: Blueprint, steps: list[Step], reactions: list[Reaction]
) -> None:
    """What receivers write is told like everything else."""
    with sqlite_session() as session:
        Trial(blueprint).play(session, steps, reactions)


@settings(max_examples=times(50), deadline=None)
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
    max_examples=times(20),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(blueprints(), STEPS)
def test_on_postgresql(
    database: databases.Database, blueprint: Blueprint, steps: list[Step]
) -> None:
    """The same on PostgreSQL."""
    play_twice(lambda: postgresql_session(database), blueprint, steps)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@settings(
    max_examples=times(20),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(blueprints(), STEPS, REACTIONS)
def test_receivers_may_write_on_postgresql(
    database: databases.Database,
    blueprint: Blueprint,
    steps: list[Step],
    reactions: list[Reaction],
) -> None:
    """What receivers write on PostgreSQL, in an async session, is told like everything else."""
    with postgresql_session(database):
        play_async(database.create_async_engine(), blueprint, steps, reactions)

"""Stories that are played before a witness, and the databases that they are played on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import StaticPool, create_engine, select
from sqlalchemy.exc import SAWarning
from sqlalchemy.orm import Session

from aksara_signals import AksaraSignalsWarning
from kit import databases
from kit.properties.blueprints import BY_UPDATES, Blueprint
from kit.properties.row_log import log_rows
from kit.properties.stories import Reaction, Step, Story
from kit.properties.witness import Witness

__all__ = ["BEFORE_18", "Trial", "mariadb_session", "postgresql_session", "sqlite_session"]


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
        """Take the steps before a witness; an objection brings the story as a script."""
        self._witness = witness = Witness(self.story, waits=self._waits)
        with witness.listening():
            self._do(session, lambda: self.story.play(session, steps, reactions), witness)

    def replay(self, session: Session, lines: list[str]) -> None:
        """Run the same lines with no receiver connected."""
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
        except BaseException as objection:
            objection.add_note(self.story.script())
            raise
        for table in metadata.tables.values():
            # An UPDATE that would set what is there already may be left out when somebody listens,
            # because what has expired was loaded by then; so what every UPDATE sets may differ.
            columns = [each for each in table.columns if not each.name.startswith(BY_UPDATES)]
            rows = session.execute(select(*columns))
            self.rows[table.name] = sorted(map(tuple, rows), key=str)
        session.rollback()

    def _after_line(self, refusal: Exception | None) -> None:
        self.refusals.append(refusal and type(refusal).__name__)
        if self._witness is not None:
            self._witness.judge(self.story.lines, has_failed=refusal is not None)


@contextmanager
def sqlite_session() -> Iterator[Session]:
    """A session on an empty database in memory."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    databases.use_begin_recipe(engine)
    try:
        with Session(engine) as session:
            yield session
    finally:
        engine.dispose()


BEFORE_18 = (15, 0)
"""The version of a PostgreSQL whose RETURNING doesn't know old values."""


@contextmanager
def postgresql_session(database: databases.Database, *, is_old: bool = False) -> Iterator[Session]:
    """A session on a schema that is emptied first.

    Args:
        database: The database.
        is_old: Whether the server is taken for one whose RETURNING doesn't know old values.
    """
    engine = database.create_sync_engine()
    if is_old:
        databases.take_for(engine, BEFORE_18)
    with engine.begin() as connection:
        connection.exec_driver_sql(f'DROP SCHEMA "{database.schema}" CASCADE')
        connection.exec_driver_sql(f'CREATE SCHEMA "{database.schema}"')
    try:
        with Session(engine) as session:
            yield session
    finally:
        engine.dispose()


@contextmanager
def mariadb_session(database: databases.Database, *, is_mysql: bool = False) -> Iterator[Session]:
    """A session on a database that is emptied first.

    Args:
        database: The database.
        is_mysql: Whether it is taken for a MySQL, which returns no rows.
    """
    engine = database.create_sync_engine()
    name = database.sync_url.database
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name}")
        connection.exec_driver_sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    engine.dispose()  # the connection was to the database that is gone
    if is_mysql:
        databases.take_for_mysql(engine)
    try:
        with Session(engine) as session:
            yield session
    finally:
        engine.dispose()

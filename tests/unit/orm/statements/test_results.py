"""What the caller of a statement sees, with receivers and without."""

from __future__ import annotations

from typing import Any

import pytest
from kit.databases import create_all
from kit.statements import (
    MYSQL,
    SCENARIOS,
    UNKNOWN_TO_MARIADB,
    USES,
    Base,
    fill,
    load,
    rows_of,
    seen_of,
    states_of,
)
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from aksara_signals import post_delete, post_save, post_statement, post_update

MODES = ("auto", "evaluate", "fetch", False)
COUNTED_TWICE = ("upsert_of_an_old_row", "upsert_of_a_deferred_column")
"""A row that is updated by an INSERT is counted twice by MariaDB, unless it is returned."""
READS_ALL = ("all", "scalars", "mappings", "partitions")


@pytest.fixture
def engine(sync_engine: Engine) -> Engine:
    """An engine on a database with the tables and rows of the statements."""
    Base.metadata.create_all(sync_engine)
    return sync_engine


def _options_of(name: str, dialect: str) -> list[dict[str, Any]]:
    """The execution options that make a difference for a statement."""
    statement, parameters = SCENARIOS[name](dialect)
    if statement.is_insert:
        return [{}, {"populate_existing": True}]
    if isinstance(parameters, list):
        return [{"synchronize_session": mode} for mode in ("auto", "evaluate", False)]
    if name.endswith("of_an_alias") and dialect in MYSQL:
        return [{"synchronize_session": False}]  # see there
    return [{"synchronize_session": mode} for mode in MODES]


def _uses_of(name: str, dialect: str) -> list[str | None]:
    statement, _ = SCENARIOS[name](dialect)
    return [None, *USES] if statement._returning else [None, "all", "first", "keys"]


def _seen(session: Session, name: str, options: dict[str, Any], use: str | None) -> object:
    """Everything that a caller sees of one statement, which is undone afterwards."""
    dialect = session.get_bind().dialect.name
    statement, parameters = SCENARIOS[name](dialect)
    connection = session.connection()
    fill(connection)
    instances = load(session)
    try:
        result = session.execute(statement, parameters, execution_options=options)
    except DBAPIError as error:
        return error.orig.args[0] if error.orig else None  # the SQL, which it shows, is longer
    except Exception as error:
        return str(error)
    found = [seen_of(result, use), rows_of(connection)]
    if not statement._returning or use in READS_ALL:  # otherwise the plain result has rows left
        found += states_of(session, instances)
    session.rollback()
    return found


def _compare(session: Session, name: str, uses: list[str | None] | None = None) -> None:
    dialect = session.get_bind().dialect.name
    calls: list[Any] = []

    def silent(**arguments: Any) -> None:
        calls.append(arguments["signal"])

    uses = _uses_of(name, dialect) if uses is None else uses
    is_returning = bool(SCENARIOS[name](dialect)[0]._returning)
    for number, options in enumerate(_options_of(name, dialect)):
        # What can be done with a result doesn't depend on the options. What has happened to the
        # session does: it can be compared when a RETURNING was read.
        for use in uses if number == 0 else uses[is_returning : is_returning + 1]:
            plain = _seen(session, name, options, use)
            session.close()
            with _ReceiverOfAll(silent, name, dialect):
                sent = _seen(session, name, options, use)
            session.close()
            expected: list[Any] = []
            if use is None and dialect in MYSQL and name in COUNTED_TWICE:
                expected = [("rowcount: 2", "rowcount: 1")]
            assert _differences(plain, sent) == expected, (options, use)
    if dialect in MYSQL and name in UNKNOWN_TO_MARIADB:
        return
    assert post_statement in calls
    assert name.endswith("of_nothing") or {*calls} != {post_statement}


def _differences(one: Any, other: Any) -> list[tuple[Any, Any]]:
    """The innermost elements that differ."""
    if one == other:
        return []
    if type(one) is type(other) is list and len(one) == len(other):
        return [each for pair in zip(one, other, strict=True) for each in _differences(*pair)]
    return [(one, other)]


class _ReceiverOfAll:
    """A receiver of everything that can be sent for a statement."""

    def __init__(self, receiver: Any, name: str, dialect: str) -> None:
        self._receiver = receiver
        self._signals = [post_save, post_update, post_delete]
        if dialect != "postgresql" and name.startswith("upsert"):
            self._signals.remove(post_update)  # nobody knows which rows are updated

    def __enter__(self) -> None:
        for signal in self._signals:
            signal.connect(self._receiver, sender=Base, statements=True)
        post_statement.connect(self._receiver, sender=Base)

    def __exit__(self, *_: object) -> None:
        for signal in (*self._signals, post_statement):
            signal.disconnect(self._receiver, sender=Base)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_receiver_changes_nothing_for_the_caller(engine: Engine, name: str) -> None:
    """Result, session and rows are the same with a receiver of everything as without."""
    with Session(engine) as session:
        _compare(session, name)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_receiver_changes_nothing_for_an_async_caller(
    async_engine: AsyncEngine, name: str
) -> None:
    """The same by the async drivers."""
    await create_all(async_engine, Base.metadata)
    async with AsyncSession(async_engine) as session:
        await session.run_sync(_compare, name, [None, "all"])

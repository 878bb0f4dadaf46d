"""Workers whose engine has few connections, or a new one for each transaction."""

from __future__ import annotations

import re
from typing import Any

import pytest
from kit.databases import Database, postgresql_database
from kit.outbox_workers import DONE, Effect, Note, connect, world_of
from sqlalchemy import URL, AsyncAdaptedQueuePool, NullPool, QueuePool, event

from aksara_signals.contrib.outbox import DurableEvent

NOTES = 20


def connect_three() -> list[int]:
    """Receivers of all three kinds: with ``session``, with ``instance`` alone, with neither."""
    called: list[int] = []

    async def with_session(event: DurableEvent, session: Any, **kwargs: Any) -> None:
        session.add(Effect(note_id=event.key[0], by="session"))

    async def with_instance(instance: Note, **kwargs: Any) -> None:
        called.append(instance.id)

    async def with_neither(event: DurableEvent, **kwargs: Any) -> None:
        called.append(event.key[0])

    for receiver in with_session, with_instance, with_neither:
        connect(receiver, f"pools.{receiver.__name__}")
    return called


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_a_pool_of_one(database: Database, is_async: bool) -> None:
    """One connection is enough for a worker with eight calls at a time, of whatever kind."""
    called = connect_three()
    async with world_of(database, is_async) as world:
        _, sessions = world.make_sessions(
            pool_size=1,
            max_overflow=0,
            pool_timeout=10,
            poolclass=AsyncAdaptedQueuePool if is_async else QueuePool,
        )
        keys = await world.write(*["x"] * NOTES)
        health = await world.drain(sessions=sessions, concurrency=8)
        assert (health["failed"], health["lost_leases"], health["last_error"]) == (0, 0, None)
        assert sorted(called) == sorted(keys * 2)
        assert sorted(await world.effects()) == [(key, "session") for key in keys]
        assert set(await world.statuses()) == {DONE}


_OF_A_SESSION = re.compile(
    r"pg_(try_)?advisory_(lock|unlock)|\b(LISTEN|UNLISTEN|PREPARE|DISCARD|DECLARE|TEMP(ORARY)?)\b"
    r"|\bSET\b(?! LOCAL)(?=.*\b(TO|SESSION)\b)",
    re.IGNORECASE,
)
"""What a pooler that gives each transaction another server connection does not keep."""


@pytest.mark.parametrize("is_async", [True, False], ids=["asyncpg", "psycopg"])
async def test_every_transaction_on_another_connection(
    postgresql_server: URL, is_async: bool
) -> None:
    """As behind PgBouncer's transaction mode: nothing of a connection is used after a transaction."""
    called = connect_three()
    statements: list[str] = []
    arguments: dict[str, Any] = (
        {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
        if is_async
        else {"prepare_threshold": None}
    )
    with postgresql_database(postgresql_server) as database:
        async with world_of(database, is_async) as world:
            engine, sessions = world.make_sessions(poolclass=NullPool, connect_args=arguments)

            @event.listens_for(getattr(engine, "sync_engine", engine), "before_cursor_execute")
            def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
                statements.append(statement)

            keys = await world.write(*["x"] * NOTES)
            workers = [world.worker(sessions, batch_size=5) for _ in range(2)]
            for worker in workers:
                await worker.run_until_idle()
            assert sorted(called) == sorted(keys * 2)
            assert sorted(await world.effects()) == [(key, "session") for key in keys]
            assert set(await world.statuses()) == {DONE}
    assert any("pg_advisory_xact_lock" in each for each in statements)
    assert [each for each in statements if _OF_A_SESSION.search(each)] == []

"""The inbox: each message is noted once."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from kit.claims import Store, async_outbox_engine, outbox_engine
from kit.databases import Database
from sqlalchemy import MetaData, select
from sqlalchemy.ext.asyncio import AsyncEngine

from aksara_signals.contrib.outbox.message import Message
from aksara_signals.contrib.outbox.rows import inbox
from aksara_signals.contrib.outbox.rows.tables import make_tables


def message(*, generation: int = 0, identifier: uuid.UUID | None = None) -> Message:
    """A message for ``"mail"``."""
    return Message(
        id=identifier or uuid.uuid4(),
        receiver="mail",
        type="post_save",
        aggregatetype="app.models.Post",
        lane=None,
        payload={"v": 1, "key": [1]},
        headers=None,
        version=1,
        generation=generation,
        created_at=datetime.now(UTC),
        attempts=0,
    )


@pytest.fixture(params=["a schema of its own", "a schema that is translated", "async"])
async def store(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Store]:
    """The tables, reached in each way."""
    if request.param == "async":
        found = Store(async_outbox_engine(database))
    elif request.param == "a schema of its own":
        found = Store(outbox_engine(database))
    else:
        engine = outbox_engine(database).execution_options(
            schema_translate_map={"tenant": database.schema}
        )
        found = Store(engine, make_tables(MetaData(), schema="tenant"))
    await found.create()
    yield found
    await found.dispose()


async def test_a_message_is_new_once(store: Store) -> None:
    """Noted again it is a repeat; another one, and its own replay, are new."""
    first = message()
    assert await store.call(inbox.note, first)
    assert not await store.call(inbox.note, first)
    assert await store.call(inbox.note, message())
    assert await store.call(inbox.note, message(generation=1, identifier=first.id))


async def test_what_is_noted_is_found(store: Store) -> None:
    """The row has the message's own identifier, whatever the driver makes of it, and a time."""
    noted = message()
    await store.call(inbox.note, noted)
    assert await store.call(inbox.is_noted, noted)
    assert not await store.call(inbox.is_noted, message())
    table = store.tables.inbox
    (row,) = await store.run(lambda connection: connection.execute(select(table)).all())
    assert (row.receiver, row.id, row.generation) == ("mail", noted.id, 0)
    assert row.done_at is not None


async def test_old_rows_are_purged(store: Store) -> None:
    """What was delivered long ago is forgotten; the rest isn't."""
    first = message()
    await store.call(inbox.note, first)
    assert await store.call(inbox.purge, 60) == 0
    assert await store.call(inbox.purge, -60) == 1
    assert await store.call(inbox.note, first)


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
async def test_the_purge_leaves_out_what_is_just_received(store: Store, database: Database) -> None:
    """A receiver that runs has a note that isn't committed yet; SQLite has one writer anyway."""
    await store.call(inbox.note, message())
    other = outbox_engine(database).execution_options(**store.engine.get_execution_options())
    with other.connect() as connection:
        assert inbox.note(connection, store.tables, message())
        async with asyncio.timeout(10):
            assert await store.call(inbox.purge, -60) == 1
        connection.commit()
    assert await store.call(inbox.purge, -60) == 1
    other.dispose()


async def test_a_note_that_is_rolled_back_was_none(store: Store) -> None:
    """If the receiver fails, its message is as new as before."""
    first = message()

    def fail(connection: Any) -> None:
        assert inbox.note(connection, store.tables, first)
        raise ValueError

    with pytest.raises(ValueError):
        await store.run(fail)
    assert await store.call(inbox.note, first)


@pytest.mark.parametrize("is_committed", [True, False])
async def test_a_second_note_waits_for_the_first(store: Store, is_committed: bool) -> None:
    """Which may yet be rolled back; only then is the message new to the second one."""
    first, has_noted, ends = message(), threading.Event(), threading.Event()

    def note(connection: Any) -> None:
        assert inbox.note(connection, store.tables, first)
        has_noted.set()
        assert ends.wait(60)
        if not is_committed:
            raise ValueError

    if isinstance(store.engine, AsyncEngine):
        return  # the loop can't be blocked; the wait is that of the database in any case
    holder = asyncio.create_task(store.run(note))
    assert await asyncio.to_thread(has_noted.wait, 60)
    second = asyncio.create_task(store.call(inbox.note, first))
    await asyncio.wait([second], timeout=0.3)
    assert not second.done()
    ends.set()
    assert await second is not is_committed
    assert isinstance((await asyncio.gather(holder, return_exceptions=True))[0], ValueError) is (
        not is_committed
    )

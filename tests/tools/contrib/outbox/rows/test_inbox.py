"""The inbox: each message is noted once."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from kit.claims import Store, async_outbox_engine, outbox_engine
from kit.databases import Database
from sqlalchemy import MetaData, select

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

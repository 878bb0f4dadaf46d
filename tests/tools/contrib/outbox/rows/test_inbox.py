"""The inbox refuses what was noted before, by every driver."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from kit.claims import Store, async_outbox_engine, outbox_engine
from kit.databases import Database

from aksara_signals.contrib.outbox.message import Message
from aksara_signals.contrib.outbox.rows import inbox

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["sync", "async"])
async def store(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Store]:
    """Empty tables, by a plain and by an async engine."""
    make = outbox_engine if request.param == "sync" else async_outbox_engine
    store = Store(make(database))
    await store.create()
    yield store
    await store.dispose()


def message() -> Message:
    return Message(
        id=uuid.uuid4(),
        receiver="mail",
        type="post_save",
        aggregatetype="app.models.Post",
        lane=None,
        payload={"v": 1, "key": [1]},
        headers=None,
        version=1,
        generation=0,
        created_at=NEW_YEAR,
        attempts=0,
    )


async def test_a_message_is_noted_once(store: Store) -> None:
    """A repeat is refused; another receiver, or another generation, is another message."""
    first = message()
    assert not await store.call(inbox.is_noted, first)
    assert await store.call(inbox.note, first)
    assert await store.call(inbox.is_noted, first)
    assert not await store.call(inbox.note, first)
    for other in (replace(first, receiver="search"), replace(first, generation=1), message()):
        assert not await store.call(inbox.is_noted, other)
        assert await store.call(inbox.note, other)
        assert not await store.call(inbox.note, other)


async def test_old_rows_are_purged(store: Store) -> None:
    """What was delivered long ago is forgotten; the rest isn't."""
    first = message()
    await store.call(inbox.note, first)
    assert await store.call(inbox.purge, 60) == 0
    assert await store.call(inbox.purge, -60) == 1
    assert await store.call(inbox.note, first)

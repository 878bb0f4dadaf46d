"""The provenance of durable receivers: it is stored with what is sent, and in force while they run."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any

import pytest
from kit.outbox_workers import DONE, Effect, Note, World, connect, outbox

import aksara_signals
from aksara_signals import Signal, post_bulk_create, post_save, provenance
from aksara_signals.contrib.outbox import Durable, DurableEvent, receive
from aksara_signals.dispatch.provenance import ProvenanceValues
from aksara_signals.testing import drain_outbox_sync, pending_sync

VALUES = {"actor": 7, "request": {"id": "a1", "tags": ["x", None]}}


@pytest.fixture
def given() -> list[Any]:
    """What receivers were given, and what was in force while they ran."""
    return []


def write(world: World, text: str = "one", **values: object) -> None:
    """Save a note in a block with these values."""
    with world.writes.begin() as session:
        with provenance(**values):
            session.add(Note(text=text))
            session.flush()
        with provenance(actor="that of the commit"):
            session.flush()


async def test_a_row_holds_it_and_the_event_has_it(world: World) -> None:
    """As a mapping that never changes; empty, and not stored, where there was none."""
    connect(lambda **_: None)
    write(world, **VALUES)
    write(world)
    with_it, without = [row.payload for row in await world.rows()]
    assert with_it["provenance"] == VALUES
    assert "provenance" not in without
    event, other = await world.events()
    assert event.provenance == VALUES
    assert other.provenance == {}
    assert type(event.provenance) is type(other.provenance) is ProvenanceValues
    tags: Any = event.provenance["request"]["tags"]
    with pytest.raises(TypeError, match="never changes"):
        tags.append("y")


@pytest.mark.parametrize("names_session", [True, False])
async def test_a_worker_gives_it_to_receivers(
    world: World, given: list[Any], names_session: bool
) -> None:
    """Sync and async ones, with a session and without; nothing of the worker's own is in force."""

    def note(provenance: Any, **_: Any) -> None:
        given.append((provenance, aksara_signals.provenance.current()))

    async def note_there(provenance: Any, **_: Any) -> None:
        await asyncio.sleep(0)
        note(provenance)

    def note_in_session(provenance: Any, session: Any, **_: Any) -> None:
        note(provenance)

    async def note_there_in_session(provenance: Any, session: Any, **_: Any) -> None:
        await note_there(provenance)

    connect(note_in_session if names_session else note, "test.here")
    connect(note_there_in_session if names_session else note_there, "test.there")
    write(world, **VALUES)
    async with provenance(worker=1):
        await world.drain()
        assert provenance.current() == {"worker": 1}
    assert given == [(VALUES, VALUES)] * 2


async def test_an_old_row_gives_an_empty_mapping(world: World, given: list[Any]) -> None:
    """One that was stored before there was a provenance."""

    def note(provenance: Any, **_: Any) -> None:
        given.append((provenance, aksara_signals.provenance.current()))

    connect(note)
    write(world)
    async with provenance(worker=1):
        await world.drain()
    assert given == [({}, {})]


async def test_what_a_receiver_writes_carries_it_on(world: World, given: list[Any]) -> None:
    """Immediate, deferred and durable receivers of that are given it, too."""

    def index(event: Any, session: Any, **_: Any) -> None:
        session.add(Effect(note_id=event.key[0], by="index"))  # flushed when it has returned

    def note(provenance: Any, **_: Any) -> None:
        given.append(provenance)

    connect(index)
    post_save.connect(note, sender=Effect)
    post_save.connect(note, sender=Effect, phase="after_commit")
    post_save.connect(note, sender=Effect, durable="test.effects")
    write(world, **VALUES)
    await world.drain()
    assert given == [VALUES] * 3
    assert await world.statuses() == [DONE, DONE]


async def test_a_message_of_a_broker_carries_it(world: World, given: list[Any]) -> None:
    """In the data of the CloudEvent, there and back."""

    def index(provenance: Any, event: Any, session: Any, **_: Any) -> None:
        given.append((provenance, event.provenance, aksara_signals.provenance.current()))

    connect(index)
    write(world, **VALUES)
    [event] = await world.events()
    message = event.as_cloudevent()
    assert message["data"]["provenance"] == VALUES
    arrived = DurableEvent.from_cloudevent(json.dumps(message))
    assert arrived == event
    assert type(arrived.provenance) is ProvenanceValues
    assert await receive(json.dumps(message), world.sessions)
    other = dataclasses.replace(event, generation=1, provenance={})
    assert await receive(other, world.sessions)
    assert given == [(VALUES, VALUES, VALUES), ({}, {}, {})]


async def test_bulk_operations_and_custom_signals_store_it(
    async_world: World, given: list[Any]
) -> None:
    """An argument of that name, which a custom signal is sent with, takes its place."""
    paid = Signal("test_stored_provenance.paid")

    def note(event: Any, provenance: Any, **_: Any) -> None:
        given.append((event.provenance, provenance, aksara_signals.provenance.current()))

    post_bulk_create.connect(note, sender=Note, durable="test.bulk")
    with paid.connected_to(note, durable="test.bulk"):
        async with async_world.sessions.begin() as session, provenance(actor=1):
            await Note.objects.bulk_create([Note(text="a")], session=session)
            await paid.send("shop", session=session)
            await paid.send("shop", session=session, provenance="mine")
        await async_world.drain(concurrency=1)
    one = {"actor": 1}
    assert sorted(given, key=str) == sorted([(one, one, one)] * 2 + [(one, "mine", one)], key=str)


async def test_draining_in_a_test_does_as_a_worker_does(world: World, given: list[Any]) -> None:
    """drain_outbox() puts it in force, and takes it back."""

    def index(provenance: Any, event: Any, session: Any, **_: Any) -> None:
        given.append((provenance, aksara_signals.provenance.current()))

    def mail(provenance: Any, **_: Any) -> None:
        given.append((provenance, aksara_signals.provenance.current()))

    connect(index, "test.index")
    connect(mail, Durable("test.mail"))
    with world.writes.begin() as session, provenance(test=1):
        with provenance(**VALUES):
            session.add(Note(text="a"))
            session.flush()
        assert [each.provenance for each in pending_sync(session, outbox=outbox)] == [
            VALUES | {"test": 1}
        ] * 2
        with provenance(drain=1):
            drain_outbox_sync(session)
            assert provenance.current() == {"test": 1, "drain": 1}
    stored = VALUES | {"test": 1}
    assert given == [(stored, stored)] * 2

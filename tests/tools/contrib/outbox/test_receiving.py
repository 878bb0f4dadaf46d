"""Receiving: each message of a broker is delivered once, and what can't be delivered says why."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import logging
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from kit.outbox_workers import (
    Effect,
    Note,
    World,
    connect,
    outbox,
    plain,
    world_of,
)
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import async_sessionmaker

from aksara_signals import InvalidOptionError, OutboxError, Signal, on_delivery_error, post_save
from aksara_signals.contrib.outbox import Durable, DurableEvent, Retry, hooks, receive, receiving
from aksara_signals.contrib.outbox.receiving import attempt_once, receive_until_done
from aksara_signals.contrib.outbox.rows import inbox, upkeep
from aksara_signals.contrib.outbox.rows.tables import clock
from aksara_signals.contrib.outbox.worker.calls import MissingRowError
from aksara_signals.exceptions import SessionInUseError

AT_ONCE = Retry(attempts=3, first_seconds=0.0)


async def message(world: World, **changes: Any) -> str:
    """A message about a new note, as a broker has it."""
    await world.write("one")
    event = (await world.events())[-1]
    return as_json(dataclasses.replace(event, **changes))


def as_json(event: DurableEvent) -> str:
    return json.dumps(event.as_cloudevent())


async def noted(world: World) -> int:
    """How many messages are in the inbox."""
    statement = select(func.count()).select_from(outbox.tables.inbox)
    found: int = await world.run(lambda session: session.scalar(statement))
    return found


def connect_index(durable: Any = "test.notes") -> None:
    """A receiver that names ``session``."""

    async def index(event: Any, session: Any, **_: Any) -> None:
        session.add(Effect(note_id=event.key[0], by=f"attempt {event.attempt}"))
        await asyncio.sleep(0.01)

    connect(index, durable)


def connect_mail(durable: Any = "test.notes") -> list[int]:
    """A receiver that doesn't; returns the attempts in which it is called."""
    attempts: list[int] = []

    async def mail(event: Any, **_: Any) -> None:
        attempts.append(event.attempt)

    connect(mail, durable)
    return attempts


@pytest.fixture
def figures() -> Iterator[list[tuple[str, str]]]:
    """What observers are given."""
    found: list[tuple[str, str]] = []

    def observe(name: str, receiver: str, value: float) -> None:
        assert value >= 0
        found.append((name, receiver))

    hooks.observers.append(observe)
    yield found
    hooks.observers.remove(observe)


# -- once -------------------------------------------------------------------------------------------


async def test_a_repeat_is_refused_with_session(world: World) -> None:
    """The message is noted in the receiver's transaction; the second time, nobody is called."""
    connect_index()
    event = await message(world)
    assert await receive(event, world.sessions) is True
    assert await receive(event, world.sessions) is False
    assert await receive(event, world.sessions, attempt=2) is False
    assert [by for _, by in await world.effects()] == ["attempt 1"]
    assert await noted(world) == 1


async def test_a_repeat_is_refused_without_session(world: World) -> None:
    """The message is noted when the receiver has returned."""
    attempts = connect_mail()
    event = await message(world)
    assert await receive(event, world.sessions) is True
    assert await receive(event, world.sessions) is False
    assert attempts == [1]
    assert await noted(world) == 1


async def test_a_message_may_have_any_form(async_world: World) -> None:
    """The event itself, a dict, or JSON as text or bytes: all are the same message."""
    attempts = connect_mail()
    event = await message(async_world)
    whole = DurableEvent.from_cloudevent(event)
    assert await receive(whole, async_world.sessions) is True
    for same in (event, event.encode(), json.loads(event), whole):
        assert await receive(same, async_world.sessions) is False
    assert attempts == [1]


async def test_each_receiver_of_a_send_has_its_own_message(world: World) -> None:
    """One send, one id, two receivers: both are called."""
    connect_index("test.index")
    attempts = connect_mail("test.mail")
    await world.write("one")
    found = [await receive(as_json(event), world.sessions) for event in await world.events()]
    assert (found, len(attempts), len(await world.effects())) == ([True, True], 1, 1)


async def test_duplicates_at_the_same_time_have_one_effect(world: World) -> None:
    """In one process, and in several, each with sessions of its own."""
    connect_index()
    event = await message(world)
    others = [world.make_sessions()[1] for _ in range(2)]
    found = await asyncio.gather(
        *(receive(event, sessions) for sessions in [world.sessions, *others] * 2)
    )
    assert sorted(found) == [False] * 5 + [True]
    assert len(await world.effects()) == 1


async def test_a_failure_leaves_no_trace(world: World) -> None:
    """What the receiver has written is rolled back, and so is the note: the next delivery works."""

    async def index(event: Any, session: Any, **_: Any) -> None:
        session.add(Effect(note_id=event.key[0], by=f"attempt {event.attempt}"))
        plain(session)
        if event.attempt == 1:
            raise ValueError("not yet")

    connect(index)
    event = await message(world)
    with pytest.raises(ValueError, match="not yet"):
        await receive(event, world.sessions)
    assert (await noted(world), await world.effects()) == (0, [])
    assert await receive(event, world.sessions, attempt=2) is True
    assert [by for _, by in await world.effects()] == ["attempt 2"]


async def test_a_failure_without_session_is_not_noted(async_world: World) -> None:
    """So that the next delivery calls the receiver again."""
    attempts: list[int] = []

    async def mail(event: Any, **_: Any) -> None:
        attempts.append(event.attempt)
        if event.attempt < 3:
            raise ValueError

    connect(mail)
    event = await message(async_world)
    for attempt in (1, 2):
        with pytest.raises(ValueError):
            await receive(event, async_world.sessions, attempt=attempt)
    assert await receive(event, async_world.sessions, attempt=3) is True
    assert attempts == [1, 2, 3]


async def test_a_repeat_after_a_rename_is_refused(world: World) -> None:
    """What was delivered under the former name is not delivered under the present one."""

    async def index(event: Any, session: Any, **_: Any) -> None:
        session.add(Effect(note_id=event.key[0], by=event.receiver))

    connect(index, "old.notes")
    first = await message(world)
    assert await receive(first, world.sessions) is True
    post_save.disconnect(index, sender=Note)

    async def renamed(event: Any, session: Any, **_: Any) -> None:
        session.add(Effect(note_id=event.key[0], by=event.receiver))

    connect(renamed, Durable("new.notes", formerly=("old.notes",)))
    _, sessions = world.make_sessions()  # those of the process that was deployed since
    assert await receive(first, sessions) is False
    published_again = {**json.loads(first), "receiver": "new.notes"}
    assert await receive(published_again, sessions) is False
    second = await message(world)
    assert await receive(second, sessions) is True
    assert len(await world.effects()) == 2


async def test_a_replay_is_delivered_again(world: World) -> None:
    """``outbox replay`` raises the generation, which makes a new message of it; once."""
    published: list[str] = []

    async def publish(event: DurableEvent) -> None:
        published.append(as_json(event))

    connect_index()
    await world.write("one")
    await world.relay(publish).run_until_idle()

    def replay(session: Any) -> int:
        selection = upkeep.Selection(receiver="test.notes")
        return upkeep.replay(session.connection(), outbox.tables, selection).rows

    assert await world.run(replay) == 1
    await world.relay(publish).run_until_idle()
    assert [json.loads(event)["generation"] for event in published] == [0, 1]
    found = [await receive(event, world.sessions) for event in published * 2]
    assert found == [True, True, False, False]
    assert len(await world.effects()) == 2


# -- the call ---------------------------------------------------------------------------------------


async def test_a_receiver_is_called_as_by_a_worker(world: World) -> None:
    """With the row as it is now, loaded in its session, and with all that is stored."""
    seen: list[Any] = []

    def index(instance: Any, created: bool, session: Any, event: Any, **kwargs: Any) -> None:
        seen.append((instance.text, created, event.values, event.headers, kwargs["sender"]))
        plain(session).add(Effect(note_id=instance.id, by=instance.text))

    connect(index, Durable("test.notes", include=("text",)))
    event = await message(world, headers={"traceparent": "00-1-2-01", "x-tenant": "7"})
    await world.edit(1, "two")
    assert await receive(event, world.sessions) is True
    headers = {"traceparent": "00-1-2-01", "x-tenant": "7"}
    assert seen == [("two", True, {"text": "one"}, headers, Note)]
    assert await world.effects() == [(1, "two")]


async def test_plain_sessions_call_sync_receivers_in_threads(world: World) -> None:
    """So they may block; with async sessions they run in the loop."""
    threads: list[int] = []

    def index(event: Any, session: Any, **_: Any) -> None:
        threads.append(threading.get_ident())

    connect(index)
    assert await receive(await message(world), world.sessions) is True
    assert (threads == [threading.get_ident()]) is world.is_async


async def test_custom_signals_are_received(world: World) -> None:
    """With what was sent, and the sender, though it is no class."""
    name = f"receiving.{uuid.uuid4()}"  # the signal of an earlier test may be alive
    paid, seen = Signal(name), []

    @paid.connect(sender="shop", durable=name)
    async def receipt(event: Any, amount: int, sender: Any, **_: Any) -> None:
        seen.append((sender, amount))

    await world.run(lambda session: paid.send_sync("shop", session=session, amount=5) and None)
    [event] = await world.events()
    assert await receive(as_json(event), world.sessions) is True
    assert seen == [("shop", 5)]


@pytest.mark.parametrize("method", ["commit", "rollback", "close"])
async def test_a_receiver_cannot_end_its_transaction(world: World, method: str) -> None:
    """The error says what to do instead, and nothing is committed."""

    async def index(event: Any, session: Any, **_: Any) -> None:
        session.add(Effect(note_id=event.key[0], by="one"))
        found = getattr(session, method)()
        if world.is_async:
            await found

    connect(index)
    with pytest.raises(SessionInUseError, match="savepoint"):
        await receive(await message(world), world.sessions)
    assert (await noted(world), await world.effects()) == (0, [])


@pytest.mark.parametrize("names_session", [True, False])
async def test_a_receiver_has_its_time(async_world: World, names_session: bool) -> None:
    """After ``timeout_seconds`` it is cancelled, and what it wrote is rolled back."""

    async def index(event: Any, session: Any, **_: Any) -> None:
        session.add(Effect(note_id=event.key[0], by="slow"))
        await session.flush()
        await asyncio.sleep(600)

    async def mail(event: Any, **_: Any) -> None:
        await asyncio.sleep(600)

    connect(index if names_session else mail, Durable("test.notes", timeout_seconds=0.1))
    event = await message(async_world)
    with pytest.raises(TimeoutError, match=r"cancelled after 0\.1 seconds"):
        await receive(event, async_world.sessions)
    assert (await noted(async_world), await async_world.effects()) == (0, [])


async def test_an_interrupted_statement_holds_no_lock(async_world: World) -> None:
    """After a receiver was cancelled in the middle of a query, others can write at once."""
    attempts: list[int] = []

    async def index(event: Any, session: Any, **_: Any) -> None:
        attempts.append(event.attempt)
        session.add(Effect(note_id=event.key[0], by=f"attempt {event.attempt}"))
        await session.flush()
        if event.attempt == 1:
            numbers = text(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) "
                "SELECT i FROM n"
            )
            async for _row in await session.stream(numbers):
                await asyncio.sleep(0.01)

    connect(index, Durable("test.notes", timeout_seconds=0.3, retry=AT_ONCE))
    event = await message(async_world)
    async with asyncio.timeout(25):  # a locked SQLite waits for 30 seconds
        assert await receive_until_done(event, async_world.sessions, outbox)
        await async_world.write("another")
    assert attempts == [1, 2]
    assert [by for _, by in await async_world.effects()] == ["attempt 2"]


@pytest.mark.parametrize("names_session", [True, False])
@pytest.mark.parametrize("missing", ["skip", "call", "dead"])
async def test_a_row_that_is_gone(
    world: World, missing: Any, names_session: bool, figures: list[tuple[str, str]]
) -> None:
    """It is skipped, or the call has None, or it is an error; as in a worker."""
    seen: list[Any] = []

    async def index(instance: Any, session: Any, **_: Any) -> None:
        seen.append(instance)

    async def mail(instance: Any, **_: Any) -> None:
        seen.append(instance)

    connect(index if names_session else mail, Durable("test.notes", missing=missing))
    event = await message(world)
    await world.run(lambda session: session.execute(delete(Note)) and None)
    if missing == "dead":
        with pytest.raises(MissingRowError, match="missing='dead'"):
            await receive(event, world.sessions)
        assert await noted(world) == 0
        assert not await receive_until_done(event, world.sessions, outbox)
        return
    assert await receive(event, world.sessions) is True
    assert await receive(event, world.sessions) is False
    assert seen == ([None] if missing == "call" else [])
    assert ("done" if missing == "call" else "skipped", "test.notes") in figures


async def test_messages_of_old_versions_are_upgraded(world: World) -> None:
    """By the upgrades from their version to that of the receiver."""
    seen: list[Any] = []

    async def mail(event: Any, **_: Any) -> None:
        seen.append((event.version, event.values))

    def rename(payload: dict[str, Any]) -> dict[str, Any]:
        return {**payload, "values": {"title": payload["values"]["text"]}}

    connect(mail, Durable("test.notes", include=("text",), version=3, upgrade={1: rename}))
    assert await receive(await message(world, version=1), world.sessions) is True
    assert seen == [(3, {"title": "one"})]


async def test_an_upgrade_that_fails_is_raised(async_world: World) -> None:
    """It counts as a failure of the receiver."""

    def fail(payload: dict[str, Any]) -> dict[str, Any]:
        raise LookupError("no title")

    attempts = connect_mail(Durable("test.notes", version=2, upgrade={1: fail}, retry=AT_ONCE))
    event = await message(async_world, version=1)
    with pytest.raises(LookupError, match="no title"):
        await receive(event, async_world.sessions)
    assert not await receive_until_done(event, async_world.sessions, outbox)
    assert attempts == []


# -- what can't be delivered ------------------------------------------------------------------------


async def test_a_message_for_an_unknown_receiver(async_world: World) -> None:
    """The error names the receiver, and the ways in which it becomes known."""
    connect_mail()
    event = await message(async_world, receiver="gone.notes")
    with pytest.raises(OutboxError, match=r"'gone.notes', and no such .*modules=.*formerly="):
        await receive(event, async_world.sessions)


async def test_a_message_that_is_newer_than_the_code(async_world: World) -> None:
    """The error says both versions: another process may know it."""
    attempts = connect_mail(Durable("test.notes", version=2))
    event = await message(async_world, version=3)
    with pytest.raises(OutboxError, match=r"has version 3 .* has version 2 .* newer code"):
        await receive(event, async_world.sessions)
    assert (attempts, await noted(async_world)) == ([], 0)


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ("not JSON", "is not JSON"),
        (b"\xff", "is not JSON"),
        ({"type": "paid"}, "is not a CloudEvent 1.0"),
        ({"specversion": "1.0", "id": "1", "source": "/", "type": "a"}, "is not one of an outbox"),
    ],
    ids=str,
)
async def test_what_is_not_a_message(async_world: World, event: Any, problem: str) -> None:
    """The error says what was received; repeating it would change nothing."""
    with pytest.raises(OutboxError, match=problem):
        await receive(event, async_world.sessions)


async def test_a_missing_inbox(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The error names the migration; a message that waits for it counts no attempt."""
    connect_index("test.index")
    attempts = connect_mail("test.mail")
    await world.write("one")
    events = [as_json(event) for event in await world.events()]
    await world.run(lambda session: outbox.tables.inbox.drop(session.connection()))
    for event in events:
        with pytest.raises(OutboxError, match=r"aksara_inbox is missing.*alembic"):
            await receive(event, world.sessions)
        outcome = await attempt_once(event, world.sessions, outbox, 3)
        assert (outcome.is_dead, outcome.counts, outcome.next_attempt) == (False, False, 3)
    assert (attempts, await world.effects()) == ([], [])
    await world.run(lambda session: outbox.tables.inbox.create(session.connection()))
    assert [await receive(event, world.sessions) for event in events] == [True, True]


async def test_another_table_that_is_missing_is_the_receivers_error(async_world: World) -> None:
    """As the receiver has raised it."""

    async def index(event: Any, session: Any, **_: Any) -> None:
        await session.execute(text("SELECT * FROM nowhere"))

    connect(index)
    with pytest.raises(Exception, match="nowhere") as raised:
        await receive(await message(async_world), async_world.sessions)
    assert not isinstance(raised.value, OutboxError)


async def test_without_an_outbox(async_world: World) -> None:
    """One must be installed, or given; and the error says so."""
    connect_mail()
    event = await message(async_world)
    outbox.uninstall()
    with pytest.raises(OutboxError, match=r"no outboxes are installed; give one by outbox=, or"):
        await receive(event, async_world.sessions)
    assert await receive(event, async_world.sessions, outbox=outbox) is True


async def test_what_makes_no_sessions(async_world: World) -> None:
    """As for workers."""
    with pytest.raises(InvalidOptionError, match="bound to an engine"):
        await receive(await message(async_world_of(async_world)), async_sessionmaker())


def async_world_of(world: World) -> World:
    connect_mail()
    return world


# -- again and again --------------------------------------------------------------------------------


async def test_failures_are_repeated_after_the_delays_of_retry(
    async_world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The message stays with its process meanwhile; each failure is logged."""
    delays: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        delays.append(seconds)
        await sleep(0)

    async def index(event: Any, session: Any, **_: Any) -> None:
        session.add(Effect(note_id=event.key[0], by=f"attempt {event.attempt}"))
        if event.attempt < 4:
            raise ValueError("not yet")

    retry = Retry(attempts=4, first_seconds=10, factor=3, jitter=0)
    connect(index, Durable("test.notes", retry=retry))
    event = await message(async_world)
    monkeypatch.setattr(receiving.asyncio, "sleep", note)
    assert await receive_until_done(event, async_world.sessions, outbox) is True
    monkeypatch.undo()
    assert delays == [10.0, 30.0, 90.0]
    assert [by for _, by in await async_world.effects()] == ["attempt 4"]
    failures = [each.message for each in caplog.records if "failed" in each.message]
    assert ["attempt 1" in failures[0], "attempt 3" in failures[2]] == [True, True]
    assert len(failures) == 3


async def test_a_dead_letter_is_made_known(
    async_world: World, caplog: pytest.LogCaptureFixture, figures: list[tuple[str, str]]
) -> None:
    """When its attempts are used up, in the log and by ``on_delivery_error``."""
    errors: list[Any] = []

    def note(error: Any, payload: Any, failed_signal: Any, **_: Any) -> None:
        errors.append((str(error), payload["receiver"], failed_signal))

    def mail(event: Any, **_: Any) -> None:
        raise ValueError(f"attempt {event.attempt}")

    on_delivery_error.connect(note)
    connect(mail, Durable("test.notes", retry=AT_ONCE))
    event = await message(async_world)
    assert await receive_until_done(event, async_world.sessions, outbox) is False
    assert errors == [("attempt 3", "test.notes", post_save)]
    assert "has failed for good" in caplog.text
    assert figures.count(("failed", "test.notes")) == 3
    assert figures.count(("dead", "test.notes")) == 1
    assert await noted(async_world) == 0


@pytest.mark.parametrize("names_session", [True, False])
async def test_an_outage_of_the_database_counts_no_attempt(
    world: World,
    names_session: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The receiver wasn't called, so it is called for the first time when the database is back."""
    outages = 3

    def refuse(function: Any) -> Any:
        def refusing(*arguments: Any) -> Any:
            nonlocal outages
            if outages:
                outages -= 1
                raise OperationalError("SELECT", {}, ConnectionRefusedError("no database"))
            return function(*arguments)

        return refusing

    if names_session:
        connect_index(Durable("test.notes", retry=Retry(attempts=1)))
    else:
        attempts = connect_mail(Durable("test.notes", retry=Retry(attempts=1)))
    event = await message(world)
    name = "note" if names_session else "is_noted"
    monkeypatch.setattr(inbox, name, refuse(getattr(inbox, name)))
    monkeypatch.setattr(receiving, "OUTAGE_SECONDS", 0.01)
    assert await receive_until_done(event, world.sessions, outbox) is True
    assert caplog.text.count("not counted as an attempt") == 3
    if names_session:
        assert [by for _, by in await world.effects()] == ["attempt 1"]
    else:
        assert attempts == [1]


async def test_an_unknown_receiver_is_waited_for(
    async_world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be deployed in a minute; nothing is given up meanwhile."""
    monkeypatch.setattr(receiving, "NEWER_SECONDS", 0.05)
    attempts = connect_mail()
    event = await message(async_world, receiver="later.notes")
    waiting = asyncio.create_task(receive_until_done(event, async_world.sessions, outbox))
    while "no such durable receiver" not in caplog.text:
        await asyncio.sleep(0.01)
    later = connect_mail("later.notes")  # found within a second
    assert await waiting is True
    assert (attempts, later) == ([], [1])


async def test_what_is_not_a_message_is_given_up(
    async_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """With an error in the log: no repetition would change it."""
    assert await receive_until_done("{", async_world.sessions, outbox) is False
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "a message is given up" in record.message
    assert "is not JSON" in record.message


async def test_a_repeat_is_done(async_world: World, figures: list[tuple[str, str]]) -> None:
    """Nothing is left to do for it, so its broker needs to know no more."""
    attempts = connect_mail()
    event = await message(async_world)
    for _ in range(2):
        assert await receive_until_done(event, async_world.sessions, outbox) is True
    assert attempts == [1]
    assert figures.count(("done", "test.notes")) == figures.count(("repeated", "test.notes")) == 1
    assert figures.count(("duration_seconds", "test.notes")) == 1


async def test_a_success_has_nothing_to_report(
    async_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither is it dead."""
    connect_mail()
    outcome = await attempt_once(await message(async_world), async_world.sessions, outbox, 1)
    await outcome.report()
    assert (outcome.is_new, outcome.is_dead, outcome.error) == (True, False, None)
    assert caplog.records == []


# -- the inbox --------------------------------------------------------------------------------------


async def test_old_messages_are_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ``keep_inbox_seconds``, by any message that comes later; in chunks."""
    monkeypatch.setattr(receiving, "PURGE_SECONDS", 0.0)
    monkeypatch.setattr(upkeep, "CHUNK", 2)
    monkeypatch.setattr(outbox, "keep_inbox_seconds", 100.0)
    attempts = connect_mail()
    events = [await message(world) for _ in range(6)]
    for event in events[:5]:
        await receive(event, world.sessions)
    assert await noted(world) == 5
    table_of_inbox = outbox.tables.inbox
    statement = update(table_of_inbox).values(done_at=clock(-200))
    await world.run(lambda session: session.execute(statement) and None)
    await receive(events[5], world.sessions)
    assert await noted(world) == 1
    assert await receive(events[0], world.sessions) is True  # a broker that repeats after so long
    assert len(attempts) == 7


async def test_a_purge_that_fails_fails_no_message(
    async_world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is delivered, whatever becomes of the old ones."""

    def fail(*_: Any) -> Any:
        raise ValueError("broken")

    monkeypatch.setattr(receiving, "PURGE_SECONDS", 0.0)
    monkeypatch.setattr(inbox, "purge", fail)
    attempts = connect_mail()
    assert await receive(await message(async_world), async_world.sessions) is True
    assert attempts == [1]
    assert "old rows of the inbox can't be deleted: ValueError: broken" in caplog.text


def test_event_loops_that_are_closed_leave_nothing_behind(database: Any) -> None:
    """A process that receives each message in a loop of its own doesn't grow, in threads neither."""
    is_there = 0

    async def run() -> None:
        nonlocal is_there
        async with world_of(database, is_async=False) as world:
            connect(mail)
            event = await message(world)
            found = await asyncio.gather(*(receive(event, world.sessions) for _ in range(3)))
            assert found.count(True) == 1
            is_there = len(receiving._consumers)

    def mail(event: Any, session: Any, **_: Any) -> None: ...

    sizes, threads = [], []
    for _ in range(4):
        asyncio.run(run())
        gc.collect()
        sizes.append(is_there)
        threads.append(sum(each.name == "aksara-signals worker" for each in threading.enumerate()))
    assert sizes == [sizes[0]] * 4
    assert max(threads) <= threads[0] + 3


async def test_a_worker_and_a_broker_may_deliver_side_by_side(world: World) -> None:
    """Some receivers are called here, by a worker, and others there."""
    connect_index("local.index")
    attempts = connect_mail("remote.mail")
    await world.write("one")

    async def publish(event: DurableEvent) -> None:
        assert await receive(as_json(event), world.sessions) is True

    await world.relay(publish, receivers=["remote.*"]).run_until_idle()
    await world.drain(receivers=["local.*"])
    assert (attempts, len(await world.effects())) == ([1], 1)
    assert await world.statuses() == [1, 1]

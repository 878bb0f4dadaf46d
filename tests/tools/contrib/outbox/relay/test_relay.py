"""A relay: which rows it publishes, by which function, and how it ends."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from kit.databases import Database
from kit.outbox_workers import (
    DONE,
    WAITING,
    Effect,
    Note,
    World,
    connect,
    eventually,
    outbox,
    past,
    table,
)
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

from aksara_signals import InvalidOptionError, OutboxError
from aksara_signals.contrib.outbox import Durable, DurableEvent, Relay, hooks
from aksara_signals.contrib.outbox.rows.tables import clock

NOTES = Durable("test.notes", include=("text",))


def connect_notes(durable: Any = NOTES) -> None:
    """A receiver that must not be called: its process would be another one."""

    async def receiver(event: Any, **_: Any) -> None:
        raise AssertionError("a relay has called a receiver")

    connect(receiver, durable)


class Published:
    """What was published, in order."""

    def __init__(self) -> None:
        self.events: list[DurableEvent] = []

    async def __call__(self, event: DurableEvent) -> None:
        self.events.append(event)

    @property
    def texts(self) -> list[str]:
        return [event.values["text"] for event in self.events]


# -- what is published ------------------------------------------------------------------------------


async def test_a_row_is_done_once_publish_has_returned(world: World) -> None:
    """While the broker has not confirmed it, a row is leased by the relay, and not done."""
    has_begun, goes_on = asyncio.Event(), asyncio.Event()

    async def publish(event: DurableEvent) -> None:
        has_begun.set()
        await goes_on.wait()

    connect_notes()
    await world.write("one")
    async with world.relay(publish) as relay:
        await has_begun.wait()
        await asyncio.sleep(0.1)
        [row] = await world.rows()
        assert (row.status, row.leased_by) == (WAITING, relay.name)
        goes_on.set()
        await eventually(lambda: world_is_done(world))
    assert relay.name.startswith("relay-")


async def world_is_done(world: World) -> bool:
    return set(await world.statuses()) == {DONE}


async def test_an_event_has_all_that_is_stored(world: World) -> None:
    """Also what only a broker needs: the lane, the version, the generation and the headers."""
    published = Published()
    connect_notes(Durable("test.notes", include=("text",), version=3))
    [key] = await world.write("one")
    headers = {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01", "x-tenant": "7"}
    await world.change(headers=headers, generation=2)
    await world.relay(published).run_until_idle()
    [event], [row] = published.events, await world.rows()
    assert (event.id, event.receiver, event.type) == (row.id, "test.notes", "post_save")
    assert (event.key, event.created, event.values) == ((key,), True, {"text": "one"})
    assert (event.version, event.generation, event.lane) == (3, 2, row.lane)
    assert event.headers == headers
    assert event.attempt == 1
    assert event.sent_at is not None


async def test_only_chosen_receivers_are_published(world: World) -> None:
    """With ``receivers=``, the rows of all others are left to workers."""
    published, called = Published(), []

    async def receiver(event: Any, **_: Any) -> None:
        called.append(event.receiver)

    connect(receiver, "local.notes")
    connect_notes(Durable("broker.notes", include=("text",)))
    await world.write("one")
    await world.relay(published, receivers=["broker.*"]).run_until_idle()
    assert [event.receiver for event in published.events] == ["broker.notes"]
    assert {row.receiver: row.status for row in await world.rows()} == {
        "broker.notes": DONE,
        "local.notes": WAITING,
    }
    await world.drain(receivers=["local.*"])
    assert called == ["local.notes"]


async def test_rows_of_a_former_name_have_the_present_one(world: World) -> None:
    """What was written before a rename goes where the receiver is now, and in its order."""
    published = Published()
    connect_notes(Durable("new.notes", include=("text",), formerly=("old.notes",)))
    [key] = await world.write("one")
    await world.change(receiver="old.notes")
    await world.edit(key, "two")
    await world.relay(published).run_until_idle()
    assert [event.receiver for event in published.events] == ["new.notes", "new.notes"]
    assert published.texts == ["one", "two"]
    assert await world_is_done(world)


async def test_a_row_whose_relay_is_gone_is_published_by_another_one(async_world: World) -> None:
    """When its lease has run out; however often that happens, the row doesn't die of it."""
    published = Published()
    connect_notes()
    await async_world.write("one", "two", "three")
    await async_world.change(leased_by="relay-gone", visible_at=past(), crashes=7)
    await async_world.relay(published).run_until_idle()
    assert sorted(published.texts) == ["one", "three", "two"]
    assert [(row.status, row.crashes) for row in await async_world.rows()] == [(DONE, 7)] * 3


async def test_a_row_that_another_relay_has_is_not_taken_back(async_world: World) -> None:
    """Whoever lost the lease marks nothing as done: the row is published by the other one."""

    async def publish(event: DurableEvent) -> None:
        statement = update(table).values(leased_by="relay-other", visible_at=clock(600))
        await async_world.run(lambda session: session.execute(statement) and None)

    connect_notes()
    await async_world.write("one")
    relay = async_world.relay(publish)
    async with relay:
        await eventually(lambda: relay.health()["lost_leases"] == 1)
    [row] = await async_world.rows()
    assert (row.status, row.leased_by) == (WAITING, "relay-other")


async def test_a_new_row_wakes_a_relay_in_the_same_process(async_world: World) -> None:
    """It doesn't wait for its next poll."""
    published = Published()
    connect_notes()
    relay = async_world.relay(published, longest_poll_seconds=3600.0, shortest_poll_seconds=1800.0)
    async with relay:
        await eventually(lambda: relay.health()["last_claim_seconds_ago"] is not None)
        await async_world.write("one")
        await eventually(lambda: published.texts == ["one"])


# -- the function -----------------------------------------------------------------------------------


async def test_a_sync_publish_is_called_in_a_thread(world: World) -> None:
    """So it may block: several of them wait side by side."""
    threads: set[int] = set()
    barrier = threading.Barrier(3, timeout=60)

    def publish(event: DurableEvent) -> None:
        threads.add(threading.get_ident())
        barrier.wait()

    connect_notes()
    await world.write("one", "two", "three")
    await world.relay(publish).run_until_idle()
    assert len(threads) == 3
    assert threading.get_ident() not in threads
    assert await world_is_done(world)


async def test_what_a_sync_publish_returns_is_awaited(async_world: World) -> None:
    """As of a function that is async, but doesn't look like it."""
    published = Published()
    connect_notes()
    await async_world.write("one")

    def publish(event: DurableEvent) -> Any:
        return published(event)

    await async_world.relay(publish).run_until_idle()
    assert published.texts == ["one"]


class PublisherWithConnection(Published):
    """Publishes only while it is connected, and takes note of when that is."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []
        self.begun = 0

    async def __aenter__(self) -> Self:
        self.steps.append("connected")
        return self

    async def __call__(self, event: DurableEvent) -> None:
        self.begun += 1
        await asyncio.sleep(0.05)
        await super().__call__(event)
        self.steps.append("published")

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.steps.append("closed" if error is None else type(error).__name__)


async def test_a_publish_that_is_a_context_manager_is_entered_and_left(world: World) -> None:
    """It is connected before the first event, and closed after the last one; once per run."""
    publish = PublisherWithConnection()
    connect_notes()
    await world.write("one")
    relay = world.relay(publish)
    await relay.run_until_idle()
    assert publish.steps == ["connected", "published", "closed"]
    await world.write("two")
    async with relay:
        await eventually(lambda: publish.begun == 2)  # a row that isn't begun would be given back
    assert publish.steps == ["connected", "published", "closed"] * 2
    assert await world_is_done(world)


async def test_a_context_manager_is_left_if_the_relay_cannot_start(async_world: World) -> None:
    """Whatever keeps it from starting, nothing stays open."""
    publish = PublisherWithConnection()
    with pytest.raises(OutboxError, match="a relay was started, and no durable receiver"):
        await async_world.relay(publish, receivers=["nobody"]).run()
    assert publish.steps == ["connected", "OutboxError"]


@pytest.mark.parametrize("is_sync", [False, True])
async def test_a_publish_that_takes_too_long_is_sent_again(
    async_world: World, is_sync: bool
) -> None:
    """It is cancelled after ``timeout_seconds``; that counts as no attempt."""
    tries: list[str] = []
    ends = threading.Event()

    async def publish(event: DurableEvent) -> None:
        tries.append("begun")
        if len(tries) == 1:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                tries.append("cancelled")
                raise

    def publish_sync(event: DurableEvent) -> None:
        tries.append("begun")
        if len(tries) == 1:
            ends.wait(60)

    connect_notes()
    await async_world.write("one")
    relay = async_world.relay(publish_sync if is_sync else publish, timeout_seconds=0.2)
    async with relay:
        await eventually(lambda: relay.health()["failed"] == 1)
        [row] = await async_world.rows()
        assert "TimeoutError" in row.last_error
        await async_world.due_now()
        await eventually(lambda: world_is_done(async_world))
    ends.set()
    assert tries == (["begun"] * 2 if is_sync else ["begun", "cancelled", "begun"])
    [row] = await async_world.rows()
    assert (row.attempts, row.crashes, row.last_error) == (0, 0, None)


# -- the end ----------------------------------------------------------------------------------------


async def test_stop_lets_publishes_be_confirmed(world: World) -> None:
    """What is being published when the relay is stopped is done; the rest is given back."""
    has_begun, goes_on = asyncio.Event(), asyncio.Event()

    async def publish(event: DurableEvent) -> None:
        has_begun.set()
        await goes_on.wait()

    connect_notes()
    await world.write("one", "two")
    relay = world.relay(publish, concurrency=1, grace_seconds=60.0)
    run = asyncio.create_task(relay.run())
    await has_begun.wait()
    relay.stop()
    await asyncio.sleep(0.1)
    assert not run.done()
    goes_on.set()
    await run
    assert [(row.status, row.leased_by) for row in await world.rows()] == [
        (DONE, None),
        (WAITING, None),
    ]


@pytest.mark.parametrize("is_hurried", [False, True])
async def test_what_is_not_confirmed_in_time_is_given_back(
    async_world: World, is_hurried: bool
) -> None:
    """After ``grace_seconds``, or at once, publishes are cancelled, and their rows are fresh."""
    has_begun = asyncio.Event()
    cancelled: list[str] = []

    async def publish(event: DurableEvent) -> None:
        has_begun.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            cancelled.append(event.values["text"])
            raise

    connect_notes()
    await async_world.write("one")
    relay = async_world.relay(publish, grace_seconds=600.0 if is_hurried else 0.1)
    run = asyncio.create_task(relay.run())
    await has_begun.wait()
    relay.stop(now=is_hurried)
    async with asyncio.timeout(60):
        await run
    assert cancelled == ["one"]
    [row] = await async_world.rows()
    assert (row.status, row.leased_by, row.visible_at) == (WAITING, None, None)
    assert (row.attempts, row.crashes) == (0, 0)


async def test_a_relay_runs_once_at_a_time(async_world: World) -> None:
    """A second run beside the first is refused, in its own words."""
    connect_notes()
    async with async_world.relay(Published()) as relay:
        with pytest.raises(OutboxError, match=r"relay-.* runs already"):
            await relay.run()


# -- what it needs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"timeout_seconds": 0},
        {"timeout_seconds": float("inf")},
        {"timeout_seconds": "long"},
        {"timeout_seconds": None},
        {"concurrency": 0},
        {"batch_size": "many"},
        {"lease_seconds": -1},
        {"grace_seconds": -1},
        {"shortest_poll_seconds": 0},
        {"receivers": "search.*"},
        {"health_file": 7},
        {"listen": "yes"},
    ],
    ids=str,
)
def test_wrong_options_of_a_relay(options: dict[str, Any]) -> None:
    """They are refused when the relay is made; the error names them, and calls it a relay."""
    [name] = options
    with pytest.raises(InvalidOptionError, match=f"^a relay can't have {name}="):
        outbox.relay(Published(), async_sessionmaker(), **options)


def test_intervals_of_a_relay_that_contradict_each_other() -> None:
    """The longest interval is at least the shortest one."""
    with pytest.raises(
        InvalidOptionError, match=r"^a relay can't poll at shortest every 2 seconds"
    ):
        outbox.relay(
            Published(), async_sessionmaker(), shortest_poll_seconds=2, longest_poll_seconds=1
        )


def test_what_cannot_publish() -> None:
    """What can't be called is refused when the relay is made."""
    with pytest.raises(InvalidOptionError, match=r"^a relay can't publish by 'queue'; give a func"):
        Relay("queue", outbox, async_sessionmaker())  # type: ignore[arg-type]


async def test_a_missing_table_keeps_a_relay_from_starting(database: Database) -> None:
    """The error names the migration."""
    connect_notes()
    engine: AsyncEngine = World(database, is_async=True).engine
    try:
        with pytest.raises(OutboxError, match=r"^a relay can't start: table .*aksara_outbox"):
            await outbox.relay(Published(), async_sessionmaker(engine)).run()
    finally:
        await engine.dispose()


async def test_models_may_be_in_another_database(async_world: World, tmp_path: Path) -> None:
    """Only a worker writes there."""

    async def index(event: Any, session: Any, **_: Any) -> None: ...

    connect(index, NOTES)
    other = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'other.db'}")
    sessions = async_sessionmaker(
        binds={Note: other, Effect: other, table: async_world.engine},
    )
    published = Published()
    await async_world.write("one")
    try:
        await async_world.relay(published, sessions).run_until_idle()
    finally:
        await other.dispose()
    assert published.texts == ["one"]


# -- health -----------------------------------------------------------------------------------------


async def test_figures_of_a_relay(async_world: World, tmp_path: Path) -> None:
    """Observers and ``health()`` have the same figures as of a worker; the file is touched."""
    seen: dict[str, list[float]] = {}

    def observe(name: str, receiver: str, value: float) -> None:
        seen.setdefault(name, []).append(value)

    connect_notes()
    await async_world.write("one", "two")
    relay = async_world.relay(Published(), health_file=tmp_path / "healthy")
    hooks.observers.append(observe)
    try:
        await relay.run_until_idle()
    finally:
        hooks.observers.remove(observe)
    assert (sum(seen["claimed"]), sum(seen["done"])) == (2, 2)
    assert len(seen["duration_seconds"]) == len(seen["lag_seconds"]) == 2
    assert min(seen["duration_seconds"] + seen["lag_seconds"]) >= 0
    health = relay.health()
    assert (health["claimed"], health["done"], health["failed"]) == (2, 2, 0)
    assert json.loads(json.dumps(health)) == health
    assert (tmp_path / "healthy").exists()

"""Calling a durable receiver: its arguments, its transaction, and what it must not do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from kit.outbox_workers import (
    DEAD,
    DONE,
    IN_A_MINUTE,
    WAITING,
    Base,
    Effect,
    Note,
    Unrelated,
    World,
    connect,
    outbox,
    plain,
    table,
)
from sqlalchemy import delete, inspect, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from aksara_signals import Signal, post_delete, post_save
from aksara_signals.contrib.outbox import Durable, Retry
from aksara_signals.contrib.outbox.rows.tables import clock
from aksara_signals.exceptions import SessionInUseError

FAST = Retry(attempts=3, first_seconds=60)


# -- with session: exactly once ---------------------------------------------------------------------


async def test_a_receiver_writes_in_the_transaction_that_marks_its_row(world: World) -> None:
    """What a receiver adds to ``session`` is committed together with the mark that it is done."""

    def index(instance: Any, created: bool, session: Any, event: Any, **_: Any) -> None:
        assert created
        assert event.key == (instance.id,)
        session.add(Effect(note_id=instance.id, by=instance.text))

    connect(index)
    [key] = await world.write("one")
    assert (await world.drain())["done"] == 1
    assert await world.effects() == [(key, "one")]
    assert await world.statuses() == [DONE]


async def test_an_async_receiver_is_given_the_session_of_its_worker(world: World) -> None:
    """An async receiver can wait, and write by the session; with plain sessions, too."""

    async def index(event: Any, session: Any, **_: Any) -> None:
        await asyncio.sleep(0)
        session.add(Effect(note_id=event.key[0], by="async"))
        if world.is_async:
            await session.flush()
        else:
            session.flush()

    connect(index)
    [key] = await world.write("one")
    await world.drain()
    assert await world.effects() == [(key, "async")]


async def test_a_failure_rolls_back_what_the_receiver_has_written(world: World) -> None:
    """If a receiver raises, nothing of it is kept; the row is tried again, and then kept once."""
    attempts: list[int] = []

    def index(event: Any, session: Any, **_: Any) -> None:
        session.add(Effect(note_id=event.key[0], by=f"attempt {event.attempt}"))
        plain(session).flush()
        attempts.append(event.attempt)
        if event.attempt < 3:
            raise ValueError("not yet")

    connect(index, Durable("test.notes", retry=FAST))
    [key] = await world.write("one")
    for _ in range(3):
        await world.drain()
        await world.due_now()
    assert attempts == [1, 2, 3]
    assert await world.effects() == [(key, "attempt 3")]
    assert await world.statuses() == [DONE]


async def test_the_slower_of_two_workers_is_rolled_back(world: World) -> None:
    """If another worker has taken a row over, the first one's transaction is rolled back."""

    def steal(session: Any) -> None:
        plain(session).execute(table.update().values(leased_by="another", visible_at=clock(600)))

    async def index(event: Any, session: Any, **_: Any) -> None:
        session.add(Effect(note_id=event.key[0], by="slow"))
        # What another worker's claim does once the lease has run out. On SQLite nobody else can
        # write meanwhile.
        if world.database.dialect == "postgresql":
            await world.change(leased_by="another", visible_at=clock(600))
        elif world.is_async:
            await session.run_sync(steal)
        else:
            steal(session)

    connect(index)
    await world.write("one")
    health = await world.drain()
    assert health["lost_leases"] == 1
    assert health["done"] == 0
    assert await world.effects() == []
    assert [row.attempts for row in await world.rows()] == [0]


@pytest.mark.parametrize("method", ["commit", "rollback", "close", "reset", "invalidate"])
async def test_a_receiver_cannot_end_the_transaction(world: World, method: str) -> None:
    """``commit()``, ``rollback()`` and ``close()`` raise, and the row is tried again."""
    errors: list[BaseException] = []

    async def index(event: Any, session: Any, **_: Any) -> None:
        session.add(Effect(note_id=event.key[0], by="one"))
        if event.attempt > 1:
            return
        try:
            result = getattr(session, method)()
            if world.is_async:
                await result
        except BaseException as error:
            errors.append(error)
            raise

    connect(index, Durable("test.notes", retry=FAST))
    [key] = await world.write("one")
    await world.drain()
    [error] = errors
    assert isinstance(error, SessionInUseError)
    assert "savepoint" in str(error)
    await world.due_now()
    await world.drain()
    assert await world.effects() == [(key, "one")]


async def test_savepoints_are_allowed(world: World) -> None:
    """A receiver may try something in a savepoint, and roll that back."""

    def index(event: Any, session: Any, **_: Any) -> None:
        session.add(Effect(note_id=event.key[0], by="kept"))
        savepoint = plain(session).begin_nested()
        session.add(Effect(note_id=event.key[0], by="dropped"))
        plain(session).flush()
        savepoint.rollback()

    connect(index)
    [key] = await world.write("one")
    await world.drain()
    assert await world.effects() == [(key, "kept")]


async def test_a_broken_transaction_is_not_taken_for_a_success(world: World) -> None:
    """An error of the database that a receiver has swallowed fails the call."""

    def index(event: Any, session: Any, **_: Any) -> None:
        try:
            session.add(Effect(note_id=event.key[0], by=None))
            plain(session).flush()
        except Exception:
            return

    connect(index)
    await world.write("one")
    health = await world.drain()
    assert (health["done"], health["failed"]) == (0, 1)
    assert await world.statuses() == [WAITING]


async def test_what_a_receiver_causes_is_committed_with_it(world: World) -> None:
    """Signals of its writes are sent inside its transaction, and durable ones are stored in it."""
    seen: list[str] = []

    def count(instance: Any, **_: Any) -> None:
        seen.append("flushed")

    def later(event: Any, **_: Any) -> None:
        seen.append("second")

    def index(event: Any, session: Any, **_: Any) -> None:
        session.add(Unrelated())
        if event.attempt == 1:
            plain(session).flush()
            raise ValueError

    post_save.connect(count, sender=Unrelated)
    post_save.connect(later, sender=Unrelated, durable="test.later")
    connect(index, Durable("test.notes", retry=FAST))
    await world.write("one")
    await world.drain()
    assert seen == ["flushed"]
    assert len(await world.rows()) == 1
    await world.due_now()
    await world.drain()
    assert seen == ["flushed", "flushed", "second"]
    assert await world.statuses() == [DONE, DONE]


async def test_the_session_is_the_active_one(world: World) -> None:
    """Operations of models in a receiver use its session."""

    async def index(event: Any, session: Any, **_: Any) -> None:
        note = await Note.objects.get(id=event.key[0])
        assert note in session

    connect(index)
    await world.write("one")
    assert (await world.drain())["done"] == 1


# -- without session: at least once -----------------------------------------------------------------


async def test_without_session_no_transaction_is_open_during_the_call(world: World) -> None:
    """A receiver that names no session is called outside of one; its instance is detached."""
    seen: list[Any] = []

    def send_mail(instance: Any, event: Any, **arguments: Any) -> None:
        seen.append((instance.text, inspect(instance).detached, arguments.get("session")))

    connect(send_mail)
    await world.write("one")
    assert (await world.drain())["done"] == 1
    assert seen == [("one", True, None)]
    assert await world.statuses() == [DONE]


async def test_arguments_that_nobody_names_are_not_loaded(async_world: World) -> None:
    """A receiver that doesn't name ``instance`` costs no SELECT, and gets none."""
    seen: list[set[str]] = []

    async def send_mail(event: Any, **arguments: Any) -> None:
        seen.append(set(arguments))

    connect(send_mail)
    await async_world.write("one")
    await async_world.drain()
    [names] = seen
    assert "instance" not in names
    assert {"signal", "sender", "session", "created"} <= names


async def test_a_sync_receiver_of_plain_sessions_runs_in_a_thread(database: Any) -> None:
    """With a plain ``sessionmaker``, synchronous receivers don't block the event loop."""
    from kit.outbox_workers import world_of

    async with world_of(database, is_async=False) as world:
        loop, threads = asyncio.get_running_loop(), set()

        def send_mail(event: Any, **_: Any) -> None:
            import threading

            threads.add(threading.current_thread())
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(5)

        connect(send_mail)
        await world.write("one", "two")
        assert (await world.drain())["done"] == 2
        assert all(thread.daemon for thread in threads)


async def test_several_receivers_and_senders(world: World) -> None:
    """Each receiver of a send has a row of its own, and gets the signal and its sender."""
    seen: list[Any] = []

    def first(signal: Any, sender: Any, event: Any, **_: Any) -> None:
        seen.append(("first", signal.name, sender, event.type))

    async def second(sender: Any, event: Any, **_: Any) -> None:
        seen.append(("second", sender, event.values["text"]))

    connect(first, "test.first")
    connect(second, Durable("test.second", include=("text",)))
    await world.write("one")
    assert (await world.drain())["done"] == 2
    assert sorted(seen) == [("first", "post_save", Note, "post_save"), ("second", Note, "one")]


async def test_custom_signals_and_deletes(world: World) -> None:
    """What was sent with a custom signal arrives as arguments; a delete has its key."""
    paid = Signal("paid", providing_args=["amount"])
    seen: list[Any] = []

    def note_payment(sender: Any, amount: int, event: Any, **_: Any) -> None:
        seen.append((sender, amount, event.data["amount"]))

    def remove(event: Any, **_: Any) -> None:
        seen.append(event.key)

    paid.connect(note_payment, sender="shop", durable="test.paid")
    post_delete.connect(remove, sender=Note, durable="test.remove")
    [key] = await world.write("one")

    def change(session: Any) -> None:
        session.delete(session.get_one(Note, key))
        session.flush()
        paid.send_sync("shop", session=session, amount=5)

    await world.run(change)
    assert (await world.drain())["done"] == 2
    paid.disconnect(note_payment, sender="shop")
    assert sorted(seen, key=str) == [("shop", 5, 5), (key,)]


# -- rows that are gone ----------------------------------------------------------------------------


async def gone(world: World, missing: Any, names_session: bool) -> tuple[list[Any], dict[str, Any]]:
    seen: list[Any] = []
    if names_session:

        def receiver(instance: Any, session: Any, **_: Any) -> None:
            seen.append(instance)
    else:

        def receiver(instance: Any, **_: Any) -> None:
            seen.append(instance)

    connect(receiver, Durable("test.notes", missing=missing))
    await world.write("one")
    await world.run(lambda session: session.execute(delete(Note)) and None)
    return seen, await world.drain()


@pytest.mark.parametrize("names_session", [True, False])
async def test_missing_skip(world: World, names_session: bool) -> None:
    """By default, a receiver whose row is gone isn't called, and counts as done."""
    seen, health = await gone(world, "skip", names_session)
    assert seen == []
    assert (health["skipped"], health["done"]) == (1, 0)
    assert await world.statuses() == [DONE]


@pytest.mark.parametrize("names_session", [True, False])
async def test_missing_call(world: World, names_session: bool) -> None:
    """With ``missing="call"`` the receiver is called with None."""
    seen, health = await gone(world, "call", names_session)
    assert seen == [None]
    assert health["done"] == 1


@pytest.mark.parametrize("names_session", [True, False])
async def test_missing_dead(
    world: World, names_session: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """With ``missing="dead"`` the row is a dead letter at once."""
    seen, health = await gone(world, "dead", names_session)
    assert seen == []
    assert health["dead"] == 1
    assert await world.statuses() == [DEAD]
    assert "is gone" in caplog.text


# -- versions --------------------------------------------------------------------------------------


async def test_old_rows_are_upgraded(world: World) -> None:
    """A row of an older version passes through the upgrades from its version to the present one."""
    seen: list[Any] = []

    def receiver(event: Any, **_: Any) -> None:
        seen.append((dict(event.data), event.version))

    def one(payload: dict[str, Any]) -> dict[str, Any]:
        return {**payload, "data": {"steps": [1]}}

    def two(payload: dict[str, Any]) -> dict[str, Any]:
        payload["data"]["steps"].append(2)
        return payload

    connect(receiver, Durable("test.notes", version=3, upgrade={1: one, 2: two}))
    await world.write("one", "two")
    await world.change(table.c.seq == 1, version=1)
    await world.drain()
    assert sorted(seen, key=str) == [({"steps": [1, 2]}, 3), ({}, 3)]


@pytest.mark.parametrize("result", [ValueError("broken"), None])
async def test_an_upgrade_that_fails_is_a_failure(world: World, result: Any) -> None:
    """An upgrade that raises, or returns no payload, counts as a failure of the receiver."""
    seen: list[Any] = []

    def receiver(event: Any, **_: Any) -> None:
        seen.append(event)

    def upgrade(payload: dict[str, Any]) -> Any:
        if result is None:
            return None
        raise result

    connect(receiver, Durable("test.notes", version=2, upgrade={1: upgrade}, retry=IN_A_MINUTE))
    await world.write("one")
    await world.change(version=1)
    health = await world.drain()
    assert health["failed"] == 1
    [row] = await world.rows()
    assert row.attempts == 1
    assert ("broken" if result else "returned None") in row.last_error
    assert seen == []


async def test_newer_rows_wait_uncounted(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A row that is newer than the code waits a minute, uncounted, with a warning."""
    seen: list[Any] = []

    def receiver(event: Any, **_: Any) -> None:
        seen.append(event)

    connect(receiver)
    [key] = await world.write("one")
    await world.edit(key, "two")
    await world.change(version=2)
    health = await world.drain()
    assert (health["released"], health["failed"]) == (2, 0)
    first, second = await world.rows()
    assert (first.attempts, first.leased_by, second.leased_by) == (0, None, None)
    assert first.visible_at is not None  # and the rest of its lane waits behind it
    assert second.visible_at is None
    assert "newer code" in caplog.text
    await world.change(version=1)
    await world.due_now()
    await world.drain()
    assert len(seen) == 2


async def test_former_names(world: World) -> None:
    """A receiver takes over the rows of its former names, and its options apply to them."""
    seen: list[Any] = []

    def old(event: Any, **_: Any) -> None:
        raise AssertionError

    def new(event: Any, **_: Any) -> None:
        seen.append(event.receiver)

    connect(old, "test.old")
    await world.write("one")
    post_save.disconnect(old, sender=Note)
    connect(new, Durable("test.new", formerly=("test.old",)))
    await world.write("two")
    assert (await world.drain())["done"] == 2
    assert sorted(seen) == ["test.new", "test.old"]


async def test_the_context_of_the_application_does_not_reach_receivers(world: World) -> None:
    """A worker that is started where signals are silenced calls its receivers nevertheless."""
    from aksara_signals import SignalContext

    seen: list[Any] = []

    def receiver(event: Any, session: Any, **_: Any) -> None:
        session.add(Unrelated())

    def count(instance: Any, **_: Any) -> None:
        seen.append(instance)

    post_save.connect(count, sender=Unrelated)
    connect(receiver)
    await world.write("one")
    with SignalContext.disable_all():
        await world.drain()
    assert len(seen) == 1


async def test_rows_load_by_their_key(async_world: World) -> None:
    """``event.load(session)`` is the row as it is now."""
    seen: list[Any] = []

    async def receiver(event: Any, session: Any, **_: Any) -> None:
        note = await event.load(session)
        seen.append(note.text)
        assert (await session.scalars(select(Note))).all() == [note]

    connect(receiver)
    await async_world.write("one")
    await async_world.drain()
    assert seen == ["one"]


async def test_a_savepoint_of_the_default_driver_is_no_commit(tmp_path: Path) -> None:
    """What a receiver has done in a savepoint goes with its transaction, without any recipe."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'default.sqlite'}")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    sessions, problems = async_sessionmaker(engine), [ValueError("once")]

    async def receiver(instance: Any, session: Any, **_: Any) -> None:
        async with session.begin_nested():
            session.add(Effect(note_id=instance.id, by="savepoint"))
        if problems:
            raise problems.pop()

    connect(receiver, Durable("test.notes", retry=Retry(first_seconds=0)))
    outbox.install()
    try:
        async with sessions.begin() as session:
            session.add(Note(text="one"))
        await outbox.worker(sessions).run_until_idle()
        async with sessions() as session:
            assert len((await session.scalars(select(Effect))).all()) == 1
    finally:
        outbox.uninstall()
        await engine.dispose()

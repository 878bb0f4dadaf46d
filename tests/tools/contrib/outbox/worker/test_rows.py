"""What a worker does with rows: order, failures, dead letters, batches."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from kit.outbox_workers import (
    DEAD,
    DONE,
    IN_A_MINUTE,
    WAITING,
    Effect,
    Note,
    Unrelated,
    World,
    connect,
    eventually,
    plain,
    table,
)
from sqlalchemy import event as events
from sqlalchemy.exc import IntegrityError

from aksara_signals import on_delivery_error, post_save
from aksara_signals.contrib.outbox import Durable, Retry
from aksara_signals.contrib.outbox.rows.tables import clock
from aksara_signals.contrib.outbox.worker import desk
from aksara_signals.failures import observers

ONCE_A_MINUTE = Retry(attempts=3, first_seconds=60, jitter=0)


# -- order ------------------------------------------------------------------------------------------


async def test_a_lane_is_in_order_and_lanes_run_side_by_side(world: World) -> None:
    """Rows of one object are called one after another; those of two objects at the same time."""
    order: dict[int, list[str]] = {}
    running: set[int] = set()
    most = 0

    async def receiver(event: Any, **_: Any) -> None:
        nonlocal most
        [key] = event.key
        assert key not in running, "two rows of one lane at once"
        running.add(key)
        most = max(most, len(running))
        await asyncio.sleep(0.02)
        running.discard(key)
        order.setdefault(key, []).append(event.values["text"])

    connect(receiver, Durable("test.notes", include=("text",)))
    first, second = await world.write("0", "0")
    for key in (first, second):
        await world.edit(key, *(str(number) for number in range(1, 6)))
    await world.drain()
    assert order == {first: list("012345"), second: list("012345")}
    assert most == 2


async def test_unordered_rows_of_one_object_run_side_by_side(world: World) -> None:
    """With ``ordered=False``, rows of one object don't wait for one another."""
    meet = asyncio.Barrier(3)

    async def receiver(event: Any, **_: Any) -> None:
        async with asyncio.timeout(10):
            await meet.wait()

    connect(receiver, Durable("test.notes", ordered=False))
    [key] = await world.write("0")
    await world.edit(key, "1", "2")
    assert (await world.drain())["done"] == 3


async def test_concurrency_is_a_limit(async_world: World) -> None:
    """No more lanes run at a time than ``concurrency`` says."""
    running = most = 0

    async def receiver(event: Any, **_: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    connect(receiver)
    await async_world.write(*"0123456789")
    await async_world.drain(concurrency=3)
    assert most == 3


async def test_a_slow_receiver_leaves_room_for_others(async_world: World) -> None:
    """A receiver that hangs in every place it gets doesn't keep another one from being called."""
    is_over = asyncio.Event()
    seen: list[Any] = []

    async def slow(event: Any, **_: Any) -> None:
        await is_over.wait()

    async def quick(event: Any, **_: Any) -> None:
        seen.append(event)

    connect(slow, "test.a")
    connect(quick, "test.b")
    await async_world.write(*(str(number) for number in range(30)))
    async with async_world.worker(concurrency=8):
        await eventually(lambda: len(seen) == 30)
        is_over.set()


async def test_more_rows_than_a_batch(world: World) -> None:
    """Rows are claimed in batches until none is left."""
    seen: list[Any] = []

    def receiver(event: Any, **_: Any) -> None:
        seen.append(event.key)

    connect(receiver)
    await world.write(*(str(number) for number in range(50)))
    health = await world.drain(batch_size=7)
    assert health["claimed"] == health["done"] == 50
    assert len(set(seen)) == 50


# -- failures ---------------------------------------------------------------------------------------


async def test_a_failure_is_counted_and_repeated_later(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A failed row waits as long as ``Retry`` says; the rest of its lane waits uncounted."""

    def receiver(event: Any, **_: Any) -> None:
        raise LookupError("no such page")

    connect(receiver, Durable("test.notes", retry=ONCE_A_MINUTE))
    [key] = await world.write("0")
    await world.edit(key, "1", "2")
    health = await world.drain()
    assert (health["failed"], health["done"]) == (1, 0)
    first, *rest = await world.rows()
    assert (first.attempts, first.leased_by, first.status) == (1, None, WAITING)
    assert first.last_error == "LookupError: no such page"
    delay = await world.run(
        lambda session: session.execute(
            table.select().where(table.c.seq == first.seq, table.c.visible_at > clock(50))
        ).one()
    )
    assert delay
    assert [(row.attempts, row.leased_by, row.visible_at) for row in rest] == [(0, None, None)] * 2
    assert "attempt 1, again in 60 seconds" in caplog.text


async def test_the_last_attempt_makes_a_dead_letter(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """After as many failures as ``Retry.attempts`` says, a row is dead, loudly; its lane goes on."""
    reports: list[Any] = []
    noticed: list[BaseException] = []
    order: list[str] = []

    def receiver(event: Any, **_: Any) -> None:
        if event.values["text"] == "0":
            raise LookupError("no such page")
        order.append(event.values["text"])

    def report(error: Any, connection: Any, failed_signal: Any, **_: Any) -> None:
        reports.append((error, connection.receiver, failed_signal))

    connection = Durable("test.notes", retry=ONCE_A_MINUTE, include=("text",))
    connect(receiver, connection)
    on_delivery_error.connect(report)
    observers.append(noticed.append)
    try:
        [key] = await world.write("0")
        await world.edit(key, "1")
        for _ in range(3):
            assert order == []
            await world.drain()
            await world.due_now()
    finally:
        observers.remove(noticed.append)
    assert order == ["1"]
    dead, done = await world.rows()
    assert (dead.status, dead.attempts, done.status) == (DEAD, 3, DONE)
    [(error, failed, signal)] = reports
    assert isinstance(error, LookupError)
    assert (failed, signal) == (receiver, post_save)
    assert len(noticed) == 1
    assert "failed for good" in caplog.text


async def test_a_success_after_failures_closes_the_breaker(world: World) -> None:
    """Failures in a row open a receiver's breaker; then attempts aren't counted, until it succeeds."""
    is_down = True

    def receiver(event: Any, **_: Any) -> None:
        if is_down:
            raise ConnectionRefusedError

    connect(receiver, Durable("test.notes", retry=Retry(attempts=2, first_seconds=0, jitter=0)))
    await world.write(*(str(number) for number in range(40)))
    await world.drain(concurrency=1, batch_size=1)
    before = await world.statuses()
    await world.change(table.c.status == DEAD, status=WAITING, attempts=0)
    assert before.count(DEAD) <= 11, "the breaker has stopped the rest"
    health = await world.drain()
    assert health["claimed"] == 0, "open, and the first probe isn't due yet"
    is_down = False
    breaker = table.metadata.tables["aksara_breaker"]
    await world.run(
        lambda session: session.execute(breaker.update().values(probe_at=clock(-1))) and None
    )
    await world.due_now()
    await world.drain()
    await world.due_now()
    health = await world.drain()
    assert set(await world.statuses()) == {DONE}


@pytest.mark.parametrize("how", ["raised", "swallowed", "unwrapped", "translated"])
async def test_errors_of_a_database_are_stored_without_values(
    world: World, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither ``last_error`` nor the log has parameters of statements, or values of rows."""
    secret = 4700 + 11

    async def receiver(event: Any, session: Any, **_: Any) -> None:
        session.add(Unrelated(id=secret))
        try:
            if world.is_async:
                await session.flush()
            else:
                session.flush()
        except IntegrityError as error:
            if how == "unwrapped":
                raise error.orig from None  # type: ignore[misc]
            if how == "translated":
                raise ValueError(f"{error} {secret}") from error
            if how == "raised":
                raise

    connect(receiver)
    await world.run(lambda session: session.add(Unrelated(id=secret)))
    await world.write(f"secret {secret}")
    await world.drain()
    [row] = await world.rows()
    assert str(secret) not in row.last_error + caplog.text
    if world.database.dialect == "postgresql" and how != "swallowed":
        assert "SQLSTATE 23505" in row.last_error


async def test_an_error_text_is_always_storable(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A message with NUL, half a character or without an end is stored as far as it goes."""
    caplog.set_level(logging.CRITICAL, "aksara_signals.outbox")  # pytest can't report such text

    def receiver(event: Any, **_: Any) -> None:
        raise ValueError("\x00\ud800 " + "x" * 10_000)

    connect(receiver)
    await world.write("0")
    assert (await world.drain())["failed"] == 1
    [row] = await world.rows()
    assert row.attempts == 1
    assert len(row.last_error) < 5_000


async def test_a_cancellation_by_the_receiver_is_a_failure(world: World) -> None:
    """A receiver that raises ``CancelledError`` by itself has failed; the worker goes on."""

    async def receiver(event: Any, **_: Any) -> None:
        raise asyncio.CancelledError

    connect(receiver)
    await world.write("0")
    assert (await world.drain())["failed"] == 1


@pytest.mark.parametrize("names_session", [True, False])
async def test_a_receiver_that_takes_too_long_is_cancelled(
    world: World, names_session: bool
) -> None:
    """After ``timeout_seconds`` a receiver is cancelled, which is a failure; the rest goes on."""
    cancelled: list[bool] = []

    async def hang(session: Any) -> None:
        if session is not None:
            session.add(Unrelated())
            if world.is_async:
                await session.flush()
            else:
                session.flush()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    if names_session:

        async def receiver(event: Any, session: Any, **_: Any) -> None:
            if event.values["text"] == "slow":
                await hang(session)
    else:

        async def receiver(event: Any, **_: Any) -> None:
            if event.values["text"] == "slow":
                await hang(None)

    connect(
        receiver, Durable("test.notes", timeout_seconds=0.3, retry=IN_A_MINUTE, include=("text",))
    )
    await world.write("slow", "quick")
    health = await world.drain()
    assert (health["failed"], health["done"]) == (1, 1)
    assert cancelled == [True]
    slow, _ = await world.rows()
    assert "0.3 seconds" in slow.last_error
    count = await world.run(lambda session: len(session.query(Unrelated).all()))
    assert count == 0


async def test_a_statement_that_takes_too_long_leaves_nothing_locked(async_world: World) -> None:
    """If a receiver is cancelled in the middle of a statement, its locks are released."""
    world = async_world
    if world.database.dialect == "sqlite":
        slow = (
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 3000000) "
            "SELECT count(*) FROM c"
        )
    else:
        slow = "SELECT pg_sleep(60)"

    async def receiver(event: Any, session: Any, **_: Any) -> None:
        session.add(Unrelated())
        await session.flush()
        await (await session.connection()).exec_driver_sql(slow)

    connect(receiver, Durable("test.notes", timeout_seconds=0.2, retry=IN_A_MINUTE))
    await world.write("slow")
    async with asyncio.timeout(20):
        health = await world.drain()
    assert health["failed"] == 1
    await world.write("another")
    assert await world.run(lambda session: len(session.query(Unrelated).all())) == 0


async def test_a_cancellation_that_is_ignored_is_a_failure_as_well(async_world: World) -> None:
    """A receiver that goes on after its time has failed, and what it has written is rolled back."""

    async def receiver(event: Any, session: Any, **_: Any) -> None:
        session.add(Unrelated())
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return

    connect(receiver, Durable("test.notes", timeout_seconds=0.1, retry=IN_A_MINUTE))
    await async_world.write("slow")
    assert (await async_world.drain())["failed"] == 1
    assert await async_world.run(lambda session: len(session.query(Unrelated).all())) == 0


# -- acknowledgement --------------------------------------------------------------------------------


async def test_successes_are_written_in_batches(async_world: World) -> None:
    """Receivers without ``session`` are marked as done by few statements."""
    statements: list[str] = []

    async def receiver(event: Any, **_: Any) -> None:
        return

    connect(receiver)
    await async_world.write(*(str(number) for number in range(100)))
    target = async_world.engine.sync_engine

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "done_at" in statement.partition("WHERE")[0] and "SET status" in statement:
            statements.append(statement)

    events.listen(target, "before_cursor_execute", note)
    assert (await async_world.drain())["done"] == 100
    assert len(statements) <= 5
    assert set(await async_world.statuses()) == {DONE}


async def test_a_success_is_written_while_others_still_run(async_world: World) -> None:
    """A success doesn't wait for a slow receiver beside it, nor for a full batch."""
    is_over = asyncio.Event()

    async def receiver(event: Any, **_: Any) -> None:
        if event.values["text"] == "slow":
            await is_over.wait()

    connect(receiver, Durable("test.notes", include=("text",)))
    await async_world.write("slow", "quick")

    async def is_written() -> bool:
        return await async_world.statuses() == [WAITING, DONE]

    async with async_world.worker():
        await eventually(is_written)
        is_over.set()
    assert await async_world.statuses() == [DONE, DONE]


# -- which receivers --------------------------------------------------------------------------------


async def test_patterns_choose_the_receivers(world: World) -> None:
    """A worker calls only the receivers whose names match."""
    seen: list[str] = []

    def receiver(event: Any, **_: Any) -> None:
        seen.append(event.receiver)

    def other(event: Any, **_: Any) -> None:
        seen.append(event.receiver)

    connect(receiver, "search.index")
    connect(other, "mail.welcome")
    await world.write("0")
    await world.drain(receivers=["search.*"])
    assert seen == ["search.index"]
    await world.drain(receivers=["mail.welcome", "nothing"])
    assert seen == ["search.index", "mail.welcome"]


async def test_unknown_receivers_are_loud(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Rows of a receiver that isn't connected wait uncounted, with a warning that names it."""

    def gone(event: Any, **_: Any) -> None:
        raise AssertionError

    def receiver(event: Any, **_: Any) -> None:
        return

    connect(gone, "test.gone")
    connect(receiver)
    await world.write("0", "1")
    post_save.disconnect(gone, sender=Note)
    health = await world.drain()
    assert health["done"] == 2
    assert health["unknown"] == {"test.gone": 2}
    assert "test.gone" in caplog.text
    rows = [row for row in await world.rows() if row.receiver == "test.gone"]
    assert [(row.status, row.attempts, row.leased_by) for row in rows] == [(WAITING, 0, None)] * 2


async def test_a_receiver_that_is_connected_later_is_found(async_world: World) -> None:
    """A receiver that is connected while a worker runs is called within a second or so."""
    seen: list[str] = []

    async def first(event: Any, **_: Any) -> None:
        seen.append("first")

    async def second(event: Any, **_: Any) -> None:
        seen.append("second")

    connect(first, "test.first")
    async with async_world.worker():
        connect(second, "test.second")
        await async_world.write("0")
        await eventually(lambda: "second" in seen, seconds=5)


async def test_a_receiver_that_is_disconnected_meanwhile_is_not_called(
    async_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The leased rows of a receiver that is disconnected are given back."""
    caplog.set_level(logging.WARNING)
    seen: list[Any] = []

    async def first(event: Any, **_: Any) -> None:
        seen.append(event)
        post_save.disconnect(first, sender=Note)
        await asyncio.sleep(1.2)

    async def other(event: Any, **_: Any) -> None:
        return

    connect(first)
    connect(other, "test.other")
    [key] = await async_world.write("0")
    await async_world.edit(key, "1")
    await async_world.drain()
    assert len(seen) == 1
    assert "is not connected any more" in caplog.text


async def test_a_session_receiver_has_one_row_per_transaction(world: World) -> None:
    """One failing receiver doesn't undo another row's success."""

    def receiver(event: Any, session: Any, **_: Any) -> None:
        session.add(Effect(note_id=event.key[0], by=event.values["text"]))
        plain(session).flush()
        if event.values["text"] == "bad":
            raise ValueError

    connect(receiver, Durable("test.notes", include=("text",)))
    await world.write("good", "bad", "fine")
    await world.drain()
    assert sorted(text for _, text in await world.effects()) == ["fine", "good"]


async def test_a_worker_isnt_idle_while_a_claim_misses_what_a_receiver_writes(
    async_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver ends during a claim that was made before its commit: what it has sent is called."""
    claimed = asyncio.Event()
    calls: list[Any] = []
    claim = desk._claim
    in_transaction = desk.Desk._in_transaction

    async def slow(self: Any, function: Any, *arguments: Any) -> Any:
        found = await in_transaction(self, function, *arguments)
        if function is claim and self.leased and not claimed.is_set():
            claimed.set()
            await eventually(lambda: not self.leased)  # it has read nothing, and returns late
        return found

    async def receiver(event: Any, session: Any, **_: Any) -> None:
        if async_world.database.dialect != "sqlite":  # there, no claim is made while it runs
            await claimed.wait()
        session.add(Effect(note_id=event.key[0], by="receiver"))

    async def follow(**_: Any) -> None:
        calls.append(1)

    monkeypatch.setattr(desk.Desk, "_in_transaction", slow)
    connect(receiver)
    post_save.connect(follow, sender=Effect, durable="test.effects")
    await async_world.write("0")
    await async_world.drain()
    assert calls == [1]

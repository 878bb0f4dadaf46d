"""What workers do once a minute: old rows go, and the figures of the outbox are measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kit.outbox_workers import DEAD, DONE, Note, World, connect, eventually, outbox, table
from sqlalchemy import delete
from sqlalchemy.orm import Session

from aksara_signals import post_save
from aksara_signals.contrib.outbox.hooks import observers
from aksara_signals.contrib.outbox.rows import breaker, upkeep
from aksara_signals.contrib.outbox.rows.tables import clock
from aksara_signals.contrib.outbox.worker import housekeeping


@pytest.fixture
def measured() -> Iterator[dict[tuple[str, str], float]]:
    """The last value of each measurement, by its name and receiver."""
    found: dict[tuple[str, str], float] = {}

    def observe(name: str, receiver: str, value: float) -> None:
        found[name, receiver] = value

    observers.append(observe)
    yield found
    observers.remove(observe)


async def end(world: World, seq: int, status: int, days: float) -> None:
    """Let a row have ended so many days ago."""
    await world.change(table.c.seq == seq, status=status, done_at=clock(-days * 86_400))


async def test_old_rows_are_purged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Done ones after a day, dead ones after thirty, however many there are."""
    monkeypatch.setattr(upkeep, "CHUNK", 2)

    def receiver(**_: Any) -> None:
        return

    connect(receiver)
    await world.write(*"01234567")
    for seq, status, days in (
        *((seq, DONE, 1.1) for seq in range(1, 5)),
        (5, DONE, 0.9),
        (6, DEAD, 30.1),
        (7, DEAD, 29.9),
    ):
        await end(world, seq, status, days)

    async def are_gone() -> bool:
        return len(await world.rows()) == 3

    async with world.worker():
        await eventually(are_gone)
    assert [row.seq for row in await world.rows()] == [5, 7, 8]


async def test_the_outbox_says_how_long_rows_stay(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For those that want to look at them for longer, or not at all."""
    monkeypatch.setattr(outbox, "keep_done_seconds", 0.0)

    def receiver(**_: Any) -> None:
        return

    connect(receiver)
    await world.write("0")
    await end(world, 1, DONE, 0.1)
    await world.drain()
    assert await world.rows() == []


async def test_the_outbox_is_measured_for_those_who_observe(
    world: World, measured: dict[tuple[str, str], float]
) -> None:
    """How much is left to do, by receiver."""

    def receiver(**_: Any) -> None:
        return

    connect(receiver, "test.left")
    connect(lambda **_: None, "test.called")
    await world.write("0", "1", "2")
    await world.change(table.c.receiver == "test.left", table.c.seq < 3, status=DEAD)
    await world.drain(receivers=["test.called"])
    assert measured["pending", "test.left"] == 2
    assert measured["dead_letters", "test.left"] == 1
    assert measured["retrying", "test.left"] == 0
    assert 0 <= measured["oldest_age_seconds", "test.left"] < 3600
    assert measured["down", "test.left"] == 0


async def test_an_open_breaker_is_measured(
    world: World, measured: dict[tuple[str, str], float]
) -> None:
    """As 1, for alerts."""
    connect(lambda **_: None, "test.down")
    connect(lambda **_: None, "test.called")
    await world.write("0")

    def fail(session: Session) -> None:
        for _ in range(breaker.FAILURES_IN_A_ROW):
            breaker.note_failure(session.connection(), outbox.tables, "test.down")

    await world.run(fail)
    await world.drain(receivers=["test.called"])
    assert measured["down", "test.down"] == 1


async def test_what_has_no_rows_any_more_is_measured_as_zero(
    world: World, measured: dict[tuple[str, str], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a receiver that isn't known here: a gauge doesn't show its last value for ever."""
    monkeypatch.setattr(housekeeping, "REPORT_SECONDS", 0.05)

    def gone(**_: Any) -> None:
        raise AssertionError

    def receiver(**_: Any) -> None:
        return

    connect(gone, "test.gone")
    connect(receiver)
    await world.write("0")
    post_save.disconnect(gone, sender=Note)
    names = ("unknown", "pending", "oldest_age_seconds")
    async with world.worker():
        await eventually(lambda: measured.get(("oldest_age_seconds", "test.gone"), 0) > 0)
        assert measured["unknown", "test.gone"] == measured["pending", "test.gone"] == 1
        await world.run(lambda session: session.execute(delete(table)) and None)
        await eventually(lambda: not any(measured[name, "test.gone"] for name in names))

"""The circuit breaker: when it opens, what is claimed meanwhile, and when it closes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit.claims import Store, async_outbox_engine, outbox_engine, seqs
from kit.databases import Database
from sqlalchemy import select, update

from aksara_signals.contrib.outbox.rows import breaker
from aksara_signals.contrib.outbox.rows.breaker import (
    FAILURES_IN_A_ROW,
    Breaker,
    load_breakers,
    note_failure,
    note_success,
)
from aksara_signals.contrib.outbox.rows.tables import clock


@pytest.fixture(params=["sync", "async"])
async def store(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Store]:
    """Empty tables, by a plain and by an async engine."""
    make = outbox_engine if request.param == "sync" else async_outbox_engine
    store = Store(make(database))
    await store.create()
    yield store
    await store.dispose()


async def fail_often(store: Store, receiver: str = "mail", times: int = FAILURES_IN_A_ROW) -> Any:
    for _ in range(times):
        state = await store.call(note_failure, receiver)
    return state


async def make_probe_due(store: Store) -> None:
    table = store.tables.breaker
    statement = update(table).values(probe_at=clock(-1))
    await store.run(lambda connection: connection.execute(statement))


async def seconds_to_probe(store: Store) -> float:
    table = store.tables.breaker
    probe_at, now = await store.run(
        lambda connection: connection.execute(
            select(table.c.probe_at, clock()).where(table.c.failures > 0)
        ).one()
    )
    return (probe_at - now).total_seconds()


async def test_it_opens_at_the_twentieth_failure_in_a_row(store: Store) -> None:
    """Fewer failures change nothing, and a success begins the count anew."""
    state = await fail_often(store, times=19)
    assert state == Breaker("mail", 19, is_open=False, is_probe_due=False, probes=0)
    await store.call(note_success, "mail")
    assert await store.call(load_breakers) == {}
    state = await fail_often(store, times=19)
    assert not state.is_open
    state = await fail_often(store, times=2)
    assert state == Breaker("mail", 21, is_open=True, is_probe_due=False, probes=0)
    assert await store.call(load_breakers) == {"mail": state}


async def test_while_it_is_open_only_probes_are_claimed(store: Store) -> None:
    """Rows of a receiver that is down stay where they are, in nobody's way."""
    await store.write(*[{}] * 5, {"receiver": "search"})
    await fail_often(store)
    limits = {"mail": 5, "search": 5}
    assert seqs(await store.claim(limits=limits)) == [6]
    assert seqs(await store.claim(limits=limits)) == []
    await make_probe_due(store)
    (row,) = (await store.claim(limits=limits)).rows
    assert (row.seq, row.is_probe) == (1, True)
    assert seqs(await store.claim(limits=limits)) == []  # one probe per step


async def test_the_steps_double(store: Store) -> None:
    """Two seconds after the opening, then twice as long after each probe, at most five minutes."""
    await store.write(*[{}] * 20)
    await fail_often(store)
    found = [await seconds_to_probe(store)]
    for _ in range(9):
        await make_probe_due(store)
        (row,) = (await store.claim()).rows
        await store.fail("one", row, delay_seconds=600, counts=False)
        await fail_often(store, times=1)
        found.append(await seconds_to_probe(store))
    assert found == pytest.approx([2, 4, 8, 16, 32, 64, 128, 256, 300, 300], abs=1.5)


async def test_a_success_closes_it(store: Store) -> None:
    """After a probe that succeeds, rows are claimed as ever."""
    await store.write(*[{}] * 5)
    await fail_often(store)
    await make_probe_due(store)
    (row,) = (await store.claim()).rows
    await store.done("one", row.seq)
    await store.call(note_success, "mail")
    claim = await store.claim()
    assert [(row.seq, row.is_probe) for row in claim.rows] == [(n, False) for n in range(2, 6)]


async def test_a_row_that_cannot_succeed_is_not_every_probe(store: Store) -> None:
    """Probes take a retrying row and a fresh one in turn, or what there is."""
    await store.write({}, {}, {}, {})
    await store.set([1, 2], visible_at=clock(-1))
    await fail_often(store)
    probed = []
    for _ in range(4):
        await make_probe_due(store)
        probed += seqs(await store.claim())
    assert probed[0] in {1, 2}
    assert probed[1] == 3
    assert sorted(probed) == [1, 2, 3, 4]
    await make_probe_due(store)
    assert seqs(await store.claim()) == []


async def test_a_lost_row_of_a_receiver_that_is_down_waits_for_a_probe(store: Store) -> None:
    """Else the rows of a worker that ended in an outage would hold up all the others."""
    await store.write({}, {}, {"receiver": "search"})
    await store.claim("one", limits={"mail": 2}, lease_seconds=0)
    await fail_often(store)
    limits = {"mail": 5, "search": 5}
    assert seqs(await store.claim("two", limits=limits, is_busy=True)) == [3]
    await make_probe_due(store)
    claim = await store.claim("three", limits=limits)
    assert (seqs(claim), claim.is_alone, claim.rows[0].is_probe) == ([1], True, True)
    assert seqs(await store.claim("two", limits=limits, is_busy=True)) == []


async def test_former_names_share_it(store: Store) -> None:
    """There is one breaker per receiver, under its present name, and one probe."""
    await store.write({"receiver": "old"}, {})
    await fail_often(store)
    options = {"limits": {"old": 5, "mail": 5}, "former_of": {"mail": ["old"]}}
    assert seqs(await store.claim(**options)) == []
    await make_probe_due(store)
    assert [(row.receiver, row.is_probe) for row in (await store.claim(**options)).rows] == [
        ("old", True)
    ]
    await make_probe_due(store)
    assert [row.receiver for row in (await store.claim(**options)).rows] == ["mail"]


async def test_it_opens_when_too_many_rows_are_retrying(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver that fails now and has a crowd of rows to retry is down, too."""
    monkeypatch.setattr(breaker, "RETRYING_ROWS", 5)
    await store.write(*[{}] * 6)
    await store.set(range(1, 5), visible_at=clock(-1))
    await fail_often(store, times=1)
    assert seqs(await store.claim(limits={"mail": 1})) == [1]
    await store.set([5], visible_at=clock(-1))
    assert seqs(await store.claim()) == []
    state = (await store.call(load_breakers))["mail"]
    assert (state.is_open, state.failures) == (True, 1)
    await store.call(note_success, "mail")
    assert len(seqs(await store.claim())) == 5  # after a success, the crowd may go


async def test_a_receiver_that_is_down_is_in_nobodys_way(store: Store) -> None:
    """With 2,000 of its rows in front, the 200 of another receiver are done after few failures."""
    await store.write(*[{}] * 2_000, *[{"receiver": "search"}] * 200)
    calls = {"mail": 0, "search": 0}
    while calls["search"] < 200:
        claim = await store.claim(limits={"mail": 50, "search": 50})
        for row in claim.rows:
            calls[row.receiver] += 1
            if row.receiver == "mail":
                await store.fail("one", row, delay_seconds=1, counts=not row.is_probe)
                await store.call(note_failure, "mail")
        await store.done("one", *(row.seq for row in claim.rows if row.receiver == "search"))
    assert calls["mail"] <= 100

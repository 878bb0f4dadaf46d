"""Looking after an outbox: figures, requeue, replay, discard, purge."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit.claims import Store, async_outbox_engine, outbox_engine, seqs, write_rows
from kit.databases import Database

from aksara_signals.contrib.outbox.rows import upkeep
from aksara_signals.contrib.outbox.rows.breaker import FAILURES_IN_A_ROW, note_failure
from aksara_signals.contrib.outbox.rows.tables import DEAD, DONE, WAITING, clock
from aksara_signals.contrib.outbox.rows.upkeep import Chunk, ReceiverStats, Selection


@pytest.fixture(params=["sync", "async"])
async def store(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Store]:
    """Empty tables, by a plain and by an async engine."""
    make = outbox_engine if request.param == "sync" else async_outbox_engine
    store = Store(make(database))
    await store.create()
    yield store
    await store.dispose()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of three rows."""
    monkeypatch.setattr(upkeep, "CHUNK", 3)


def ended(status: int, hours: float = 0, **values: Any) -> dict[str, Any]:
    """The values of a row that was done, or given up, some hours ago."""
    return {"status": status, "done_at": clock(-3600 * hours), "attempts": 4, **values}


async def act(store: Store, action: Any, selection: Selection) -> tuple[int, list[int]]:
    """Do an action in all chunks: how many rows, and the progress."""
    loop, progress = asyncio.get_running_loop(), []

    def run(function: Any, *arguments: Any, **options: Any) -> Any:
        task = store.run(function, *arguments, **options)
        return asyncio.run_coroutine_threadsafe(task, loop).result()

    total = await asyncio.to_thread(
        upkeep.all_chunks, run, action, store.tables, selection, progress.append
    )
    return total, progress


async def test_figures(store: Store) -> None:
    """Each receiver has its figures: what waits and how, what is dead, the age of the oldest row."""
    await store.write(*[{}] * 7, {"receiver": "search"})
    await store.set([1, 8], status=DONE)
    await store.set([2], status=DEAD)
    await store.set([3], visible_at=clock(60))
    await store.set([4, 5], visible_at=clock(60), leased_by="one")
    await store.set([6], created_at=clock(-100))
    for _ in range(FAILURES_IN_A_ROW):
        await store.call(note_failure, "mail")
    mail, search = await store.call(upkeep.stats)
    assert mail.oldest_seconds == pytest.approx(100, abs=20)
    assert mail == ReceiverStats("mail", 2, 1, 2, 1, 1, mail.oldest_seconds, is_down=True)
    assert mail.pending == 5
    assert search == ReceiverStats("search", 0, 0, 0, 0, 1, None, is_down=False)


async def test_unknown_receivers(store: Store) -> None:
    """Rows that wait for a receiver that isn't known are counted; those that are done aren't."""
    await store.write({}, {"receiver": "old"}, {"receiver": "old"}, {"receiver": "gone"})
    await store.set([4], status=DONE)
    assert await store.call(upkeep.unknown_receivers, {"mail"}) == {"old": 2}


async def test_dead_rows_are_listed(store: Store) -> None:
    """The latest are first, without payload and headers, of one receiver or of all."""
    await store.write(*[{}] * 4, {"receiver": "search"})
    for number, hours in ((1, 3), (2, 1), (5, 2)):
        await store.set([number], **ended(DEAD, hours, last_error="ValueError"))
    found = await store.call(upkeep.dead, Selection())
    assert [row["seq"] for row in found] == [2, 5, 1]
    assert found[0]["last_error"] == "ValueError"
    assert found[0]["done_at"].tzinfo is not None
    assert not {"payload", "headers"} & set(found[0])
    assert [row["seq"] for row in await store.call(upkeep.dead, Selection(), limit=1)] == [2]
    some = Selection(receiver="mail", since_seconds=2 * 3600)
    assert [row["seq"] for row in await store.call(upkeep.dead, some)] == [2]


async def test_one_row_is_shown(store: Store) -> None:
    """By its number, or with all rows of the same send by its id."""
    send = uuid.uuid4()
    await store.write({"id": send}, {"id": send, "receiver": "search"}, {})
    (row,) = await store.call(upkeep.show, 2)
    assert (row["receiver"], row["payload"], row["id"]) == ("search", {"v": 1, "key": [1]}, send)
    assert [row["seq"] for row in await store.call(upkeep.show, send)] == [1, 2]
    assert await store.call(upkeep.show, 99) == []


async def test_dead_rows_wait_again(store: Store, small_chunks: None) -> None:
    """A requeued row is fresh, in its old place, with all its attempts."""
    await store.write(*[{}] * 9)
    await store.set(range(1, 8), **ended(DEAD, crashes=3, last_error="ValueError"))
    await store.set([9], status=DONE)
    assert await store.call(upkeep.count, "requeue", Selection()) == 7
    assert await act(store, upkeep.requeue, Selection()) == (7, [3, 3, 1])
    row = (await store.rows())[1]
    assert (row.status, row.attempts, row.crashes, row.last_error, row.done_at) == (
        WAITING,
        0,
        0,
        None,
        None,
    )
    assert row.generation == 0
    assert seqs(await store.claim()) == list(range(1, 9))
    assert await act(store, upkeep.requeue, Selection()) == (0, [0])


async def test_rows_are_selected(store: Store) -> None:
    """By numbers, by the name or a pattern of the receiver, and by time."""
    names = ["search.index", "search.remove", "searchXindex", "mail_a", "mailxa", "mail"]
    await store.write(*({"receiver": name} for name in names))
    await store.set(range(1, 7), **ended(DEAD))
    await store.set([1], done_at=clock(-7200))

    async def selected(**conditions: Any) -> list[int]:
        found = await store.call(upkeep.dead, Selection(**conditions))
        return sorted(row["seq"] for row in found)

    assert await selected() == [1, 2, 3, 4, 5, 6]
    assert await selected(seqs=(2, 3, 99)) == [2, 3]
    assert await selected(receiver="search.*") == [1, 2]
    assert await selected(receiver="*index") == [1, 3]
    assert await selected(receiver="mail_*") == [4]
    assert await selected(receiver="mail_a") == [4]
    assert await selected(receiver="mail") == [6]
    assert await selected(receiver="search.*", since_seconds=3600) == [2]


async def test_done_rows_are_replayed(store: Store, small_chunks: None) -> None:
    """A replayed row waits again in a new generation; what waits or is dead stays as it is."""
    await store.write(*[{}] * 6)
    await store.set(range(1, 5), **ended(DONE, 1))
    await store.set([4], **ended(DONE, 3))
    await store.set([5], **ended(DEAD))
    assert await act(store, upkeep.replay, Selection(since_seconds=7200)) == (3, [3, 0])
    claim = await store.claim()
    assert [(row.seq, row.generation, row.attempts) for row in claim.rows] == [
        (1, 1, 0),
        (2, 1, 0),
        (3, 1, 0),
        (6, 0, 0),
    ]


async def test_done_rows_are_published_again(store: Store, small_chunks: None) -> None:
    """They wait in the generation that they have, so that receivers that had them refuse them."""
    await store.write(*[{}] * 6)
    await store.set(range(1, 5), **ended(DONE, 1))
    await store.set([2], generation=2)
    await store.set([4], **ended(DONE, 3))
    await store.set([5], **ended(DEAD))
    assert await store.call(upkeep.count, "republish", Selection(since_seconds=7200)) == 3
    assert await act(store, upkeep.republish, Selection(since_seconds=7200)) == (3, [3, 0])
    claim = await store.claim()
    assert [(row.seq, row.generation, row.attempts) for row in claim.rows] == [
        (1, 0, 0),
        (2, 2, 0),
        (3, 0, 0),
        (6, 0, 0),
    ]


async def test_a_replay_during_delivery_ends(store: Store, small_chunks: None) -> None:
    """Each row is replayed once, although workers are as fast as the replay; lanes keep their order."""
    await store.write(*({"lane": number % 2} for number in range(12)))
    await store.set(range(1, 10), **ended(DONE))
    called: list[int] = []
    is_over = asyncio.Event()

    async def work(worker: str) -> None:
        while not is_over.is_set() or (await store.call(upkeep.stats))[0].pending:
            claim = await store.claim(worker, limits={"mail": 2})
            called.extend(seqs(claim))
            assert await store.done(worker, *seqs(claim)) == len(claim.rows)

    async def replay() -> None:
        try:
            assert (await act(store, upkeep.replay, Selection(seqs=tuple(range(1, 10)))))[0] == 9
        finally:
            is_over.set()

    async with asyncio.timeout(30):
        await asyncio.gather(work("one"), work("two"), replay())
    rows = await store.rows()
    assert [rows[number].generation for number in range(1, 13)] == [1] * 9 + [0] * 3
    assert sorted(called) == list(range(1, 13))


async def test_rows_are_discarded(store: Store, small_chunks: None) -> None:
    """What waits or is dead is deleted; what is done, or just being called, is not."""
    await store.write(*[{}] * 7, {"receiver": "search"}, {})
    await store.set([1, 2], **ended(DEAD))
    await store.set([3], status=DONE)
    await store.set([4], visible_at=clock(60), leased_by="one")
    await store.set([5], visible_at=clock(-60), leased_by="gone")
    await store.set([6], visible_at=clock(60))
    await store.set([9], created_at=clock(-7200))
    old = Selection(receiver="mail", since_seconds=3600)
    assert await store.call(upkeep.count, "discard", old) == 5
    assert await act(store, upkeep.discard, old) == (5, [3, 2])
    assert list(await store.rows()) == [3, 4, 8, 9]


async def test_a_row_that_is_discarded_meanwhile_is_not_claimed(store: Store) -> None:
    """Between the choice of rows and their change, others may change them."""
    await store.write({}, {})
    await store.set([1], **ended(DEAD))
    chunk = await store.call(upkeep.requeue, Selection(), after=1)
    assert chunk == Chunk(0, 1, is_last=True)


async def test_old_rows_are_purged(store: Store, small_chunks: None) -> None:
    """Done rows and dead ones stay for as long as is said; what waits stays for ever."""
    kept = {"done_seconds": 24 * 3600, "dead_seconds": 30 * 24 * 3600}
    await store.write(*[{}] * 9)
    await store.set(range(1, 5), **ended(DONE, 25))
    await store.set([5], **ended(DONE, 23))
    await store.set([6], **ended(DEAD, 31 * 24))
    await store.set([7], **ended(DEAD, 29 * 24))
    await store.set([8], created_at=clock(-1e8))
    assert [await store.call(upkeep.purge, **kept) for _ in range(3)] == [3, 2, 0]
    assert list(await store.rows()) == [5, 7, 8, 9]
    assert await store.call(upkeep.purge, done_seconds=0, dead_seconds=0) == 2
    assert list(await store.rows()) == [8, 9]


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize("action", [upkeep.purge, upkeep.discard])
async def test_rows_are_deleted_beside_those_of_open_transactions(
    store: Store, database: Database, action: Any
) -> None:
    """Nothing waits for a transaction that has just written rows; SQLite has one writer anyway."""
    await store.write(*[{}] * 20)
    await store.set(range(1, 21), **ended(DONE if action is upkeep.purge else DEAD, hours=2))
    other = outbox_engine(database)
    options: Any = {"done_seconds": 60, "dead_seconds": 60}
    if action is upkeep.discard:
        options = {"selection": Selection(receiver="mail")}
    with other.connect() as connection:
        write_rows(connection, store.tables, [{}] * 3)
        async with asyncio.timeout(10):
            found = await store.call(action, **options)
        connection.commit()
    assert getattr(found, "rows", found) == 20
    assert list(await store.rows()) == [21, 22, 23]
    other.dispose()

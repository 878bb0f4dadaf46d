"""Claims: which rows a worker gets, in which order, and what becomes of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kit.claims import Store, async_outbox_engine, outbox_engine, seqs
from kit.databases import Database
from sqlalchemy import MetaData, event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from aksara_signals.contrib.outbox.rows import claiming
from aksara_signals.contrib.outbox.rows.reading import Row
from aksara_signals.contrib.outbox.rows.tables import DEAD, DONE, WAITING, clock, make_tables
from aksara_signals.exceptions import OutboxError


@pytest.fixture(params=["sync", "async"])
async def store(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Store]:
    """Empty tables, by a plain and by an async engine."""
    make = outbox_engine if request.param == "sync" else async_outbox_engine
    store = Store(make(database))
    await store.create()
    yield store
    await store.dispose()


def past(seconds: float = 1) -> Any:
    return clock(-seconds)


# -- what is claimed ------------------------------------------------------------------------------


async def test_rows_come_whole_and_in_their_order(store: Store) -> None:
    """A claim gives the rows with all that a call needs, by their number, up to the limit."""
    await store.write({"headers": {"traceparent": "00"}}, {}, {"receiver": "other"}, {})
    claim = await store.claim(limits={"mail": 2})
    assert seqs(claim) == [1, 2]
    first = claim.rows[0]
    stored = (await store.rows())[1]
    assert first == Row(
        seq=1,
        id=stored.id,
        receiver="mail",
        type="post_save",
        aggregatetype="app.models.Post",
        aggregateid="[1]",
        lane=None,
        payload={"v": 1, "key": [1]},
        headers={"traceparent": "00"},
        version=1,
        generation=0,
        created_at=first.created_at,
        attempts=0,
        crashes=0,
        read_at=first.read_at,
        is_probe=False,
    )
    assert abs(first.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert timedelta(0) <= first.read_at - first.created_at < timedelta(minutes=1)
    assert (claim.is_alone, claim.is_held_up, claim.dead) == (False, False, [])


async def test_a_leased_row_is_not_claimed_twice(store: Store) -> None:
    """What one worker has, another one doesn't get."""
    await store.write({}, {}, {})
    assert seqs(await store.claim("one", limits={"mail": 2})) == [1, 2]
    assert seqs(await store.claim("two")) == [3]
    assert seqs(await store.claim("three")) == []


async def test_without_limits_nothing_is_asked(store: Store) -> None:
    """A worker that can't take a row claims none."""
    await store.write({})
    assert await store.claim(limits={}) == await store.claim(limits={"mail": 0}) == claiming.Claim()


async def test_each_receiver_has_its_own_limit(store: Store) -> None:
    """Many rows of one receiver in front don't keep another one's back."""
    await store.write(*[{}] * 20, {"receiver": "search"}, {"receiver": "unknown"})
    assert seqs(await store.claim(limits={"mail": 2, "search": 2})) == [1, 2, 21]


async def test_retries_come_first_when_they_are_due(store: Store) -> None:
    """A row that is due again is claimed before fresh ones, and not before its time."""
    await store.write({}, {}, {}, {})
    first, second = (await store.claim(limits={"mail": 2})).rows
    await store.fail("one", first, delay_seconds=600)
    await store.fail("one", second, delay_seconds=0)
    claim = await store.claim(limits={"mail": 2})
    assert seqs(claim) == [2, 3]
    assert claim.rows[0].attempts == 1
    await store.set([1], visible_at=past())
    assert seqs(await store.claim()) == [1, 4]


# -- lanes ----------------------------------------------------------------------------------------


async def test_a_leased_lane_is_left_out(store: Store) -> None:
    """While one of its rows is leased, no other row of the lane is claimed."""
    await store.write({"lane": 7}, {"lane": 7}, {"lane": 8}, {})
    assert seqs(await store.claim("one", limits={"mail": 1})) == [1]
    assert seqs(await store.claim("two")) == [3, 4]
    await store.done("one", 1)
    assert seqs(await store.claim("two")) == [2]


async def test_a_lane_is_claimed_as_a_whole(store: Store) -> None:
    """Fresh rows of one lane come in one claim, for its worker to call one after another."""
    await store.write({"lane": 7}, {"lane": 7}, {"lane": 7})
    assert seqs(await store.claim()) == [1, 2, 3]


async def test_a_retrying_row_holds_its_lane(store: Store) -> None:
    """After a failure the rest of the lane is fresh, and comes after the row that failed."""
    await store.write({"lane": 7}, {"lane": 7}, {"lane": 7}, {"lane": -8})
    claim = await store.claim()
    assert await store.fail("one", claim.rows[0], delay_seconds=600, lane_mates=[2, 3])
    rows = await store.rows()
    assert [(rows[n].visible_at, rows[n].attempts) for n in (2, 3)] == [(None, 0)] * 2
    assert seqs(await store.claim("two")) == []  # 4 is still leased
    await store.set([1], visible_at=past())
    assert seqs(await store.claim("two")) == [1]
    assert seqs(await store.claim("three")) == []
    await store.done("two", 1)
    assert seqs(await store.claim("three")) == [2, 3]


async def test_a_dead_head_frees_its_lane(store: Store) -> None:
    """After its last failure a row no longer holds the lane."""
    await store.write({"lane": 7}, {"lane": 7})
    claim = await store.claim()
    await store.fail("one", claim.rows[0], is_dead=True, lane_mates=[2], error="ValueError")
    row = (await store.rows())[1]
    assert (row.status, row.last_error, row.visible_at) == (DEAD, "ValueError", None)
    assert row.done_at is not None
    assert seqs(await store.claim()) == [2]


async def test_several_retrying_rows_of_a_lane_go_one_by_one(store: Store) -> None:
    """However rows of one lane came to wait, the first is claimed first and alone in its lane."""
    await store.write({"lane": 7}, {"lane": 7}, {"lane": 7})
    await store.set([1], visible_at=past(1))
    await store.set([2], visible_at=past(9))
    assert seqs(await store.claim("one")) == [1]
    assert seqs(await store.claim("two")) == []
    await store.done("one", 1)
    assert seqs(await store.claim("two")) == [2]


async def test_lanes_are_shared_with_a_former_name(store: Store) -> None:
    """Rows of a former name come before those of the present one, also from another worker."""
    former = {"limits": {"old": 2, "mail": 5}, "former_of": {"mail": ["old"]}}
    await store.write(
        *[{"receiver": "old", "lane": 7}] * 3, {"lane": 7}, {"lane": 8}, {"lane": None}
    )
    assert seqs(await store.claim("one", **former)) == [1, 2]
    assert seqs(await store.claim("two", **former)) == [5, 6]
    await store.done("one", 1, 2)
    assert seqs(await store.claim("three", **former)) == [3, 4]


async def test_a_lane_becomes_free_in_the_middle_of_a_claim(store: Store) -> None:
    """If its first row is done when the former name was looked at, the next one still comes first."""
    if isinstance(store.engine, AsyncEngine) or store.engine.dialect.name == "sqlite":
        pytest.skip("on SQLite, whoever finishes a row waits for the end of the claim")
    former = {"limits": {"old": 1, "mail": 5}, "former_of": {"mail": ["old"]}}
    await store.write(*[{"receiver": "old", "lane": 7}] * 2, {"lane": 7})
    assert seqs(await store.claim("one", **former)) == [1]
    searches: list[str] = []
    is_postgresql = store.engine.dialect.name == "postgresql"
    search, last = ("unnest", 3) if is_postgresql else ("ORDER BY", 2)

    def finish(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if search in statement:
            searches.append(statement)
            if len(searches) == last:  # rows of the former name were searched; now the others are
                assert store.run_here(claiming.mark_done, store.tables, "one", [1]) == 1

    event.listen(store.engine, "before_cursor_execute", finish)
    try:
        assert seqs(await store.claim("two", **former)) == []
    finally:
        event.remove(store.engine, "before_cursor_execute", finish)
    assert len(searches) == last
    assert seqs(await store.claim("two", **former)) == [2]


async def test_only_a_former_name_may_be_claimed(store: Store) -> None:
    """A worker may call one of the names alone; lanes hold all the same."""
    await store.write({"receiver": "old", "lane": 7}, {"lane": 7})
    assert seqs(await store.claim("new", former_of={"mail": ["old"]})) == [2]
    old = {"limits": {"old": 5}, "former_of": {"mail": ["old"]}}
    assert seqs(await store.claim("old", **old)) == []


# -- the end of a call ----------------------------------------------------------------------------


async def test_done_is_for_the_one_who_has_the_lease(store: Store) -> None:
    """A row is done once, by its worker; others change nothing."""
    await store.write({}, {}, {})
    await store.claim("one", limits={"mail": 2})
    assert await store.done("two", 1, 2) == 0
    assert await store.done("one", 1, 2, 3) == 2
    assert await store.done("one", 1) == 0
    row = (await store.rows())[1]
    assert (row.status, row.leased_by, row.visible_at) == (DONE, None, None)
    assert row.done_at is not None


async def test_a_failure_is_for_the_one_who_has_the_lease(store: Store) -> None:
    """Whoever lost the lease changes neither the row nor the attempts."""
    await store.write({})
    (row,) = (await store.claim("one")).rows
    await store.set([1], leased_by="two")
    assert not await store.fail("one", row)
    assert (await store.rows())[1].attempts == 0


async def test_a_failure_may_be_uncounted_and_its_text_has_an_end(store: Store) -> None:
    """An outage counts no attempt; NUL and megabytes of an error are stored nowhere."""
    await store.write({})
    (row,) = (await store.claim()).rows
    await store.fail("one", row, counts=False, error="a\x00" + "b" * 10_000)
    stored = (await store.rows())[1]
    assert stored.attempts == 0
    assert stored.last_error == ("a\N{REPLACEMENT CHARACTER}" + "b" * 10_000)[:4_000]


async def test_rows_are_given_back_uncounted(store: Store) -> None:
    """What is released is fresh: the next worker gets it at once, as if nothing had been."""
    await store.write({}, {"lane": 7}, {"lane": 7})
    await store.claim("one")
    assert await store.call(claiming.release, "one", []) == 0
    assert await store.call(claiming.release, "one", [1, 2, 3, 99]) == 3
    claim = await store.claim("two")
    assert [(row.seq, row.attempts, row.crashes) for row in claim.rows] == [
        (1, 0, 0),
        (2, 0, 0),
        (3, 0, 0),
    ]


async def test_rows_are_given_back_for_later(store: Store) -> None:
    """With a delay, rows wait; of a lane only the first does, and the order stays."""
    await store.write({}, {"lane": 7}, {"lane": 7}, {"lane": 8})
    await store.claim("one")
    assert await store.call(claiming.release, "one", [1, 2, 3, 4], delay_seconds=60) == 4
    rows = await store.rows()
    assert [number for number in rows if rows[number].visible_at is None] == [3]
    assert seqs(await store.claim("two")) == []
    await store.set([1, 2, 4], visible_at=past())
    assert seqs(await store.claim("two")) == [1, 2, 4]


async def test_leases_are_extended(store: Store) -> None:
    """A heartbeat says which rows are still the worker's own."""
    await store.write({}, {}, {})
    await store.claim("one", lease_seconds=0)
    await store.set([2], leased_by="two")
    assert await store.call(claiming.extend, "one", [], 60) == []
    assert await store.call(claiming.extend, "one", [1, 2, 3], 60) == [1, 3]
    assert (await store.claim("two")).rows[0].seq == 2


# -- leases that run out --------------------------------------------------------------------------


async def test_a_row_whose_lease_ran_out_is_claimed_alone(store: Store) -> None:
    """It may have ended its worker, so nothing else runs beside it; each such claim is counted."""
    await store.write({}, {}, {})
    await store.claim("one", limits={"mail": 2}, lease_seconds=0)
    claim = await store.claim("two")
    assert (seqs(claim), claim.is_alone, claim.rows[0].crashes) == ([1], True, 1)
    claim = await store.claim("three")
    assert (seqs(claim), claim.is_alone) == ([2], True)
    claim = await store.claim("three")
    assert (seqs(claim), claim.is_alone) == ([3], False)


async def test_a_busy_worker_is_held_up_by_it(store: Store) -> None:
    """A worker with other rows claims nothing until it has none; an idle one takes the row."""
    await store.write({}, {}, {"receiver": "search"})
    await store.claim("one", limits={"mail": 1}, lease_seconds=0)
    claim = await store.claim("two", is_busy=True)
    assert (claim.rows, claim.is_held_up) == ([], True)
    assert (await store.rows())[1].crashes == 0
    assert seqs(await store.claim("two", is_busy=True, limits={"search": 5})) == [3]
    assert seqs(await store.claim("three")) == [1]
    assert seqs(await store.claim("two", is_busy=True)) == [2]


async def test_three_crashes_make_a_row_dead(store: Store) -> None:
    """A row that ends each of its workers is given up, and its batch mates are called once."""
    await store.write(*[{}] * 20)
    called: list[int] = []
    dead: list[int] = []
    for number in range(40):
        worker = f"worker {number}"
        claim = await store.claim(worker, lease_seconds=60)
        dead += [row.seq for row in claim.dead]
        if any(row.seq == 7 for row in claim.rows):
            await store.set(seqs(claim), visible_at=past())  # kill -9
            continue
        called += seqs(claim)
        await store.done(worker, *seqs(claim))
    assert sorted(called) == [number for number in range(1, 21) if number != 7]
    assert dead == [7]
    row = (await store.rows())[7]
    assert (row.status, row.crashes, row.attempts) == (DEAD, 3, 0)
    assert "3 workers" in row.last_error


async def test_lost_rows_of_a_lane_stay_in_order(store: Store) -> None:
    """Of a lane whose worker is gone, the first row is called first, whatever comes between."""
    await store.write({"lane": 7}, {"lane": 7}, {"lane": 7})
    await store.claim("one", lease_seconds=0)
    (row,) = (await store.claim("two")).rows
    assert row.seq == 1
    assert seqs(await store.claim("three")) == []  # 2 was lost as well, but 1 is being called
    await store.fail("two", row, delay_seconds=600)
    assert seqs(await store.claim("three", is_busy=True)) == []
    await store.set([1], visible_at=past())
    assert seqs(await store.claim("three")) == [1]
    await store.done("three", 1)
    assert seqs(await store.claim("three")) == [2]


async def test_a_row_that_is_just_being_committed_is_not_lost(
    store: Store, database: Database
) -> None:
    """A receiver slower than its lease, which is committing, neither blocks claims nor is doubled."""
    if database.dialect == "sqlite":
        pytest.skip("SQLite has one writer")
    await store.write({}, {})
    await store.claim("one", limits={"mail": 1}, lease_seconds=0)
    engine = outbox_engine(database)
    with engine.begin() as connection:
        assert claiming.mark_done(connection, store.tables, "one", [1]) == 1
        claim = await store.claim("two", is_busy=True)
        assert (seqs(claim), claim.is_held_up) == ([2], False)
    engine.dispose()


# -- rows that are published ----------------------------------------------------------------------


async def test_without_counting_crashes_lost_rows_are_as_any_that_are_due(store: Store) -> None:
    """A relay can't be ended by a row: it takes many at once, also while it has others."""
    await store.write({}, {}, {}, {})
    await store.claim("one", limits={"mail": 3}, lease_seconds=0)
    claim = await store.claim("two", is_busy=True, counts_crashes=False)
    assert (seqs(claim), claim.is_alone, claim.is_held_up) == ([1, 2, 3, 4], False, False)
    assert {row.crashes for row in claim.rows} == {0}


async def test_without_counting_crashes_no_row_dies(store: Store) -> None:
    """However often its lease has run out; and what workers have counted stays."""
    await store.write({}, {})
    await store.set([2], crashes=2)
    for number in range(6):
        claim = await store.claim(f"relay {number}", lease_seconds=0, counts_crashes=False)
        assert (seqs(claim), claim.dead) == ([1, 2], [])
    rows = await store.rows()
    assert [(row.status, row.crashes) for row in rows.values()] == [(WAITING, 0), (WAITING, 2)]
    assert {row.attempts for row in rows.values()} == {0}


async def test_without_counting_crashes_lanes_stay_in_order(store: Store) -> None:
    """Of a lane whose relay is gone, the first row comes first, and one at a time."""
    await store.write({"lane": 7}, {"lane": 7}, {"lane": 7}, {"lane": 8})
    await store.claim("one", limits={"mail": 2}, lease_seconds=0)
    given: dict[str, Any] = {"counts_crashes": False}
    assert seqs(await store.claim("two", **given)) == [1, 4]
    assert seqs(await store.claim("three", **given)) == []
    await store.done("two", 1)
    assert seqs(await store.claim("three", **given)) == [2]
    assert seqs(await store.claim("four", **given)) == []
    await store.done("three", 2)
    assert seqs(await store.claim("four", **given)) == [3]


async def test_a_row_that_is_just_being_marked_is_not_published_again(
    store: Store, database: Database
) -> None:
    """Its lease has run out, but whoever has it is committing."""
    if database.dialect == "sqlite":
        pytest.skip("SQLite has one writer")
    await store.write({}, {})
    await store.claim("one", limits={"mail": 1}, lease_seconds=0)
    engine = outbox_engine(database)
    with engine.begin() as connection:
        assert claiming.mark_done(connection, store.tables, "one", [1]) == 1
        assert seqs(await store.claim("two", counts_crashes=False)) == [2]
    engine.dispose()


async def test_fresh_rows_may_come_first(store: Store) -> None:
    """Of several that are refused again and again, each would be due before any fresh one."""
    await store.write(*[{}] * 2, {"lane": 7}, {"lane": 7}, {})
    await store.set([1, 2, 3], visible_at=past())
    given: dict[str, Any] = {"limits": {"mail": 1}, "prefers_fresh": True}
    assert seqs(await store.claim("one", **given)) == [5]  # 4 is behind 3
    assert len((await store.claim("two", **given)).rows) == 1  # of those that are due
    assert seqs(await store.claim("three", limits={"mail": 9}, prefers_fresh=True)) != []


async def test_former_names_come_first_also_if_fresh_rows_do(store: Store) -> None:
    """A lane never goes on under its present name while it has a row under a former one."""
    await store.write({"receiver": "old", "lane": 7}, {"lane": 7}, {"lane": 8})
    await store.set([1], visible_at=past())
    former: dict[str, Any] = {
        "limits": {"old": 1, "mail": 1},
        "former_of": {"mail": ["old"]},
        "prefers_fresh": True,
    }
    assert seqs(await store.claim("one", **former)) == [1]
    assert seqs(await store.claim("two", **former)) == [3]
    await store.done("one", 1)
    assert seqs(await store.claim("three", **former)) == [2]


# -- several workers ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
async def test_random_failures_keep_the_order_of_lanes(store: Store, seed: int) -> None:
    """Four workers, twenty lanes, failures, lost leases: every row succeeds once, in its lane's order."""
    luck = random.Random(seed)
    lanes, rows = 20, 160
    await store.write(*({"lane": luck.randrange(lanes)} for _ in range(rows)))
    lane_of = {number: row.lane for number, row in (await store.rows()).items()}
    succeeded: dict[int, list[int]] = {lane: [] for lane in range(lanes)}

    async def work(worker: str) -> None:
        while sum(map(len, succeeded.values())) < rows:
            claim = await store.claim(worker, limits={"mail": luck.randint(1, 12)})
            broken: set[int | None] = set()
            for position, row in enumerate(claim.rows):
                if row.lane in broken:
                    continue
                fate = luck.random()
                mates = [each.seq for each in claim.rows[position + 1 :] if each.lane == row.lane]
                if fate < 0.1:
                    broken.add(row.lane)
                    assert await store.fail(worker, row, lane_mates=mates)
                elif fate < 0.15:
                    broken.add(row.lane)
                    await store.call(claiming.release, worker, [row.seq, *mates], delay_seconds=0)
                elif fate < 0.18 and row.crashes < 2:  # the worker is gone
                    broken.add(row.lane)
                    await store.set([row.seq, *mates], visible_at=past())
                else:
                    succeeded[lane_of[row.seq]].append(row.seq)
                    assert await store.done(worker, row.seq) == 1

    async with asyncio.timeout(60):
        await asyncio.gather(*(work(f"worker {number}") for number in range(4)))
    for numbers in succeeded.values():
        assert numbers == sorted(numbers)
    assert {row.status for row in (await store.rows()).values()} == {DONE}


async def test_claims_wait_for_one_another(store: Store, database: Database) -> None:
    """A second claim sees the leases of the first, although both began at the same time."""
    if database.dialect == "sqlite":
        pytest.skip("the begin of SQLite's transactions is what waits")
    await store.write({"lane": 7}, {"lane": 7})
    engine = outbox_engine(database)
    with engine.begin() as connection:
        options: dict[str, Any] = {"lease_seconds": 60, "is_busy": False}
        one = claiming.claim(connection, store.tables, worker="one", limits={"mail": 1}, **options)
        second = asyncio.create_task(store.claim("two"))
        done, _ = await asyncio.wait([second], timeout=0.3)
        assert not done
    assert (seqs(one), seqs(await second)) == ([1], [])
    engine.dispose()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_snapshots_that_outlive_a_statement_are_refused(database: Database) -> None:
    """Under REPEATABLE READ a claim would not see the last one's leases: the error says what to do.

    SQLite has one level, and on MariaDB a worker sets it itself.
    """
    store = Store(outbox_engine(database, isolation_level="REPEATABLE READ"))
    await store.create()
    with pytest.raises(OutboxError, match="isolation_level='READ COMMITTED'"):
        await store.claim()
    await store.dispose()


# -- where the tables are -------------------------------------------------------------------------


async def test_tables_have_other_names_and_schemas(database: Database) -> None:
    """An outbox may have a name of its own, and a schema that is chosen when it is used."""
    tables = make_tables(MetaData(), name="Tenant's 100% outbox", schema="tenant")
    assert tables.breaker.name == "Tenant's 100% outbox_breaker"
    engine = outbox_engine(database).execution_options(
        schema_translate_map={"tenant": database.schema}
    )
    store = Store(engine, tables)
    await store.create()
    await store.write({}, {})
    assert seqs(await store.claim()) == [1, 2]
    assert await store.done("one", 1, 2) == 2
    await store.dispose()


async def test_the_names_of_the_default_tables(database: Database) -> None:
    """Without a name, the tables are aksara_outbox and aksara_breaker."""
    tables = make_tables(MetaData())
    assert (tables.outbox.name, tables.breaker.name) == ("aksara_outbox", "aksara_breaker")


async def test_others_may_write_rows(store: Store) -> None:
    """An INSERT that names only what has no default makes a row that is claimed."""
    statement = text(  # a UUID without dashes is one everywhere
        "INSERT INTO aksara_outbox (id, receiver, type, aggregatetype, payload) VALUES "
        "('8c5ed3b36a444a0fa0b54a8a2a3d8d0b', 'mail', 'paid', 'shop', '{\"v\": 1}')"
    )
    await store.run(lambda connection: connection.execute(statement))
    (row,) = (await store.claim()).rows
    assert (row.payload, row.headers, row.lane, row.attempts) == ({"v": 1}, None, None, 0)
    assert abs(row.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert (await store.rows())[1].status == WAITING


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
async def test_tables_have_a_character_set_of_their_own(database: Database) -> None:
    """The text of an error may have characters that the database's own set lacks."""
    store = Store(outbox_engine(database))
    name = database.sync_url.database
    await store.run(
        lambda connection: connection.exec_driver_sql(f"ALTER DATABASE {name} CHARACTER SET latin1")
    )
    await store.create()
    await store.write({})
    (row,) = (await store.claim()).rows
    assert await store.fail("one", row, error="\N{SNOWMAN} \N{SPOUTING WHALE} \x00")
    assert (await store.rows())[
        1
    ].last_error == "\N{SNOWMAN} \N{SPOUTING WHALE} \N{REPLACEMENT CHARACTER}"
    await store.dispose()


async def test_numbers_do_not_come_back(store: Store) -> None:
    """The number of a row that was purged is never given to another one."""
    await store.write({}, {})
    delete = text("DELETE FROM aksara_outbox")
    await store.run(lambda connection: connection.execute(delete))
    await store.write({})
    assert list(await store.rows()) == [3]

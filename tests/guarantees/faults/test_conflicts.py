"""Transactions that are in each other's way: deadlocks, serialization failures, locks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import chain
from typing import Any

import pytest
from kit.databases import Database
from kit.faulty import (
    COMMIT,
    IMMEDIATE,
    ROLLBACK,
    ReceivedKeys,
    Row,
    Server,
    Twin,
    check_next_transaction,
    code_of,
    is_empty,
    is_sqlalchemys,
    only_on,
    recover,
)
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from aksara_signals import post_save, pre_save

DEADLOCK, SERIALIZATION, LOCK = {"40P01", 1213}, {"40001", 1020}, {"55P03", 1205}


@pytest.fixture
async def other(twin: Twin, database: Database) -> AsyncIterator[Twin]:
    """A second session of the same kind."""
    other = Twin(twin.driver, database)
    yield other
    await other.dispose()


async def together(twins: list[Twin], work: Callable[[Twin], Any]) -> list[Any]:
    """Do the same in tasks for AsyncSessions, and in threads for Sessions."""
    if twins[0].is_async:
        return await asyncio.gather(*(asyncio.create_task(work(twin)) for twin in twins))
    return await asyncio.gather(
        *(asyncio.to_thread(lambda each=twin: asyncio.run(work(each))) for twin in twins)
    )


async def retried(twin: Twin, transaction: Callable[[Session], None]) -> list[DBAPIError]:
    """The loop that users write: again until it works."""
    errors: list[DBAPIError] = []
    while True:
        try:
            await twin.do(transaction)
        except DBAPIError as error:
            assert len(errors) < 10
            errors.append(error)
            await twin.do(Session.rollback)
        else:
            return errors


def lock(session: Any, key: int) -> None:
    """Wait for a row, and change it beside the unit of work."""
    change = text("update row_of_faults set secret = concat(secret, 'r') where id = :id")
    getattr(session, "sync_session", session).execute(change, {"id": key})


def lock_the_others(instance: Row, session: Any, **kwargs: Any) -> None:
    """A receiver that needs the row which the other session holds."""
    if instance.id > 10:
        lock(session, 13 - instance.id)


@pytest.mark.parametrize("place", ["flush", "pre", "post"])
async def test_the_victim_of_a_deadlock_tries_again(
    twin: Twin, other: Twin, server: Server, sent: ReceivedKeys, place: str
) -> None:
    """It gets the database's error; its first try is sent as rolled back, all else once."""
    server.write(1, 2)
    # PostgreSQL looks for deadlocks after a second, if no superuser says otherwise.
    is_superuser = not server.is_mariadb and server.execute(
        "select rolsuper from pg_roles where rolname = current_user"
    )

    def hold(session: Session, key: int) -> None:
        if is_superuser:
            session.execute(text("set local deadlock_timeout = '20ms'"))
        session.get_one(Row, key).secret += "w"
        session.flush()

    def finish(session: Session, key: int) -> None:
        if place == "flush":
            session.get_one(Row, 3 - key).secret += "w"
        else:
            session.add(Row(id=10 + key))
        session.commit()

    async def work(mine: Twin) -> list[DBAPIError]:
        key = 1 if mine is twin else 2
        errors: list[DBAPIError] = []
        while True:
            try:
                if errors:
                    await mine.do(lambda session: hold(session, key))
                await mine.do(lambda session: finish(session, key))
            except DBAPIError as error:
                assert len(errors) < 20
                errors.append(error)
                await mine.do(Session.rollback)
            else:
                return errors

    if place != "flush":
        signal = pre_save if place == "pre" else post_save
        signal.connect(lock_the_others, sender=Row)
    await twin.do(lambda session: hold(session, 1))
    await other.do(lambda session: hold(session, 2))
    errors = list(chain.from_iterable(await together([twin, other], work)))
    # More than one if the victim is fast, and has its row again before the other one wakes up.
    assert errors
    assert all(is_sqlalchemys(error) for error in errors)
    assert {code_of(error) for error in errors} <= DEADLOCK
    written = [1, 1, 2, 2] if place == "flush" else [1, 2, 11, 12]
    assert sorted(sent.of(COMMIT)) == written
    assert sorted(sent.of(IMMEDIATE)) == sorted(sent.of(COMMIT) + sent.of(ROLLBACK))
    assert len(sent.of(ROLLBACK)) == len(errors) * (2 if place == "post" else 1)
    assert is_empty(other.plain)
    if place != "flush":
        signal.disconnect(lock_the_others, sender=Row)
    await check_next_transaction(twin, sent, server)


# -- serialization ----------------------------------------------------------------------------------


def raise_the_count(session: Session) -> None:
    row = session.get_one(Row, 1)
    row.secret = str(int(row.secret or 0) + 1)
    session.commit()


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_a_serialization_failure_in_a_flush_is_tried_again(
    database: Database, server: Server, sent: ReceivedKeys, level: str, twin: Twin
) -> None:
    """What was read is out of date when it is written; the second try counts."""
    if twin.is_mariadb and level == "SERIALIZABLE":
        pytest.skip("MariaDB locks what a serializable transaction reads: nobody else writes it")
    server.write(1)
    mine = Twin(twin.driver, database, isolation_level=level)
    reads: list[str] = []

    def transaction(session: Session) -> None:
        if twin.is_mariadb:  # else it writes upon what it hasn't read
            session.execute(text("set innodb_snapshot_isolation = on"))
        session.add(Row(id=10 + len(reads)))
        session.flush()
        reads.append(session.get_one(Row, 1).secret)
        if len(reads) == 1:
            server.execute("update row_of_faults set secret = '5' where id = 1")
        raise_the_count(session)

    errors = await retried(mine, transaction)
    [error] = errors
    assert code_of(error) in SERIALIZATION
    assert is_sqlalchemys(error)
    assert reads == ["", "5"]
    assert server.execute("select secret from row_of_faults where id = 1") == "6"
    assert sent.of(IMMEDIATE) == [10, 11, 1]
    assert sent.of(ROLLBACK) == [10]
    assert sent.of(COMMIT) == [11, 1]
    await check_next_transaction(mine, sent, server)
    await mine.dispose()


@only_on("postgresql", because="MariaDB's serializable transactions wait, as for any lock")
async def test_a_serialization_failure_of_commit_is_tried_again(
    database: Database, server: Server, sent: ReceivedKeys, twin: Twin
) -> None:
    """Two transactions each read what the other writes: COMMIT itself refuses the second."""
    one = Twin(twin.driver, database, isolation_level="SERIALIZABLE")
    two = Twin(twin.driver, database, isolation_level="SERIALIZABLE")

    def count_and_add(session: Session, key: int) -> None:
        session.scalars(select(Row.id)).all()
        sent.promise(session, key)
        session.add(Row(id=key))
        session.flush()

    def again(session: Session) -> None:
        count_and_add(session, 21)
        session.commit()

    await one.do(lambda session: count_and_add(session, 10))
    await two.do(lambda session: count_and_add(session, 20))
    await one.do(Session.commit)
    with pytest.raises(DBAPIError) as raised:
        await two.do(Session.commit)
    assert is_sqlalchemys(raised.value)
    assert code_of(raised.value) in SERIALIZATION
    await two.do(recover)
    assert await retried(two, again) == []
    assert sent.of(COMMIT) == sent.called[COMMIT] == [10, 21]
    assert sent.of(ROLLBACK) == sent.called[ROLLBACK] == [20]
    assert server.rows() == {10, 21}
    await check_next_transaction(two, sent, server)
    await one.dispose()
    await two.dispose()


# -- locks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["flush", "post"])
async def test_a_lock_that_isnt_had_in_time(
    twin: Twin, other: Twin, server: Server, sent: ReceivedKeys, place: str
) -> None:
    """The error of a lock timeout comes through, from a flush and from a receiver of one."""
    server.write(1)
    limit = "set innodb_lock_wait_timeout = 0"  # in whole seconds
    if not twin.is_mariadb:
        limit = "set local lock_timeout = '20ms'"
    change = text("update row_of_faults set secret = 'x' where id = 1")
    await other.do(lambda session: session.execute(change))

    def receiver(instance: Row, session: Any, **kwargs: Any) -> None:
        if instance.id == 3:
            getattr(session, "sync_session", session).execute(change)

    post_save.connect(receiver, sender=Row)

    def write(session: Session) -> None:
        session.execute(text(limit))
        session.add(Row(id=2))
        session.flush()
        if place == "flush":
            session.get_one(Row, 1).secret = "y"
        else:
            session.add(Row(id=3))
        session.commit()

    with pytest.raises(DBAPIError) as raised:
        await twin.do(write)
    assert is_sqlalchemys(raised.value)
    assert code_of(raised.value) in LOCK
    if place == "post":
        [note] = raised.value.__notes__
        assert "post_save" in note
        assert "Row 3" in note
    await twin.do(recover)
    await other.do(Session.rollback)
    assert 2 in sent.of(ROLLBACK)
    assert sent.of(COMMIT) == []
    assert await retried(twin, write) == []
    post_save.disconnect(receiver, sender=Row)
    await check_next_transaction(twin, sent, server)

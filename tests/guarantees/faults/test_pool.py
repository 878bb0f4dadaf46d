"""Pools: exhausted, with dead connections in them, and what `pool_pre_ping` makes of those."""

from __future__ import annotations

import logging
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
    is_sqlalchemys,
    process_of,
    recover,
)
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from aksara_signals import post_save


def write(session: Session) -> None:
    session.add(Row(id=1))
    session.commit()


def own_session(twin: Twin) -> Any:
    """A receiver that opens a session of its own, as users of this driver write it."""
    seen: list[int] = []

    async def count_later(instance: Row, **kwargs: Any) -> None:
        async with twin.sessions() as session:
            seen.append(await session.scalar(text("select count(*) from row_of_faults")))

    def count(instance: Row, **kwargs: Any) -> None:
        with twin.sessions() as session:
            seen.append(session.scalar(text("select count(*) from row_of_faults")))

    return (count_later if twin.is_async else count), seen


async def test_one_connection_is_enough_after_a_commit(
    twin: Twin, server: Server, sent: ReceivedKeys
) -> None:
    """The committing session's connection is back in the pool before receivers run."""
    receiver, seen = own_session(twin)
    with post_save.connected_to(receiver, sender=Row, phase=COMMIT):
        await twin.do(write)
    assert seen == [1]
    await check_next_transaction(twin, sent, server)


async def test_an_exhausted_pool_after_a_commit_is_logged(
    database: Database,
    server: Server,
    twin: Twin,
    sent: ReceivedKeys,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another session took the connection meanwhile: other receivers run, the commit stands."""
    mine = Twin(twin.driver, database, pool_timeout=0.05)
    holder = mine.sessions()
    caplog.set_level(logging.ERROR, "aksara_signals")

    async def hold_later(instance: Row, **kwargs: Any) -> None:
        await holder.execute(text("select 1"))

    def hold(instance: Row, **kwargs: Any) -> None:
        holder.execute(text("select 1"))

    receiver, seen = own_session(mine)
    holding = hold_later if mine.is_async else hold
    with (
        post_save.connected_to(holding, sender=Row, phase=COMMIT, priority=2),
        post_save.connected_to(receiver, sender=Row, phase=COMMIT, priority=1),
    ):
        await mine.do(write)
    [record] = caplog.records
    assert isinstance(record.exc_info[1], PoolTimeoutError)
    assert seen == []
    assert sent.of(COMMIT) == [1]
    assert server.rows() == {1}
    if mine.is_async:
        await holder.close()
    else:
        holder.close()
    await check_next_transaction(mine, sent, server)
    await mine.dispose()


async def test_an_exhausted_pool_in_an_immediate_receiver_undoes_the_write(
    database: Database, server: Server, twin: Twin, sent: ReceivedKeys
) -> None:
    """The transaction holds the only connection: SQLAlchemy's timeout comes through."""
    mine = Twin(twin.driver, database, pool_timeout=0.05)
    receiver, seen = own_session(mine)
    with (
        post_save.connected_to(receiver, sender=Row),
        pytest.raises(PoolTimeoutError, match="QueuePool limit") as raised,
    ):
        await mine.do(write)
    assert "post_save" in raised.value.__notes__[0]
    await mine.do(recover)
    assert server.rows() == set()
    assert sent.of(IMMEDIATE) == sent.of(ROLLBACK) == [1]
    assert sent.of(COMMIT) == seen == []
    await check_next_transaction(mine, sent, server)
    await mine.dispose()


async def test_an_exhausted_pool_before_the_transaction(
    database: Database, server: Server, twin: Twin, sent: ReceivedKeys
) -> None:
    """No connection at all: nothing was flushed, and callbacks of the rollback are called."""
    mine = Twin(twin.driver, database, pool_timeout=0.05)
    await mine.do(lambda session: session.execute(text("select 1")))
    holder, mine.session = mine.session, mine.sessions()

    def work(session: Session) -> None:
        sent.promise(session, 1)
        write(session)

    with pytest.raises(PoolTimeoutError):
        await mine.do(work)
    await mine.do(recover)
    assert sent.called == {COMMIT: [], ROLLBACK: [1]}
    assert sent.of(IMMEDIATE) == sent.of(COMMIT) == sent.of(ROLLBACK) == []
    failed, mine.session = mine.session, holder
    await mine.do(Session.close)
    mine.session = failed
    await check_next_transaction(mine, sent, server)
    await mine.dispose()


# -- dead connections in the pool ------------------------------------------------------------------


async def process_in_pool(twin: Twin) -> int:
    """The process of the idle connection."""

    def find(session: Session) -> int:
        process = process_of(session.connection())
        session.close()
        return process

    return await twin.do(find)


async def test_a_dead_connection_in_the_pool(
    twin: Twin, server: Server, sent: ReceivedKeys
) -> None:
    """The first transaction fails before anything is flushed, the next one has a new connection."""
    server.kill(await process_in_pool(twin))

    def work(session: Session) -> None:
        sent.promise(session, 1)
        write(session)

    with pytest.raises(DBAPIError) as raised:
        await twin.do(work)
    assert is_sqlalchemys(raised.value)
    assert raised.value.connection_invalidated
    await twin.do(recover)
    assert sent.called == {COMMIT: [], ROLLBACK: [1]}
    assert sent.of(COMMIT) == sent.of(ROLLBACK) == sent.of(IMMEDIATE) == []
    await check_next_transaction(twin, sent, server)


async def test_pre_ping_replaces_a_dead_connection(
    database: Database, server: Server, twin: Twin, sent: ReceivedKeys
) -> None:
    """No error is raised, and each receiver is called once."""
    mine = Twin(twin.driver, database, pool_pre_ping=True)
    server.kill(await process_in_pool(mine))
    await mine.do(write)
    assert sent.of(IMMEDIATE) == sent.of(COMMIT) == [1]
    assert sent.of(ROLLBACK) == []
    server.kill(await process_in_pool(mine))
    await check_next_transaction(mine, sent, server)
    await mine.dispose()


@pytest.mark.parametrize("how", ["connection", "session"])
async def test_an_invalidated_connection(
    twin: Twin, server: Server, sent: ReceivedKeys, how: str
) -> None:
    """``invalidate()`` throws the transaction away; what was flushed is sent as rolled back."""

    def work(session: Session) -> None:
        session.add(Row(id=1))
        session.flush()
        (session if how == "session" else session.connection()).invalidate()

    await twin.do(work)
    await twin.do(recover)
    assert sent.of(IMMEDIATE) == sent.of(ROLLBACK) == [1]
    assert sent.of(COMMIT) == []
    assert server.rows() == set()
    await check_next_transaction(twin, sent, server)


async def test_a_killed_session_of_a_receiver_after_the_commit(
    twin: Twin, server: Server, sent: ReceivedKeys, caplog: pytest.LogCaptureFixture
) -> None:
    """Its error is logged and its row sent as rolled back; the commit and the others stand."""
    caplog.set_level(logging.ERROR, "aksara_signals")

    def write_and_die(session: Session) -> None:
        session.add(Row(id=2))
        session.flush()
        server.kill(process_of(session.connection()))
        session.commit()

    async def die_later(instance: Row, **kwargs: Any) -> None:
        if instance.id == 1:
            async with twin.sessions() as session:
                await session.run_sync(write_and_die)

    def die(instance: Row, **kwargs: Any) -> None:
        if instance.id == 1:
            with twin.sessions() as session:
                write_and_die(session)

    receiver = die_later if twin.is_async else die
    with post_save.connected_to(receiver, sender=Row, phase=COMMIT, priority=1):
        await twin.do(write)
    [record] = caplog.records
    assert is_sqlalchemys(record.exc_info[1])
    assert sent.of(COMMIT) == [1]
    assert sent.of(ROLLBACK) == [2]
    assert server.rows() == {1}
    await check_next_transaction(twin, sent, server)

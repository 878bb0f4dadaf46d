"""A connection that is lost within COMMIT: what became of it only the database knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from kit.cutting_proxy import AFTER, BEFORE, SILENT, CuttingProxy, cutting_proxy
from kit.databases import Database
from kit.effort import EFFORT
from kit.faulty import (
    COMMIT,
    IMMEDIATE,
    ROLLBACK,
    ReceivedKeys,
    Row,
    Server,
    Twin,
    check_next_transaction,
    is_empty,
    is_sqlalchemys,
    recover,
    with_async_drivers,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

HOW = {BEFORE: set(), AFTER: {1}}
"""What is in the database when COMMIT was cut."""


@pytest.fixture
def proxy(database: Database) -> Iterator[CuttingProxy]:
    with cutting_proxy(database) as found:
        yield found


@pytest.fixture
async def cut_twin(driver: str, proxy: CuttingProxy, server: Server) -> AsyncIterator[Twin]:
    """A session whose connections lead through the proxy."""
    twin = Twin(driver, proxy.database)
    yield twin
    await twin.dispose()


@pytest.mark.parametrize("end", ["rollback", "close"])
@pytest.mark.parametrize("how", HOW)
async def test_a_commit_without_an_answer_is_sent_as_rolled_back(
    cut_twin: Twin, proxy: CuttingProxy, server: Server, sent: ReceivedKeys, how: str, end: str
) -> None:
    """Whether its rows are there or not, no commit is known, and nothing is sent as committed."""

    def write(session: Session) -> None:
        sent.promise(session, 1)
        session.add(Row(id=1))
        session.flush()
        proxy.cut = b"COMMIT", how
        session.commit()

    with pytest.raises(DBAPIError) as raised:
        await cut_twin.do(write)
    assert is_sqlalchemys(raised.value)
    assert raised.value.connection_invalidated
    assert sent.of(ROLLBACK) == []
    assert await cut_twin.do(lambda session: recover(session, end)) == []
    assert server.rows() == HOW[how]
    assert sent.of(IMMEDIATE) == sent.of(ROLLBACK) == sent.called[ROLLBACK] == [1]
    assert sent.of(COMMIT) == sent.called[COMMIT] == []
    await check_next_transaction(cut_twin, sent, server)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("verb", ["save", "create", "begin_block", "maker_block"])
async def test_short_transactions_of_the_library_fail_alike(
    cut_twin: Twin, proxy: CuttingProxy, server: Server, sent: ReceivedKeys, how: str, verb: str
) -> None:
    """``save()`` and ``create()`` with bound sessions raise what the COMMIT of their own raises."""
    proxy.cut = b"COMMIT", how
    Row.bind_sessions(cut_twin.sessions)
    try:
        with pytest.raises(DBAPIError) as raised:
            if verb == "save":
                await Row(id=1).save()
            elif verb == "create":
                await Row.objects.create(id=1)
            else:
                await cut_twin.block(Row(id=1), of_maker=verb == "maker_block")
        assert is_sqlalchemys(raised.value)
        assert server.rows() == HOW[how]
        assert sent.of(IMMEDIATE) == sent.of(ROLLBACK) == [1]
        assert sent.of(COMMIT) == []
        await Row.objects.create(id=2)
        assert sent.of(COMMIT) == [2]
    finally:
        Row.bind_sessions(None)
    await check_next_transaction(cut_twin, sent, server)


@pytest.mark.parametrize("statement", ["SAVEPOINT", "RELEASE", "ROLLBACK TO"])
@pytest.mark.parametrize("how", [BEFORE, AFTER])
async def test_other_statements_without_an_answer(
    cut_twin: Twin,
    proxy: CuttingProxy,
    server: Server,
    sent: ReceivedKeys,
    how: str,
    statement: str,
) -> None:
    """Executed or not, they belong to a transaction that ends with its connection."""

    def write(session: Session) -> None:
        session.add(Row(id=1))
        session.flush()
        proxy.cut = statement.encode(), how
        with session.begin_nested():
            session.add(Row(id=2))
        savepoint = session.begin_nested()
        session.add(Row(id=3))
        session.flush()
        savepoint.rollback()

    with pytest.raises(DBAPIError) as raised:
        await cut_twin.do(write)
    assert is_sqlalchemys(raised.value)
    await cut_twin.do(recover)
    assert server.rows() == set()
    assert sent.of(COMMIT) == []
    assert sorted(sent.of(ROLLBACK)) == sent.of(IMMEDIATE)
    await check_next_transaction(cut_twin, sent, server)


# -- cancelled meanwhile ---------------------------------------------------------------------------


@pytest.fixture
async def silent(driver: str, proxy: CuttingProxy, server: Server) -> AsyncIterator[Twin]:
    """An AsyncSession whose COMMIT is executed and never answered."""
    twin = Twin(driver, proxy.database)
    yield twin
    await twin.dispose()


async def committing(silent: Twin, proxy: CuttingProxy) -> None:
    """Send a COMMIT that gets no answer."""
    silent.session.add(Row(id=1))
    await silent.session.flush()
    proxy.cut = b"COMMIT", SILENT
    await silent.session.commit()


async def silence(proxy: CuttingProxy) -> None:
    """Wait until COMMIT was executed."""
    async with asyncio.timeout(60):
        while not proxy.is_silent():
            await asyncio.sleep(0.001)


@with_async_drivers
@pytest.mark.parametrize("end", ["rollback", "close", "block"])
async def test_a_cancellation_waits_for_a_commit_that_gets_lost(
    silent: Twin, proxy: CuttingProxy, server: Server, sent: ReceivedKeys, end: str
) -> None:
    """The commit raises the database's error; the cancellation surfaces when the session ends."""
    seen: list[Any] = []

    async def work() -> None:
        try:
            await committing(silent, proxy)
        except DBAPIError as error:
            seen.append(error)
        if end == "block":
            async with silent.session:
                pass
        else:
            await getattr(silent.session, end)()
        seen.append("went on")

    task = asyncio.create_task(work())
    await silence(proxy)
    task.cancel()
    await asyncio.wait([task], timeout=0.05)
    assert not task.done()
    proxy.end_silence()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [is_sqlalchemys(error) for error in seen] == [True]
    assert server.rows() == {1}
    assert sent.of(IMMEDIATE) == sent.of(ROLLBACK) == [1]
    assert sent.of(COMMIT) == []
    await check_next_transaction(silent, sent, server)


@with_async_drivers
async def test_a_time_limit_that_is_over_cancels_nothing_later(
    silent: Twin, proxy: CuttingProxy, server: Server, sent: ReceivedKeys
) -> None:
    """``asyncio.timeout`` around a failing commit takes its cancellation back; so does the session."""

    async def end_it() -> None:
        await silence(proxy)
        limit.reschedule(0)
        async with asyncio.timeout(60):
            while not limit.expired():
                await asyncio.sleep(0)
        proxy.end_silence()

    helper = asyncio.create_task(end_it())
    with pytest.raises(DBAPIError):
        async with asyncio.timeout(None) as limit:
            await committing(silent, proxy)
    assert limit.expired()
    assert asyncio.current_task().cancelling() == 0
    await silent.session.rollback()
    await helper
    assert sent.of(ROLLBACK) == [1]
    await check_next_transaction(silent, sent, server)


@with_async_drivers
async def test_code_that_closes_the_session_later_isnt_cancelled(
    silent: Twin, proxy: CuttingProxy, server: Server, sent: ReceivedKeys
) -> None:
    """A cancellation is for the task that was committing, and ends with it."""
    task = asyncio.create_task(committing(silent, proxy))
    await silence(proxy)
    task.cancel()
    await asyncio.sleep(0)
    proxy.end_silence()
    with pytest.raises(DBAPIError):
        await task
    await silent.session.close()
    assert sent.of(ROLLBACK) == [1]
    assert is_empty(silent.plain)
    await check_next_transaction(silent, sent, server)


if EFFORT > 1:  # it waits for a limit that no other statement may exceed

    @pytest.mark.parametrize("driver", ["asyncpg"], indirect=True)  # asyncmy's is in whole seconds
    async def test_the_drivers_own_limit_ends_a_silent_commit(
        proxy: CuttingProxy, server: Server, sent: ReceivedKeys
    ) -> None:
        """With asyncpg's ``command_timeout``, a COMMIT that gets no answer is no hang."""
        options: dict[str, Any] = {"connect_args": {"command_timeout": 5}}
        twin = Twin("asyncpg", proxy.database, **options)
        with pytest.raises(TimeoutError):
            await committing(twin, proxy)
        proxy.end_silence()
        await twin.do(recover)
        assert sent.of(IMMEDIATE) == sent.of(ROLLBACK) == [1]
        assert sent.of(COMMIT) == []
        await twin.dispose()

"""A task that is cancelled while its connection is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from kit.effort import times
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
    trips,
    with_async_drivers,
)
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

pytestmark = with_async_drivers


async def two_flushes(twin: Twin, sent: ReceivedKeys) -> None:
    async with twin.session as session, session.begin():
        sent.promise(session, 1)
        session.add(Row(id=1))
        await session.flush()
        async with session.begin_nested():
            session.add(Row(id=2))


async def plain_commit(twin: Twin, sent: ReceivedKeys) -> None:
    sent.promise(twin.session, 1)
    twin.session.add(Row(id=1))
    await twin.session.flush()
    twin.session.add(Row(id=2))
    await twin.session.commit()


SCRIPTS = [two_flushes, plain_commit]
Strike = Callable[[Connection], None]


@pytest.mark.parametrize("first", ["kill", "cancel"])
@pytest.mark.parametrize("script", SCRIPTS)
async def test_cancelled_and_killed_at_every_point(
    twin: Twin, server: Server, sent: ReceivedKeys, script: Any, first: str
) -> None:
    """Either error may come; nothing hangs, nothing is sent as committed, the session goes on."""

    async def go(at: int | None, strike: Strike) -> tuple[BaseException | None, list[str]]:
        server.write()
        sent.clear()
        with trips(twin.engine, strike, at) as found:
            tasks.append(asyncio.create_task(script(twin, sent)))
            async with asyncio.timeout(60):
                await asyncio.wait(tasks[-1:])
        error = None if tasks[-1].cancelled() else tasks[-1].exception()
        return error, found.names

    def strike(connection: Connection) -> None:
        if first == "cancel":
            tasks[-1].cancel()
        server.kill(process_of(connection))
        if first == "kill":
            tasks[-1].cancel()

    tasks: list[asyncio.Task[None]] = []
    _, points = await go(None, process_of)
    assert not tasks[-1].cancelled()
    assert points[-1] == "before COMMIT"
    for at, point in [*enumerate(points)] * times(1):
        error, _ = await go(at, strike)
        assert tasks[-1].cancelled() or is_sqlalchemys(error), point
        await twin.do(recover)
        assert server.rows() == set(), point
        assert sorted(sent.of(ROLLBACK)) == sorted(sent.of(IMMEDIATE)), point
        assert sent.of(COMMIT) == sent.called[COMMIT] == [], point
        assert sent.called[ROLLBACK] == [1], point
        await check_next_transaction(twin, sent, server)


async def test_a_commit_is_killed_and_cancelled(
    twin: Twin, server: Server, sent: ReceivedKeys
) -> None:
    """The error of the database comes first, then the cancellation, from ``rollback()``."""
    errors: list[DBAPIError] = []

    async def work() -> None:
        twin.session.add(Row(id=1))
        try:
            await twin.session.commit()
        except DBAPIError as error:
            errors.append(error)
        await twin.session.rollback()

    def strike(connection: Connection) -> None:
        asyncio.get_running_loop().call_soon(task.cancel)
        server.kill(process_of(connection))

    with trips(twin.engine, strike, 2) as found:
        task = asyncio.create_task(work())
        with pytest.raises(asyncio.CancelledError):
            await task
    assert found.names[2] == "before COMMIT"
    assert [is_sqlalchemys(error) for error in errors] == [True]
    assert sent.of(ROLLBACK) == [1]
    await check_next_transaction(twin, sent, server)

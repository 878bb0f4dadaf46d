"""A connection that is killed at any point of a transaction.

Each script is gone through once for every point between two round trips to the database, and the
connection is killed there.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
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
    process_of,
    recover,
    some,
    trips,
)
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError, IllegalStateChangeError
from sqlalchemy.orm import Session

Script = Callable[[Session], None]
SCRIPTS: dict[str, Script] = {}
ENDS = ["rollback", "close", "reset", "invalidate"]


def script(function: Script) -> Script:
    """Row 1 is there to be changed, and row 2 to be deleted."""
    SCRIPTS[function.__name__] = function
    return function


@script
def one_flush(session: Session) -> None:
    one, two = session.get_one(Row, 1), session.get_one(Row, 2)
    one.secret = "changed"
    session.delete(two)
    session.add_all([Row(id=3), Row(id=4)])
    session.commit()


@script
def several_flushes(session: Session) -> None:
    for key in (3, 4, 5):
        session.add(Row(id=key))
        session.flush()
    session.commit()


@script
def released_savepoints(session: Session) -> None:
    session.add(Row(id=3))
    with session.begin_nested():
        session.add(Row(id=4))
        session.flush()
        with session.begin_nested():
            session.add(Row(id=5))
    session.commit()


@script
def rolled_back_savepoint(session: Session) -> None:
    session.add(Row(id=3))
    savepoint = session.begin_nested()
    session.add(Row(id=4))
    session.flush()
    savepoint.rollback()
    session.add(Row(id=5))
    session.commit()


@script
def rolled_back(session: Session) -> None:
    session.add(Row(id=3))
    session.flush()
    session.rollback()


@script
def closed(session: Session) -> None:
    session.add(Row(id=3))
    session.flush()
    session.close()


@script
def closed_in_a_savepoint(session: Session) -> None:
    session.add(Row(id=3))
    session.begin_nested()
    session.add(Row(id=4))
    session.flush()
    session.close()


def failure(session: Session, script: Script) -> BaseException | None:
    try:
        script(session)
    except Exception as error:
        return error
    return None


class Scripted:
    """Goes through a script, and kills the connection at one point of it."""

    def __init__(self, twin: Twin, server: Server, name: str) -> None:
        self._twin = twin
        self._server = server
        self._script = SCRIPTS[name]

    async def points(self) -> list[str]:
        """The points there are, when nothing goes wrong."""
        error, points = await self.fail_at(None)
        assert error is None
        await self._twin.do(Session.close)
        return points

    async def fail_at(self, at: int | None) -> tuple[BaseException | None, list[str]]:
        """What the script has raised, and the points that it has passed."""
        self._server.write(1, 2)
        with trips(self._twin.engine, self._kill, at) as found:
            error = await self._twin.do(lambda session: failure(session, self._script))
        return error, found.names

    def _kill(self, connection: Connection) -> None:
        self._server.kill(process_of(connection))


async def test_a_connection_is_killed_at_every_point(twin: Twin, server: Server) -> None:
    """The error is SQLAlchemy's, what was flushed is sent as rolled back, the session goes on."""
    sent = ReceivedKeys()
    for name in SCRIPTS:
        scripted = Scripted(twin, server, name)
        points = await scripted.points()
        for at, point in some(points, name):
            for end in ENDS if EFFORT > 1 else [ENDS[at % len(ENDS)]]:
                where = name, point, end
                sent.clear()
                error, passed = await scripted.fail_at(at)
                assert passed[: at + 1] == points[: at + 1], where
                if error is not None:
                    assert is_sqlalchemys(error), where
                    assert error.connection_invalidated, where
                await twin.do(lambda session: recover(session, end))
                assert sent.of(COMMIT) == [], where
                assert sorted(sent.of(ROLLBACK)) == sorted(sent.of(IMMEDIATE)), where
                assert server.rows() == {1, 2}, where
                await check_next_transaction(twin, sent, server)


async def test_errors_are_those_of_sqlalchemy_alone(twin: Twin, server: Server) -> None:
    """At every point, the caller gets the class of error that it gets without receivers."""
    raised: list[list[tuple[type, type]]] = [[], []]
    for errors in raised:
        for name in SCRIPTS:
            scripted = Scripted(twin, server, name)
            for at, _ in some(await scripted.points(), name, most=3):
                error, _ = await scripted.fail_at(at)
                errors.append((type(error), type(getattr(error, "orig", None))))
                await twin.do(recover)
        ReceivedKeys()
    assert raised[0] == raised[1]


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("is_nested", [False, True])
async def test_close_of_a_lost_connection_sends_the_rollback(
    twin: Twin, server: Server, sent: ReceivedKeys, end: str, is_nested: bool
) -> None:
    """``close()`` raises, because its ROLLBACK fails; deferred receivers are called all the same."""

    def write(session: Session) -> None:
        sent.promise(session, 1)
        session.add(Row(id=1))
        session.flush()
        if is_nested:
            session.begin_nested()
            sent.promise(session, 2)
            session.add(Row(id=2))
            session.flush()
        server.kill(process_of(session.connection()))

    await twin.do(write)
    with pytest.raises(DBAPIError):
        await twin.do(lambda session: getattr(session, end)())
    await twin.do(lambda session: recover(session, end))  # SQLAlchemy leaves the outer one open
    written = [1, 2] if is_nested else [1]
    assert sent.of(IMMEDIATE) == sent.of(ROLLBACK) == written
    assert sent.called == {COMMIT: [], ROLLBACK: written}
    assert is_empty(twin.plain)
    await check_next_transaction(twin, sent, server)


async def test_a_refused_close_ends_nothing(twin: Twin, server: Server, sent: ReceivedKeys) -> None:
    """Where SQLAlchemy refuses ``close()``, the transaction goes on, and its signals are sent when it ends."""

    def close(session: Session, *_: object) -> None:
        with pytest.raises(IllegalStateChangeError):
            session.close()

    def write(session: Session) -> None:
        sent.promise(session, 1)
        session.connection()
        assert sent.called == {COMMIT: [], ROLLBACK: []}
        session.add(Row(id=1))
        session.flush()
        assert sent.of(COMMIT) == sent.called[ROLLBACK] == []
        session.commit()

    event.listen(twin.plain, "after_begin", close)
    await twin.do(write)
    assert sent.of(COMMIT) == sent.called[COMMIT] == [1]
    event.remove(twin.plain, "after_begin", close)
    await check_next_transaction(twin, sent, server)


async def test_a_commit_whose_connection_cant_go_back_is_sent(
    twin: Twin, server: Server, sent: ReceivedKeys
) -> None:
    """What fails behind COMMIT raises from ``commit()``; the rows are there, and are sent as committed."""

    def refuse(*_: object) -> None:
        raise ZeroDivisionError

    def write(session: Session) -> None:
        sent.promise(session, 1)
        session.add(Row(id=1))
        session.commit()

    event.listen(twin.engine.pool, "reset", refuse)
    event.listen(twin.engine.pool, "checkin", refuse)
    with pytest.raises(ZeroDivisionError):
        await twin.do(write)
    event.remove(twin.engine.pool, "reset", refuse)
    event.remove(twin.engine.pool, "checkin", refuse)
    assert server.rows() == {1}
    assert sent.of(COMMIT) == sent.called[COMMIT] == [1]
    assert is_empty(twin.plain)
    twin.lost_by_sqlalchemy = 1

"""A server that is restarted in the middle of everything; it is one of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kit import databases
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
    is_sqlalchemys,
    recover,
    some,
)
from sqlalchemy import URL, event
from sqlalchemy.orm import Session

from aksara_signals import post_save

Restart = Callable[[], None]
Point = Callable[[Session, Restart], Any]
POINTS: dict[str, Point] = {}


def point(function: Point) -> Point:
    """Work during which the server is restarted; it fails, or all of it is committed."""
    POINTS[function.__name__] = function
    return function


@point
def between_transactions(session: Session, restart: Restart) -> None:
    session.add(Row(id=1))
    session.commit()
    restart()
    session.add(Row(id=2))
    session.commit()


@point
def in_a_transaction(session: Session, restart: Restart) -> None:
    session.add(Row(id=1))
    session.flush()
    restart()
    session.add(Row(id=2))
    session.commit()


@point
def in_a_savepoint(session: Session, restart: Restart) -> None:
    session.add(Row(id=1))
    with session.begin_nested():
        session.add(Row(id=2))
        session.flush()
        restart()


@point
def before_commit(session: Session, restart: Restart) -> None:
    session.add(Row(id=1))
    engine = session.get_bind()
    event.listen(engine, "commit", listener := lambda _: restart())
    try:
        session.commit()
    finally:
        event.remove(engine, "commit", listener)


@point
def before_rollback(session: Session, restart: Restart) -> None:
    session.add(Row(id=1))
    session.flush()
    restart()
    session.rollback()


@point
def before_close(session: Session, restart: Restart) -> None:
    session.add(Row(id=1))
    session.flush()
    restart()
    session.close()


def _in_receiver(phase: str) -> Point:
    def in_receiver(session: Session, restart: Restart) -> None:
        def receiver(instance: Row, **kwargs: Any) -> None:
            if instance.id == 1:
                restart()

        with post_save.connected_to(receiver, sender=Row, phase=phase):
            session.add(Row(id=1))
            session.commit()

    return in_receiver


POINTS["in_a_receiver"] = _in_receiver(IMMEDIATE)
POINTS["in_a_receiver_after_the_commit"] = _in_receiver(COMMIT)


Restartable = databases.RestartableServer | databases.RestartableMariaDB


@pytest.fixture(scope="module")
def restartable_postgresql() -> Iterator[Restartable]:
    with databases.restartable_server() as server:
        yield server


@pytest.fixture(scope="module")
def restartable_mariadb() -> Iterator[Restartable]:
    with databases.restartable_mariadb() as server:
        yield server


@pytest.fixture(scope="module")
def postgresql_server(restartable_postgresql: Restartable) -> URL:
    """In the place of the server that others use."""
    return restartable_postgresql.url


@pytest.fixture(scope="module")
def mariadb_server(restartable_mariadb: Restartable) -> URL:
    """Likewise."""
    return restartable_mariadb.url


@pytest.fixture
def restartable(request: pytest.FixtureRequest, database: databases.Database) -> Restartable:
    """The server of the database."""
    return request.getfixturevalue(f"restartable_{database.dialect}")


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_the_server_is_restarted(
    twin: Twin,
    server: Server,
    sent: ReceivedKeys,
    restartable: Restartable,
    mode: str,
) -> None:
    """What is sent as committed is there afterwards, and the same session goes on."""
    restarts: list[str] = []

    def restart() -> None:
        restarts.append(name)
        restartable.restart(mode)

    def failure(session: Session) -> BaseException | None:
        try:
            POINTS[name](session, restart)
        except Exception as error:
            return error
        return None

    chosen = [name for _, name in some(list(POINTS), f"{mode} {twin.driver}", most=3)]
    for name in chosen:
        server.write()
        sent.clear()
        error = await twin.do(failure)
        assert (error is None) == (name == "in_a_receiver_after_the_commit"), name
        assert error is None or is_sqlalchemys(error), name
        await twin.do(recover)
        assert set(sent.of(COMMIT)) == server.rows(), name
        assert sorted(sent.of(COMMIT) + sent.of(ROLLBACK)) == sorted(sent.of(IMMEDIATE)), name
        # The pool learns of the other dead connections one by one.
        twin.engine.pool.dispose()
        await check_next_transaction(twin, sent, server)
    assert restarts == chosen
    assert EFFORT == 1 or chosen == list(POINTS)

"""Two-phase commits that fail, at PREPARE and at COMMIT PREPARED."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kit import databases
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
    only_on,
    process_of,
    recover,
)
from sqlalchemy import URL, Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

UNDEFINED, RAISED = "42704", "P0001"


@pytest.fixture(scope="module")
def postgresql_server(postgresql_server: URL) -> Iterator[URL]:
    """A server that prepares transactions."""
    with databases.server_for_two_phases(postgresql_server) as url:
        yield url


@pytest.fixture
async def two_phase(twin: Twin) -> Twin:
    """SQLAlchemy sends PREPARE TRANSACTION, or XA PREPARE, over any of the drivers."""
    await twin.renew(twophase=True)
    return twin


def write(session: Session) -> None:
    session.add(Row(id=1))
    session.commit()


def prepared(server: Server, xids: list[str]) -> list[str]:
    """Which of these are prepared; others may use the server."""
    with server.engine.connect() as connection:
        if server.is_mariadb:
            found = [row.data.decode() for row in connection.execute(text("xa recover"))]
        else:
            found = connection.scalars(text("select gid from pg_prepared_xacts")).all()
        return [gid for gid in found if gid in xids]


@pytest.fixture
def xids(two_phase: Twin, server: Server) -> Any:
    """The names of prepared transactions, which are ended at last."""
    found: list[str] = []

    def note(_connection: Connection, xid: Any, *_: Any) -> None:
        found.append(str(xid))  # psycopg has an object of its own for it

    event.listen(two_phase.engine, "prepare_twophase", note)
    yield found
    event.remove(two_phase.engine, "prepare_twophase", note)
    for name in prepared(server, found):
        server.execute(f"{'xa rollback' if server.is_mariadb else 'rollback prepared'} '{name}'")


@only_on("postgresql", because="MariaDB has no deferred triggers")
async def test_a_prepare_that_fails(
    two_phase: Twin, server: Server, sent: ReceivedKeys, xids: list[str]
) -> None:
    """A deferred trigger refuses: nothing is prepared, all is sent as rolled back at once."""
    server.execute(
        "create function refuse() returns trigger language plpgsql as "
        "'begin if new.id = 1 then raise exception ''no''; end if; return null; end'"
    )
    server.execute(
        "create constraint trigger refuse after insert on row_of_faults "
        "deferrable initially deferred for each row execute function refuse()"
    )
    with pytest.raises(DBAPIError) as raised:
        await two_phase.do(write)
    assert is_sqlalchemys(raised.value)
    # Under psycopg SQLAlchemy rolls back what it believes to be prepared, which fails in turn.
    expected = {"asyncpg": RAISED, "psycopg": UNDEFINED}[two_phase.driver]
    assert raised.value.orig.sqlstate == expected
    await two_phase.do(recover)
    assert sent.of(IMMEDIATE) == sent.of(ROLLBACK) == [1]
    assert sent.of(COMMIT) == []
    assert prepared(server, xids) == []
    await check_next_transaction(two_phase, sent, server)


@pytest.mark.parametrize("point", ["prepare_twophase", "commit_twophase"])
async def test_a_connection_is_killed_between_the_phases(
    two_phase: Twin, server: Server, sent: ReceivedKeys, xids: list[str], point: str
) -> None:
    """Before PREPARE nothing is left; behind it the server keeps what was prepared, undecided."""

    def kill(connection: Connection, *_: Any) -> None:
        server.kill(process_of(connection))

    event.listen(two_phase.engine, point, kill)
    with pytest.raises(DBAPIError) as raised:
        await two_phase.do(write)
    event.remove(two_phase.engine, point, kill)
    assert is_sqlalchemys(raised.value)
    assert raised.value.connection_invalidated
    await two_phase.do(recover)
    assert sent.of(IMMEDIATE) == sent.of(ROLLBACK) == [1]
    assert sent.of(COMMIT) == []
    assert server.rows() == set()
    assert len(prepared(server, xids)) == (1 if point == "commit_twophase" else 0)
    await check_next_transaction(two_phase, sent, server)


@only_on("postgresql", because="On MariaDB it belongs to its connection, as long as that is open")
async def test_a_prepared_transaction_that_somebody_else_has_ended(
    two_phase: Twin, server: Server, sent: ReceivedKeys, xids: list[str]
) -> None:
    """COMMIT PREPARED finds nothing to commit, and nothing is sent as committed."""

    def end(*_: Any) -> None:
        [name] = prepared(server, xids)
        server.execute(f"rollback prepared '{name}'")

    event.listen(two_phase.engine, "commit_twophase", end)
    with pytest.raises(DBAPIError) as raised:
        await two_phase.do(write)
    event.remove(two_phase.engine, "commit_twophase", end)
    assert is_sqlalchemys(raised.value)
    assert raised.value.orig.sqlstate == UNDEFINED
    await two_phase.do(recover)
    assert sent.of(IMMEDIATE) == sent.of(ROLLBACK) == [1]
    assert sent.of(COMMIT) == []
    assert server.rows() == set()
    await check_next_transaction(two_phase, sent, server)

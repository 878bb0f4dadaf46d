"""Statements that the server gives up: time limits, cancellations, errors that a receiver catches."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
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
    is_sqlalchemys,
    only_on,
    recover,
    trips,
)
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from aksara_signals import post_save, pre_save

CANCELED, ABORTED = {"57014", 1317, 1969}, "25P02"
SIGNALS = {"pre": pre_save, "post": post_save}


def wait_too_long(session: Any) -> None:
    """A query that exceeds its time limit."""
    plain = getattr(session, "sync_session", session)
    if plain.get_bind().dialect.name == "postgresql":
        plain.execute(text("set local statement_timeout = '20ms'"))
        plain.execute(text("select pg_sleep(60)"))
    else:
        plain.execute(text("set statement max_statement_time = 0.02 for select sleep(60)"))


def write(session: Session) -> None:
    session.add(Row(id=1))
    session.flush()
    session.add(Row(id=2))
    session.commit()


def caught(session: Any) -> None:
    with pytest.raises(DBAPIError):
        wait_too_long(session)


def caught_in_a_savepoint(session: Any) -> None:
    plain = getattr(session, "sync_session", session)
    with pytest.raises(DBAPIError), plain.begin_nested():
        wait_too_long(plain)
    if plain.get_bind().dialect.name == "postgresql":
        plain.execute(text("set local statement_timeout = 0"))


@pytest.fixture
def in_receiver(sent: ReceivedKeys) -> Any:
    """Does something with the session in a receiver of row 2."""
    connected: list[Any] = []

    def connect(place: str, what: Callable[[Any], None]) -> None:
        def receiver(instance: Row, session: Any, **kwargs: Any) -> None:
            if instance.id == 2:
                what(session)

        SIGNALS[place].connect(receiver, sender=Row)
        connected.append((SIGNALS[place], receiver))

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver, sender=Row)


@pytest.mark.parametrize("place", SIGNALS)
async def test_a_time_limit_in_a_receiver(
    twin: Twin, server: Server, sent: ReceivedKeys, in_receiver: Any, place: str
) -> None:
    """Its error says which receiver's query it was, and undoes the transaction."""
    in_receiver(place, wait_too_long)
    with pytest.raises(DBAPIError) as raised:
        await twin.do(write)
    assert is_sqlalchemys(raised.value)
    assert code_of(raised.value) in CANCELED
    assert raised.value.__notes__ == [
        note for note in raised.value.__notes__ if f"{place}_save" in note and "Row" in note
    ]
    await twin.do(recover)
    assert server.rows() == set()
    assert sent.of(ROLLBACK) == sent.of(IMMEDIATE)
    assert sent.of(COMMIT) == []
    await check_next_transaction(twin, sent, server)


@only_on("postgresql", because="MariaDB goes on after an error")
@pytest.mark.parametrize("place", SIGNALS)
async def test_a_receiver_that_catches_an_error_saves_nothing(
    twin: Twin, server: Server, sent: ReceivedKeys, in_receiver: Any, place: str
) -> None:
    """PostgreSQL would take the COMMIT that follows for a ROLLBACK, and not say so."""
    in_receiver(place, caught)
    with pytest.raises(DBAPIError) as raised:
        await twin.do(write)
    assert is_sqlalchemys(raised.value)
    assert raised.value.orig.sqlstate == ABORTED
    await twin.do(recover)
    assert server.rows() == set()
    assert sent.of(ROLLBACK) == sent.of(IMMEDIATE)
    assert sent.of(COMMIT) == []
    await check_next_transaction(twin, sent, server)


async def test_a_receiver_that_catches_an_error_in_a_savepoint_goes_on(
    twin: Twin, server: Server, sent: ReceivedKeys, in_receiver: Any
) -> None:
    """What the savepoint has rolled back is all that is lost."""
    in_receiver("post", caught_in_a_savepoint)
    await twin.do(write)
    assert server.rows() == {1, 2}
    assert sent.of(IMMEDIATE) == sent.of(COMMIT) == [1, 2]
    assert sent.of(ROLLBACK) == []
    await check_next_transaction(twin, sent, server)


@only_on("postgresql", because="MariaDB goes on after an error")
@pytest.mark.parametrize("is_callback", [False, True])
async def test_a_commit_after_a_caught_error_is_none(
    twin: Twin, server: Server, sent: ReceivedKeys, is_callback: bool
) -> None:
    """A commit that was a rollback is not sent as a commit, also outside of receivers."""

    def work(session: Session) -> None:
        if is_callback:
            sent.promise(session, 1)
        else:
            session.add(Row(id=1))
            session.flush()
        caught(session)
        session.commit()

    with pytest.raises(DBAPIError) as raised:
        await twin.do(work)
    assert is_sqlalchemys(raised.value)
    assert raised.value.orig.sqlstate == ABORTED
    await twin.do(recover)
    assert server.rows() == set()
    assert sent.of(COMMIT) == sent.called[COMMIT] == []
    assert sent.called[ROLLBACK] == ([1] if is_callback else [])
    await check_next_transaction(twin, sent, server)


@only_on("postgresql", because="MariaDB goes on after an error")
async def test_a_session_in_which_nothing_waits_is_left_alone(twin: Twin, server: Server) -> None:
    """Without receivers, COMMIT after a caught error does what it does without the library."""

    def work(session: Session) -> None:
        session.add(Row(id=1))
        session.flush()
        caught(session)
        session.commit()

    await twin.do(work)
    assert server.rows() == set()


async def test_a_time_limit_after_the_commit(
    twin: Twin, server: Server, sent: ReceivedKeys, caplog: pytest.LogCaptureFixture
) -> None:
    """Is logged; the other receivers run, and the caller doesn't notice."""

    def receiver(instance: Row, **kwargs: Any) -> None:
        with Session(server.engine.execution_options(isolation_level="READ COMMITTED")) as own:
            wait_too_long(own)

    post_save.connect(receiver, sender=Row, phase=COMMIT, priority=1)
    caplog.set_level(logging.ERROR, "aksara_signals")
    await twin.do(write)
    post_save.disconnect(receiver, sender=Row)
    assert sent.of(COMMIT) == [1, 2]
    codes = [code_of(record.exc_info[1]) for record in caplog.records]
    assert len(codes) == 2
    assert set(codes) <= CANCELED
    await check_next_transaction(twin, sent, server)


# -- what happens in a trigger ---------------------------------------------------------------------


def add_trigger(server: Server, place: str, statement: str) -> None:
    """Execute a statement within the INSERT of row 2 or, deferred, within its COMMIT."""
    if not server.is_mariadb:
        server.execute(
            f"create function strike() returns trigger language plpgsql as "
            f"'begin if new.id = 2 then {statement}; end if; return null; end'"
        )
        deferred = "deferrable initially deferred" if place == "commit" else ""
        server.execute(
            f"create constraint trigger strike after insert on row_of_faults {deferred} "
            f"for each row execute function strike()"
        )
    elif place == "flush":
        server.execute(
            f"create trigger strike after insert on row_of_faults "
            f"for each row begin if new.id = 2 then {statement}; end if; end"
        )
    else:
        pytest.skip("MariaDB has no deferred triggers")


@pytest.mark.parametrize("place", ["flush", "commit"])
async def test_a_statement_is_cancelled(
    twin: Twin, server: Server, sent: ReceivedKeys, place: str
) -> None:
    """From outside, in an INSERT, or in a trigger that runs within COMMIT."""
    # An INSERT, or its COMMIT, cancels itself: nothing is faster than another connection.
    if server.is_mariadb:
        add_trigger(server, place, "kill query connection_id(); do sleep(60)")
    else:
        add_trigger(server, place, "perform pg_cancel_backend(pg_backend_pid()), pg_sleep(60)")
    with pytest.raises(DBAPIError) as raised:
        await twin.do(write)
    assert is_sqlalchemys(raised.value)
    assert code_of(raised.value) in CANCELED
    assert not raised.value.connection_invalidated
    await twin.do(recover)
    assert server.rows() == set()
    assert sent.of(IMMEDIATE) == sent.of(ROLLBACK) == ([1, 2] if place == "commit" else [1])
    assert sent.of(COMMIT) == []
    await check_next_transaction(twin, sent, server)


@pytest.mark.parametrize(
    "code", [("53100", 1114), ("23505", 1062), ("P0001", 1644)], ids=["full", "unique", "raised"]
)
@pytest.mark.parametrize("place", ["flush", "commit"])
async def test_a_trigger_raises(
    twin: Twin, server: Server, sent: ReceivedKeys, place: str, code: tuple[str, int]
) -> None:
    """In the INSERT or, deferred, in COMMIT: the error comes through, everything is undone."""
    if server.is_mariadb:
        statement = f"signal sqlstate '45000' set message_text = 'no room', mysql_errno = {code[1]}"
    else:
        statement = f"raise exception ''no room'' using errcode = ''{code[0]}''"
    add_trigger(server, place, statement)
    with pytest.raises(DBAPIError, match="no room") as raised:
        await twin.do(write)
    assert is_sqlalchemys(raised.value)
    assert code_of(raised.value) in code
    await twin.do(recover)
    assert server.rows() == set()
    assert sent.of(IMMEDIATE) == sent.of(ROLLBACK) == ([1, 2] if place == "commit" else [1])
    assert sent.of(COMMIT) == []
    await check_next_transaction(twin, sent, server)


@only_on("postgresql", because="MariaDB goes on after an error")
async def test_the_rollback_of_a_savepoint_after_an_error_is_no_doubt(
    twin: Twin, server: Server, sent: ReceivedKeys
) -> None:
    """One SELECT asks the database whether a caught error was undone, and no later commit asks."""

    def work(session: Session) -> None:
        session.add(Row(id=1))
        session.flush()
        with pytest.raises(DBAPIError), session.begin_nested():
            session.execute(text("select 1 / 0"))
        with trips(twin.engine) as found:
            session.add(Row(id=2))
            session.flush()
            session.add(Row(id=3))
            session.flush()
            session.commit()
        assert found.names.count("before SELECT") == 1

    await twin.do(work)
    assert sent.of(COMMIT) == [1, 2, 3]
    assert server.rows() == {1, 2, 3}
    await check_next_transaction(twin, sent, server)

"""Transactions that MariaDB ends by itself, in the middle, while the session goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from kit.databases import mariadb_database, restartable_mariadb
from kit.faulty import (
    COMMIT,
    IMMEDIATE,
    ROLLBACK,
    Base,
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
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from aksara_signals import Signal, post_save, pre_save
from aksara_signals.orm.outcome import durable

pytestmark = only_on("mariadb", because="PostgreSQL executes nothing more in such a transaction")

DEADLOCK, RECORD_CHANGED, LOCK_TIMEOUT, NO_SAVEPOINT = 1213, 1020, 1205, 1305
XA_ROLLBACK_ONLY = 1399
CHANGE = text("update row_of_faults set secret = concat(secret, 'x') where id = :id")
Loss = Callable[[Session, Server], None]


def plain(session: Any) -> Session:
    return getattr(session, "sync_session", session)


def deadlock(session: Session, server: Server) -> None:
    """Rows 1 and 2 are locked in both orders; the other transaction has written more, and stays."""
    with server.engine.execution_options(isolation_level="REPEATABLE READ").connect() as other:
        other.execute(insert(Row), [{"id": 1000 + number} for number in range(50)])
        other.execute(CHANGE, {"id": 2})
        session.execute(CHANGE, {"id": 1})
        # Whoever comes last closes the circle; the one that has written less is given up.
        waiting = threading.Thread(target=other.execute, args=(CHANGE, {"id": 1}))
        waiting.start()
        try:
            session.execute(CHANGE, {"id": 2})
        finally:
            waiting.join()
            other.rollback()


def changed_record(session: Session, server: Server) -> None:
    """Row 1 has been changed since the transaction has read it."""
    session.execute(text("set innodb_snapshot_isolation = on"))
    session.scalar(select(Row.secret).where(Row.id == 1))
    server.execute("update row_of_faults set secret = 'new' where id = 1")
    session.execute(CHANGE, {"id": 1})


LOSSES = {deadlock: DEADLOCK, changed_record: RECORD_CHANGED}


@pytest.mark.parametrize("in_savepoint", [False, True])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
async def test_what_was_lost_is_sent_as_rolled_back(
    twin: Twin, server: Server, sent: ReceivedKeys, loss: Loss, in_savepoint: bool
) -> None:
    """What is written after the caught error is another transaction for MariaDB, and is committed."""
    server.write(1, 2)

    def write(session: Session) -> None:
        sent.promise(session, 3)
        session.add(Row(id=3))
        session.flush()
        if in_savepoint:
            with pytest.raises(DBAPIError) as raised, session.begin_nested():
                session.add(Row(id=4))
                session.flush()
                loss(session, server)
            assert code_of(raised.value) == NO_SAVEPOINT  # the error of its rollback
        else:
            with pytest.raises(DBAPIError) as raised:
                loss(session, server)
            assert code_of(raised.value) == LOSSES[loss]
        sent.promise(session, 5)
        session.add(Row(id=5))
        session.commit()

    await twin.do(write)
    lost = [3, 4] if in_savepoint else [3]
    assert server.rows() == {1, 2, 5}
    assert sent.of(IMMEDIATE) == [*lost, 5]
    assert sent.of(COMMIT) == sent.called[COMMIT] == [5]
    assert sent.of(ROLLBACK) == lost
    assert sent.called[ROLLBACK] == [3]
    await check_next_transaction(twin, sent, server)


async def test_a_flush_that_is_lost_in_a_savepoint(
    twin: Twin, server: Server, sent: ReceivedKeys
) -> None:
    """The savepoint is gone with everything else, and only what comes later is committed."""
    server.write(1, 2)

    def lose(instance: Row, session: Any, **kwargs: Any) -> None:
        if instance.id == 4:
            deadlock(plain(session), server)

    def write(session: Session) -> None:
        session.add(Row(id=3))
        session.flush()
        with suppress(DBAPIError), session.begin_nested():
            session.add(Row(id=4))
        session.add(Row(id=5))
        session.commit()

    with post_save.connected_to(lose, sender=Row, priority=-1):
        await twin.do(write)
    assert server.rows() == {1, 2, 5}
    assert sent.of(COMMIT) == [5]
    assert sorted(sent.of(ROLLBACK)) == [3, 4]
    await check_next_transaction(twin, sent, server)


@pytest.mark.parametrize("is_caught_in_savepoint", [False, True])
@pytest.mark.parametrize("signal", [pre_save, post_save], ids=["pre", "post"])
async def test_a_receiver_that_catches_the_error_saves_nothing(
    twin: Twin, server: Server, sent: ReceivedKeys, signal: Any, is_caught_in_savepoint: bool
) -> None:
    """The flush that has called it raises the error, since its own rows may be gone."""
    if signal is pre_save and is_caught_in_savepoint:
        pytest.skip("pre receivers open no savepoints")
    server.write(1, 2)

    def catch(instance: Row, session: Any, **kwargs: Any) -> None:
        if instance.id == 4:
            if is_caught_in_savepoint:
                with suppress(DBAPIError), plain(session).begin_nested():
                    deadlock(plain(session), server)
            else:
                with suppress(DBAPIError):
                    deadlock(plain(session), server)

    def write(session: Session) -> None:
        session.add(Row(id=3))
        session.flush()
        session.add(Row(id=4))
        session.commit()

    with signal.connected_to(catch, sender=Row), pytest.raises(DBAPIError) as raised:
        await twin.do(write)
    assert is_sqlalchemys(raised.value)
    assert code_of(raised.value) == DEADLOCK
    await twin.do(recover)
    assert server.rows() == {1, 2}
    assert sent.of(COMMIT) == []
    assert sent.of(ROLLBACK) == sent.of(IMMEDIATE)
    await check_next_transaction(twin, sent, server)


async def test_a_later_flush_knows_nothing_of_an_earlier_loss(
    twin: Twin, server: Server, sent: ReceivedKeys
) -> None:
    """The first statement of a transaction may be tried again; nothing was lost with it."""
    server.write(1, 2)

    def write(session: Session) -> None:
        with pytest.raises(DBAPIError):
            deadlock(session, server)
        for key in (3, 4):
            session.add(Row(id=key))
            session.flush()
        session.commit()

    await twin.do(write)
    assert server.rows() == {1, 2, 3, 4}
    assert sent.of(IMMEDIATE) == sent.of(COMMIT) == [3, 4]
    assert sent.of(ROLLBACK) == []
    await check_next_transaction(twin, sent, server)


async def test_another_session_loses_nothing(
    twin: Twin, server: Server, sent: ReceivedKeys
) -> None:
    """Only the transaction of the failed connection is gone."""
    server.write(1, 2)
    with Session(server.engine.execution_options(isolation_level="READ COMMITTED")) as other:
        sent.promise(other, 7)
        other.add(Row(id=7))
        other.flush()

        def write(session: Session) -> None:
            session.add(Row(id=3))
            session.flush()
            with pytest.raises(DBAPIError):
                deadlock(session, server)
            session.commit()

        await twin.do(write)
        other.expunge_all()
        other.commit()
    assert sent.called == {COMMIT: [7], ROLLBACK: []}
    assert server.rows() == {1, 2, 7}
    assert sent.of(ROLLBACK) == [3]


# -- errors after which the transaction goes on ----------------------------------------------------


def duplicate(session: Session, server: Server) -> None:
    with pytest.raises(IntegrityError):
        session.execute(insert(Row).values(id=1, secret=""))


def lock_timeout(session: Session, server: Server) -> None:
    session.execute(text("set innodb_lock_wait_timeout = 0"))
    holder = server.engine.execution_options(isolation_level="REPEATABLE READ").connect()
    with holder:
        holder.execute(CHANGE, {"id": 1})
        with pytest.raises(DBAPIError) as raised:
            session.execute(CHANGE, {"id": 1})
        holder.rollback()
    assert code_of(raised.value) == LOCK_TIMEOUT


@pytest.mark.parametrize("harm", [duplicate, lock_timeout])
async def test_an_error_that_undoes_its_statement_alone(
    twin: Twin, server: Server, sent: ReceivedKeys, harm: Loss
) -> None:
    """What was written before it and after it is committed, and sent as such."""
    server.write(1)

    def write(session: Session) -> None:
        session.add(Row(id=3))
        session.flush()
        harm(session, server)
        session.add(Row(id=4))
        session.commit()

    await twin.do(write)
    assert server.rows() == {1, 3, 4}
    assert sent.of(COMMIT) == [3, 4]
    assert sent.of(ROLLBACK) == []
    await check_next_transaction(twin, sent, server)


async def test_an_ordinary_error_causes_no_statement(twin: Twin, server: Server) -> None:
    """MariaDB isn't asked what has become of the transaction: its error says so."""
    server.write(1)

    def write(session: Session) -> None:
        session.add(Row(id=3))
        session.flush()
        with trips(twin.engine) as found:
            duplicate(session, server)
        assert found.names == ["before INSERT"]
        session.rollback()

    await twin.do(write)


@pytest.fixture(scope="module")
def strict() -> Iterator[Any]:
    """A server that rolls everything back when a lock isn't had in time."""
    with restartable_mariadb("--innodb-rollback-on-timeout") as server:
        yield server.url


async def test_a_lock_timeout_that_undoes_everything(
    strict: Any, driver: str, sent: ReceivedKeys
) -> None:
    """If the server was started with ``innodb_rollback_on_timeout``."""
    with mariadb_database(strict) as database:
        server, twin = Server(database), Twin(driver, database)
        Base.metadata.create_all(server.engine)
        server.write(1)

        def write(session: Session) -> None:
            session.add(Row(id=3))
            session.flush()
            lock_timeout(session, server)
            session.add(Row(id=4))
            session.commit()

        await twin.do(write)
        assert server.rows() == {1, 4}
        assert sent.of(COMMIT) == [4]
        assert sent.of(ROLLBACK) == [3]
        await check_next_transaction(twin, sent, server)
        await twin.dispose()
        server.engine.dispose()


# -- statements that commit ------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_statement_that_commits(
    twin: Twin, server: Server, sent: ReceivedKeys, end: str
) -> None:
    """DDL ends the transaction unnoticed: deferred receivers are called at the end of the session's."""

    def write(session: Session) -> None:
        session.add(Row(id=3))
        session.flush()
        session.execute(text("create table made_meanwhile (id integer)"))
        assert sent.of(COMMIT) == []
        assert server.rows() == {3}
        session.add(Row(id=4))
        session.flush()
        getattr(session, end)()

    await twin.do(write)
    assert server.rows() == ({3, 4} if end == "commit" else {3})
    assert sent.of(COMMIT) == ([3, 4] if end == "commit" else [])
    assert sent.of(ROLLBACK) == ([] if end == "commit" else [3, 4])  # no commit is known
    await check_next_transaction(twin, sent, server)


# -- durable receivers -----------------------------------------------------------------------------


class RowWriter:
    """Writes a row for each that a durable receiver is sent: its key, and a hundred more."""

    def prepare(self, sends: Any) -> list[int]:
        return [100 + send.payload["key"] for send in sends]

    def write(self, session: Session, rows: list[int]) -> None:
        session.connection().execute(insert(Row), [{"id": key, "secret": ""} for key in rows])


@pytest.fixture
def writer() -> Iterator[None]:
    before = durable._writer
    durable.install_writer(RowWriter())
    yield
    durable.install_writer(before)


async def test_what_is_sent_to_durable_receivers_is_lost_with_the_changes(
    twin: Twin, server: Server, sent: ReceivedKeys, writer: None
) -> None:
    """Also what couldn't be written yet; what is sent later is stored."""
    server.write(1, 2)
    signal = Signal(f"lost_{twin.driver}")
    signal.connect(lambda **kwargs: None, durable=f"test_lost_transactions.{twin.driver}")

    async def write_change(key: int) -> None:
        twin.session.add(Row(id=key))
        await twin.do(Session.flush)
        # An AsyncSession writes this at its next flush, or before COMMIT.
        signal.send_sync(session=twin.session, key=key)

    def lose(session: Session) -> None:
        with pytest.raises(DBAPIError):
            deadlock(session, server)

    await write_change(3)
    await twin.do(lose)
    await write_change(4)
    await twin.do(Session.commit)
    assert server.rows() == {1, 2, 4, 104}
    assert sent.of(COMMIT) == [4]
    assert sent.of(ROLLBACK) == [3]
    await check_next_transaction(twin, sent, server)


# -- two phases ------------------------------------------------------------------------------------


async def test_a_deadlock_before_two_phases(twin: Twin, server: Server, sent: ReceivedKeys) -> None:
    """MariaDB prepares nothing then: ``commit()`` raises, and everything is sent as rolled back."""
    await twin.renew(twophase=True)
    server.write(1, 2)

    def write(session: Session) -> None:
        session.add(Row(id=3))
        with session.begin_nested():
            session.add(Row(id=4))
        with pytest.raises(DBAPIError):
            deadlock(session, server)
        session.commit()

    with pytest.raises(DBAPIError) as raised:
        await twin.do(write)
    assert is_sqlalchemys(raised.value)
    assert code_of(raised.value) == XA_ROLLBACK_ONLY
    await twin.do(recover)
    assert server.rows() == {1, 2}
    assert sent.of(COMMIT) == []
    assert sent.of(ROLLBACK) == sent.of(IMMEDIATE) == [3, 4]
    await check_next_transaction(twin, sent, server)

"""Messages and log lines of ours name class and primary key, and never another column's value."""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from kit.databases import Database
from kit.faulty import (
    COMMIT,
    DRIVERS,
    SYNC_DRIVERS,
    ReceivedKeys,
    Row,
    Server,
    Twin,
    recover,
)
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from aksara_signals import on_delivery_error, post_save, pre_save

SECRET = "correct horse battery staple"
SYNC = {DRIVERS[driver]: driver for driver in SYNC_DRIVERS}
SIGNALS = {"pre_save": pre_save, "post_save": post_save}


@pytest.fixture
async def hiding(driver: str, database: Database, server: Server) -> Any:
    """A session whose engine hides parameters, so that nothing of SQLAlchemy's shows them."""
    twin = Twin(driver, database, hide_parameters=True)
    yield twin
    await twin.dispose()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a log file would show: messages and tracebacks."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    logger = logging.getLogger("aksara_signals")
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


def add(session: Session) -> None:
    session.add(Row(id=77, secret=SECRET))
    session.commit()


def fail(session: Any) -> None:
    """A statement with the value in it, which fails."""
    plain = getattr(session, "sync_session", session)
    if plain.get_bind().dialect.name == "postgresql":
        statement = text("select 1 / length(:secret) from pg_sleep(0) where 1 / 0 = 1")
    else:
        statement = text("select length(:secret), (select 1 union select 2)")
    plain.execute(statement, {"secret": SECRET})


@pytest.mark.parametrize("name", SIGNALS)
async def test_an_error_of_a_receivers_statement_shows_no_values(
    hiding: Twin, sent: ReceivedKeys, log: io.StringIO, name: str
) -> None:
    """The note names the class and the key."""

    def receiver(instance: Row, session: Any, **kwargs: Any) -> None:
        fail(session)

    with (
        SIGNALS[name].connected_to(receiver, sender=Row),
        pytest.raises(DBAPIError) as raised,
    ):
        await hiding.do(add)
    await hiding.do(recover)
    shown = "".join(traceback.format_exception(raised.value))
    assert f"{name} sent by" in shown
    assert SECRET not in shown
    assert SECRET not in log.getvalue()


async def test_a_log_line_of_a_failed_delivery_shows_no_values(
    hiding: Twin, database: Database, sent: ReceivedKeys, log: io.StringIO
) -> None:
    """Neither of a receiver that fails, nor of an observer of failures that fails."""

    def receiver(instance: Row, **kwargs: Any) -> None:
        assert instance.secret == SECRET
        with Session(engine) as session:
            fail(session)

    def observe(payload: dict[str, Any], **kwargs: Any) -> None:
        raise LookupError("observer")

    other = Twin(SYNC[database.dialect], database, hide_parameters=True)
    engine = other.engine
    with (
        post_save.connected_to(receiver, sender=Row, phase=COMMIT),
        on_delivery_error.connected_to(observe),
    ):
        await hiding.do(add)
    await other.dispose()
    assert sent.of(COMMIT) == [77]
    shown = log.getvalue()
    assert "Row 77" in shown
    assert "LookupError" in shown
    assert SECRET not in shown


async def test_a_broken_flush_shows_no_values(
    hiding: Twin, sent: ReceivedKeys, log: io.StringIO
) -> None:
    """An error of the flush itself is SQLAlchemy's, and nothing is added to it."""
    await hiding.do(add)

    def add_again(session: Session) -> None:
        session.add(Row(id=77, secret="x"))
        session.commit()

    with pytest.raises(DBAPIError) as raised:
        await hiding.do(add_again)
    await hiding.do(recover)
    assert not hasattr(raised.value, "__notes__")
    assert SECRET not in "".join(traceback.format_exception(raised.value))
    assert log.getvalue() == ""


async def test_parameters_are_shown_by_sqlalchemy_alone(
    twin: Twin, server: Server, sent: ReceivedKeys
) -> None:
    """Without ``hide_parameters`` its text shows them, and the note of ours doesn't."""

    def receiver(instance: Row, session: Any, **kwargs: Any) -> None:
        fail(session)

    with post_save.connected_to(receiver, sender=Row), pytest.raises(DBAPIError) as raised:
        await twin.do(add)
    await twin.do(recover)
    assert SECRET in str(raised.value)
    [note] = raised.value.__notes__
    assert "Row 77" in note
    assert SECRET not in note

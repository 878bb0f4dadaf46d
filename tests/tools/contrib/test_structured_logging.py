"""Log records of deliveries."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from aksara_signals import Signal, post_save, provenance
from aksara_signals.contrib.outbox import Outbox
from aksara_signals.contrib.structured_logging import log_deliveries, stop_logging_deliveries
from aksara_signals.orm import SignalMixin
from aksara_signals.testing import drain_outbox_sync, pending_sync


class Base(SignalMixin, DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "logged_account"

    id: Mapped[int] = mapped_column(primary_key=True)
    password: Mapped[str]


outbox = Outbox(Base.metadata)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    caplog.set_level(logging.DEBUG, "aksara_signals.deliveries")
    log_deliveries(logging.DEBUG)
    log_deliveries()
    yield caplog
    assert stop_logging_deliveries()
    assert not stop_logging_deliveries()


def test_each_receiver_is_one_record_with_fields(
    sync_engine: Engine, log: pytest.LogCaptureFixture
) -> None:
    """The key, how long it took and what became of it; no column."""

    @post_save(Account)
    def greet(**kwargs: Any) -> None: ...

    Base.metadata.create_all(sync_engine)
    with Session(sync_engine) as session, session.begin():
        session.add(Account(id=7, password="secret"))
    [record] = log.records
    fields = vars(record)
    assert (record.levelno, fields["outcome"]) == (logging.INFO, "ok")
    assert (fields["signal"], fields["instance_key"]) == ("post_save", "7")
    assert fields["sender"].endswith("Account")
    assert "greet" in fields["receiver"]
    assert fields["seconds"] > 0
    assert "secret" not in str(fields)


def test_a_failure_is_an_error_without_traceback(
    sync_engine: Engine, log: pytest.LogCaptureFixture
) -> None:
    """The exception goes its own way."""

    @post_save(Account)
    def reject(**kwargs: Any) -> None:
        raise LookupError

    Base.metadata.create_all(sync_engine)
    with (
        pytest.raises(LookupError),
        Session(sync_engine) as session,
        session.begin(),
    ):
        session.add(Account(id=7, password="secret"))
    [record] = log.records
    assert (record.levelno, vars(record)["outcome"]) == (logging.ERROR, "failed")
    assert record.exc_info is None
    assert record.getMessage().endswith("failed with LookupError")


def test_the_call_of_a_durable_receiver_has_its_event(
    sync_engine: Engine, log: pytest.LogCaptureFixture
) -> None:
    """Its id and its attempt, to find the row by; None for other receivers."""
    outbox.install()

    @post_save(Account)
    def greet(**kwargs: Any) -> None: ...

    @post_save(Account, durable="logged.account")
    def book(event: Any, **kwargs: Any) -> None: ...

    Base.metadata.create_all(sync_engine)
    try:
        with Session(sync_engine) as session, session.begin():
            session.add(Account(id=7, password="secret"))
            [event] = pending_sync(session)
            drain_outbox_sync(session)
    finally:
        outbox.uninstall()
    found = [(vars(each)["event_id"], vars(each)["attempt"]) for each in log.records]
    assert found == [(None, None), (str(event.id), 1)]


def test_a_record_has_the_provenance(log: pytest.LogCaptureFixture) -> None:
    """As a mapping; an empty one outside of blocks."""
    signal = Signal("happened")
    signal.connect(lambda **_: None)
    with provenance(actor=7):
        signal.send_sync("shop")
    signal.send_sync("shop")
    assert [vars(record)["provenance"] for record in log.records] == [{"actor": 7}, {}]

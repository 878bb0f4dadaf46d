"""What errors of the database mean."""

from __future__ import annotations

from asyncpg.exceptions import CannotConnectNowError, UniqueViolationError
from sqlalchemy.exc import DBAPIError

from aksara_signals.contrib.outbox.rows.errors import is_outage


def test_a_server_that_is_starting_is_an_outage() -> None:
    """asyncpg's own error says so, as SQLAlchemy's around it do; no attempt is counted for it."""
    starting = CannotConnectNowError("the database system is starting up")
    assert is_outage(starting)
    assert is_outage(DBAPIError("SELECT 1", {}, starting))
    assert not is_outage(UniqueViolationError("duplicate key"))

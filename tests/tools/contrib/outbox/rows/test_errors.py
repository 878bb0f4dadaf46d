"""What errors of the database mean."""

from __future__ import annotations

import importlib

import pytest
from asyncpg.exceptions import CannotConnectNowError, UniqueViolationError
from sqlalchemy.exc import DBAPIError, OperationalError

from aksara_signals.contrib.outbox.rows.errors import is_missing, is_outage


def test_a_server_that_is_starting_is_an_outage() -> None:
    """asyncpg's own error says so, as SQLAlchemy's around it do; no attempt is counted for it."""
    starting = CannotConnectNowError("the database system is starting up")
    assert is_outage(starting)
    assert is_outage(DBAPIError("SELECT 1", {}, starting))
    assert not is_outage(UniqueViolationError("duplicate key"))


@pytest.mark.parametrize("module", ["pymysql.err", "asyncmy.errors"])
@pytest.mark.parametrize(
    ("number", "is_it"),
    [(1205, True), (1213, True), (2013, True), (1927, True), (1062, False), (1054, False)],
)
def test_errors_of_mysql_are_known_by_their_numbers(module: str, number: int, is_it: bool) -> None:
    """Nearly all are an OperationalError, from a deadlock to a column that doesn't exist."""
    original = importlib.import_module(module).OperationalError(number, "what happened")
    error = OperationalError("SELECT 1", {}, original)
    assert is_outage(error) is is_it
    assert is_missing(error) is (number == 1054)

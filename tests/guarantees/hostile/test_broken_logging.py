"""A logging handler or filter that raises: it is shown, and costs no receiver its call."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from kit import databases
from kit.misfits import AFTER_COMMIT, AFTER_ROLLBACK, WAYS, Base, do, send, write
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from aksara_signals import Signal
from aksara_signals.contrib.structured_logging import log_deliveries, stop_logging_deliveries

PLACES = AFTER_COMMIT | AFTER_ROLLBACK


class Broken(Exception):  # noqa: N818 - named by what is odd about it
    """Raised by what should log."""


class ToChat(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise Broken("the chat server is down")


class BrokenFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        raise Broken("the chat server is down")


@pytest.fixture(params=["handler", "filter"])
def broken_logger(request: pytest.FixtureRequest) -> Iterator[None]:
    logger = logging.getLogger("aksara_signals")
    handler, each = ToChat(), BrokenFilter()
    logger.addHandler(handler) if request.param == "handler" else logger.addFilter(each)
    yield
    logger.removeHandler(handler)
    logger.removeFilter(each)


def fail(**kwargs: Any) -> None:
    raise ValueError("the receiver's own")


@pytest.mark.parametrize("way", [each for each in WAYS if "robust" in each])
@pytest.mark.usefixtures("broken_logger")
async def test_a_robust_send_calls_the_others(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What logging raises stands on standard error, beside what was to be logged."""
    signal = Signal("logged")
    signal.connect(fail)
    signal.connect(lambda **kwargs: "called")
    (_, error), (_, response) = await send(signal, way)
    assert (repr(error), response) == ('ValueError("the receiver\'s own")', "called")
    shown = capsys.readouterr().err
    assert "Broken: the chat server is down" in shown
    assert "ValueError: the receiver's own" in shown
    assert "a receiver failed" in shown
    assert "logged sent by None to" in shown


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.usefixtures("broken_logger")
async def test_the_committing_code_gets_no_error(
    place: str, async_engine: AsyncEngine, sync_engine: Engine
) -> None:
    """Every receiver that waited is called, under both kinds of session."""
    await databases.create_all(async_engine, Base.metadata)
    for session in (AsyncSession(async_engine), Session(sync_engine)):
        calls: list[str] = []

        def receive(calls: list[str] = calls, **kwargs: Any) -> None:
            calls.append("called")

        PLACES[place](lambda **kwargs: fail(), session)
        PLACES[place](receive, session)
        await write(session, type(session).__name__)
        await do(session, "commit" if place in AFTER_COMMIT else "rollback")
        assert calls == ["called"]
        await do(session, "close")


@pytest.mark.usefixtures("broken_logger")
def test_without_a_standard_error_it_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nowhere left to show it, and the receivers matter more."""

    class Closed:
        def write(self, text: str) -> None:
            raise ValueError("I/O operation on closed file")

    signal = Signal("logged")
    signal.connect(fail)
    signal.connect(lambda **kwargs: "called")
    monkeypatch.setattr(sys, "stderr", Closed())
    responses = signal.send_robust_sync(None)
    monkeypatch.undo()
    assert responses[1][1] == "called"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("broken_logger")
async def test_the_log_of_deliveries_costs_none(
    way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does it stand in a receiver's way, or take the place of what that raises."""
    logger = logging.getLogger("aksara_signals.deliveries")
    logger.addFilter(BrokenFilter())
    log_deliveries()
    signal = Signal("logged")
    signal.connect(lambda **kwargs: "called")
    try:
        [(_, response)] = await send(signal, way)
        assert response == "called"
        signal.connect(fail)
        try:
            found = (await send(signal, way))[1][1]
        except ValueError as error:
            found = error
        assert str(found) == "the receiver's own"
    finally:
        stop_logging_deliveries()
        logger.filters.clear()
    assert "Broken: the chat server is down" in capsys.readouterr().err

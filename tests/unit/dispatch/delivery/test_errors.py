"""What becomes of an exception: logged, noted, or both raised together."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from contextlib import suppress
from typing import Any

import pytest

from aksara_signals import Signal, SignalRecursionError
from aksara_signals.dispatch.delivery.delivery import Delivery, Failure
from aksara_signals.dispatch.delivery.errors import (
    add_note,
    handle_error,
    log_error,
    raise_errors,
    write_log,
)
from aksara_signals.dispatch.delivery.frame import MAX_NOTES


def receive(**kwargs: Any) -> None:
    """Is connected."""


@pytest.fixture
def delivery() -> Delivery:
    signal = Signal("happened")
    signal.connect(receive)
    return Delivery(signal, int, signal.connections, {"signal": signal, "sender": int})


def judge(error: BaseException, delivery: Delivery, *more: Any, **options: Any) -> bool:
    return handle_error(error, delivery, delivery.sequential[0], *more, **options)


def notes_of(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", ()))


# -- notes ----------------------------------------------------------------------------------------


def test_a_note_is_added_once() -> None:
    """It says what was under way."""
    error = ValueError()
    for text in ("while a", "while b", "while a"):
        add_note(error, text)
    assert notes_of(error) == ["while a", "while b"]


def test_an_exception_that_is_raised_again_and_again_keeps_the_latest_notes() -> None:
    """Those of others are never taken from it."""
    error = ValueError()
    error.add_note("of the user")
    for number in range(2 * MAX_NOTES):
        add_note(error, f"while {number}")
    notes = notes_of(error)
    assert len(notes) == MAX_NOTES
    assert notes[0] == "of the user"
    assert notes[1:] == [f"while {n}" for n in range(MAX_NOTES + 1, 2 * MAX_NOTES)]


def test_an_exception_that_takes_no_notes_goes_without() -> None:
    """What it says matters more."""
    error = ValueError()
    error.__notes__ = ("a tuple",)  # type: ignore[assignment]
    add_note(error, "a")
    assert notes_of(error) == ["a tuple"]


# -- collecting -----------------------------------------------------------------------------------


def test_what_is_raised_has_a_note(delivery: Delivery) -> None:
    """The signal, the sender and the receiver."""
    error = ValueError()
    assert not judge(error, delivery, False)
    [note] = notes_of(error)
    assert note.startswith("while happened sent by ")
    assert "receive" in note


@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit, SignalRecursionError])
def test_what_ends_others_has_no_note(delivery: Delivery, kind: type[BaseException]) -> None:
    """It isn't the receiver's own, or says where it comes from."""
    error = kind()
    assert not judge(error, delivery, False)
    assert notes_of(error) == []


def test_what_is_collected_is_logged(delivery: Delivery, caplog: pytest.LogCaptureFixture) -> None:
    """With its traceback, and without a note."""
    error = ValueError("wrong")
    failures: list[Failure] = []
    assert judge(error, delivery, True, failures, what="it failed")
    assert failures == [(error, delivery, delivery.sequential[0])]
    [record] = caplog.records
    assert record.name == "aksara_signals"
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("it failed: happened sent by ")
    assert record.exc_info == (ValueError, error, error.__traceback__)
    assert notes_of(error) == []
    assert judge(error, delivery, True)
    assert "a receiver failed: happened" in caplog.text


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_the_program_is_never_collected(
    delivery: Delivery, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """It is raised, however robust the send is."""
    failures: list[Failure] = []
    assert not judge(kind(), delivery, True, failures)
    assert failures == []
    assert caplog.records == []


def test_a_cancellation_without_an_event_loop(delivery: Delivery) -> None:
    """It is of the receiver's own making, and collected where failures are taken."""
    assert judge(asyncio.CancelledError(), delivery, True, [])
    assert not judge(asyncio.CancelledError(), delivery, True)
    assert not judge(asyncio.CancelledError(), delivery, False, [])


async def test_a_cancellation_in_a_task(delivery: Delivery) -> None:
    """It is the receiver's own as long as the task isn't cancelled."""
    assert judge(asyncio.CancelledError(), delivery, True, [])
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    assert not judge(asyncio.CancelledError(), delivery, True, [])
    task.uncancel()
    with suppress(asyncio.CancelledError):  # taken back with it from Python 3.13 on
        await asyncio.sleep(0)


async def test_a_cancellation_in_a_callback_of_the_loop(delivery: Delivery) -> None:
    """There is no task that could have been cancelled."""
    judged: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(
        lambda: judged.set_result(judge(asyncio.CancelledError(), delivery, True, []))
    )
    async with asyncio.timeout(5):
        assert await judged


# -- logging --------------------------------------------------------------------------------------


class Broken(logging.Handler):
    """A handler that raises."""

    def emit(self, record: logging.LogRecord) -> None:
        raise ZeroDivisionError


def test_a_broken_handler_costs_nothing(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it raises is shown on standard error, with what was to be logged."""
    logger = logging.getLogger("aksara_signals")
    monkeypatch.setattr(logger, "handlers", [Broken()])
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    log_error("it failed", ValueError(), delivery, delivery.sequential[0])
    assert "ZeroDivisionError" in shown.getvalue()
    assert "'%s: %s'" in shown.getvalue()
    assert "it failed" in shown.getvalue()
    monkeypatch.setattr(sys, "stderr", "broken, too")
    write_log(logger, logging.ERROR, "text")


# -- together -------------------------------------------------------------------------------------


def test_errors_of_concurrent_receivers() -> None:
    """None is nothing, one is raised as itself, several as a group."""
    raise_errors([], "of x")
    one, two = ValueError(), LookupError()
    with pytest.raises(ValueError, match=r"^$") as caught:
        raise_errors([one], "of x")
    assert caught.value is one
    with pytest.raises(ExceptionGroup, match="2 concurrent receivers of x failed") as group:
        raise_errors([one, two], "of x")
    assert group.value.exceptions == (one, two)

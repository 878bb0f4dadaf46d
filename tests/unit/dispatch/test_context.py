"""SignalContext: silence for the current task."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest

from aksara_signals import InvalidOptionError, Signal, SignalContext


class Model: ...


class Child(Model): ...


class Other: ...


def one(**kwargs: Any) -> str:
    return "one"


def two(**kwargs: Any) -> str:
    return "two"


@pytest.fixture
def signal() -> Signal:
    signal = Signal("happened")
    signal.connect(one)
    signal.connect(two)
    return signal


def called(signal: Signal, sender: Any = Model) -> list[Any]:
    return [response for _, response in signal.send_sync(sender)]


async def test_every_form_of_silence(signal: Signal) -> None:
    """with, async with, and decorators of sync and async functions."""
    silent = SignalContext.disable_for(Model)
    with silent:
        assert called(signal) == []
        assert await signal.send(Child) == []
        assert called(signal, Other) == ["one", "two"]
    async with silent as entered:
        assert entered is silent
        assert called(signal) == []

    @silent
    def sync(argument: int) -> Any:
        return argument, called(signal)

    @silent
    async def asynchronous(argument: int) -> Any:
        return argument, called(signal)

    assert sync(1) == (1, [])
    assert await asynchronous(2) == (2, [])
    assert sync.__name__ == "sync"
    assert called(signal) == ["one", "two"]
    assert "Model" in repr(silent)


def test_generators_are_not_decorated() -> None:
    """Their callers would be silenced between two yields."""

    def generator() -> Iterator[None]:
        yield

    with pytest.raises(InvalidOptionError, match="generator"):
        SignalContext.disable_all()(generator)


def test_contexts_nest_and_are_reused(signal: Signal) -> None:
    """One context may be entered inside itself and others, and left in any order."""
    silent, other = SignalContext.disable_for(Model), SignalContext.disable_for(Other)
    with silent:
        with silent, other:
            assert called(signal, Other) == []
        assert called(signal) == []
        assert called(signal, Other) == ["one", "two"]
    assert called(signal) == ["one", "two"]
    silent.__enter__()
    other.__enter__()
    silent.__exit__(None, None, None)
    assert called(signal) == ["one", "two"]
    assert called(signal, Other) == []
    other.__exit__(None, None, None)
    assert called(signal, Other) == ["one", "two"]


def test_it_may_be_left_elsewhere(signal: Signal) -> None:
    """Leaving in another context, as FastAPI's dependencies do, is quiet and changes nothing."""
    silent = SignalContext.disable_all()
    copy_context().run(silent.__enter__)
    silent.__exit__(None, None, None)
    assert called(signal) == ["one", "two"]
    with silent:
        copy_context().run(silent.__exit__, None, None, None)
        assert called(signal) == []


async def test_only_this_task_is_silenced(signal: Signal) -> None:
    """Other tasks and threads are not; a task started inside inherits it, and keeps it."""
    silent = SignalContext.disable_all()
    entered, checked = asyncio.Event(), asyncio.Event()

    async def quiet() -> Any:
        async with silent:
            entered.set()
            child = asyncio.create_task(asyncio.sleep(0.01, None))
            inherited = asyncio.create_task(signal.send(Model))
            await checked.wait()
            await child
            return await inherited

    async def loud() -> Any:
        async with silent:
            pass
        await entered.wait()
        return await signal.send(Model)

    tasks = asyncio.create_task(quiet()), asyncio.create_task(loud())
    await entered.wait()
    in_thread: list[Any] = []
    thread = threading.Thread(target=lambda: in_thread.extend(called(signal)))
    thread.start()
    thread.join()
    assert in_thread == ["one", "two"]
    assert len(await tasks[1]) == 2
    checked.set()
    assert await tasks[0] == []


def test_signals_and_receivers_can_be_singled_out(signal: Signal) -> None:
    """signals= and receivers= narrow what is silenced; models may be left out or named."""
    another = Signal("another")
    another.connect(one)
    with SignalContext.disable_for(Model, signals=[another]):
        assert (called(signal), called(another)) == (["one", "two"], [])
    with SignalContext.disable_for(receivers=[one]):
        assert (called(signal), called(another)) == (["two"], [])
    with SignalContext.disable_for(signals=another, receivers=two):
        assert called(another) == ["one"]
    with SignalContext.disable_for("Model", [Other]):
        assert (called(signal, Child), called(signal, Other)) == ([], [])
    with SignalContext.disable_all() as everything:
        assert called(signal, None) == []
        assert "every sender" in repr(everything)


@pytest.mark.parametrize(
    "make",
    [
        SignalContext.disable_for,
        lambda: SignalContext.disable_for(None),
        lambda: SignalContext.disable_for(Model, signals=[]),
        lambda: SignalContext.disable_for(Model, signals="post_save"),
        lambda: SignalContext.disable_for(Model, signals=[Signal("x"), Model]),
        lambda: SignalContext.disable_for(Model, receivers=[5]),
    ],
)
def test_silencing_nothing_is_a_mistake(make: Any) -> None:
    """A context that would do nothing, or more than it says, is refused."""
    with pytest.raises(InvalidOptionError):
        make()

"""Only the code that catches the error of a receiver keeps it alive."""

from __future__ import annotations

import gc
import inspect
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from aksara_signals import Signal


class Load:
    """Something large that a receiver has in hand."""


class OwnError(Exception):
    """What the receiver raises."""


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Only objects without references are collected."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("is_async", [False, True], ids=["function", "coroutine"])
@pytest.mark.parametrize("way", ["send", "send_sync"])
async def test_an_error_is_released_with_its_catcher(way: str, is_async: bool) -> None:
    """What a failed receiver had in hand needs no garbage collection to go."""
    signal, loads = Signal(), list[weakref.ref[Load]]()

    def fail() -> None:
        load = Load()
        loads.append(weakref.ref(load))
        raise OwnError

    def failing(sender: Any, **kwargs: Any) -> None:
        fail()

    async def failing_async(sender: Any, **kwargs: Any) -> None:
        fail()

    signal.connect(failing_async if is_async else failing)
    with pytest.raises(OwnError) as caught:
        sent = getattr(signal, way)(None)
        if inspect.isawaitable(sent):
            await sent
    assert loads[0]() is not None
    del caught
    assert loads[0]() is None

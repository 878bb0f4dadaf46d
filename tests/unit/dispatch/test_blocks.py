"""Context managers that are entered with ``with``, ``async with``, and as decorators."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aksara_signals import InvalidOptionError, Signal, SignalContext
from aksara_signals.dispatch.blocks import Block, block

entered: list[str] = []


@block
def noted(name: str) -> Iterator[str]:
    entered.append(name)
    try:
        yield name
    finally:
        entered.remove(name)


def receiver(**kwargs: Any) -> str:
    return "called"


async def test_both_kinds_of_block() -> None:
    """They give what is yielded, leave at the end, and can be nested and entered again."""
    once = noted("once")
    with once as name:
        async with once, noted("inside"):
            assert (name, entered) == ("once", ["once", "once", "inside"])
        assert entered == ["once"]
    assert entered == []
    async with once:
        assert entered == ["once"]
    assert "noted()" in repr(once)


async def test_what_a_block_raises_reaches_it() -> None:
    """The generator sees the error, and the caller gets it."""
    for _ in range(2):
        with pytest.raises(ValueError, match="mine"):
            async with noted("failing"):
                raise ValueError("mine")
        assert entered == []


async def test_decorated_functions_run_inside() -> None:
    """Sync and async ones, partials, objects with an async __call__, and what hides a coroutine."""

    class Callable:
        async def __call__(self, argument: int) -> Any:
            return argument, list(entered)

    def sync(argument: int) -> Any:
        return argument, list(entered)

    async def asynchronous(argument: int) -> Any:
        return argument, list(entered)

    @functools.wraps(asynchronous)
    def hidden(argument: int) -> Any:
        return asynchronous(argument)

    around = noted("inside")
    assert around(sync)(1) == (1, ["inside"])
    for function in (asynchronous, functools.partial(asynchronous), Callable(), hidden):
        assert await around(function)(2) == (2, ["inside"])  # type: ignore[type-var]
        assert entered == []
    assert around(sync).__name__ == "sync"


def test_what_cant_be_decorated_is_refused() -> None:
    """Generators, whose callers would be inside between two yields, and what can't be called."""

    def generator() -> Iterator[None]:
        yield

    async def async_generator() -> Any:
        yield

    for around in (noted("x"), SignalContext.disable_all()):
        for wrong, words in ((generator, "generator"), (async_generator, "generator"), (5, "5")):
            with pytest.raises(InvalidOptionError, match=words):
                around(wrong)  # type: ignore[type-var]


async def test_an_async_block_may_have_a_context_manager_of_its_own() -> None:
    """It is entered by ``async with`` alone, also inside itself, and sees what the block raises."""
    seen: list[Any] = []

    @asynccontextmanager
    async def awaiting() -> AsyncIterator[str]:
        seen.append("begin")
        try:
            yield "async"
        except ValueError as error:
            seen.append(error)
            raise
        seen.append("end")

    both: Block[str] = Block(lambda: noted("sync"), "both()", make_async=awaiting)
    async with both as outer, both as inner:
        assert (outer, inner, entered) == ("async", "async", [])
    assert seen == ["begin", "begin", "end", "end"]
    with both as name:
        assert (name, entered) == ("sync", ["sync"])
    with pytest.raises(ValueError, match="mine") as caught:
        async with both:
            raise ValueError("mine")
    assert seen[-1] is caught.value


def test_a_block_may_refuse_to_decorate() -> None:
    """It says why, and what to write instead."""
    given: Block[str] = Block(lambda: noted("x"), "given()", undecorated="it gives x; write y")
    with pytest.raises(
        InvalidOptionError, match=r"^given\(\) can't decorate, because it gives x; w"
    ):
        given(receiver)


async def test_connected_to_in_every_way() -> None:
    """``with``, ``async with``, and around sync and async functions."""
    signal = Signal("blocks")
    with signal.connected_to(receiver) as connected:
        assert connected is receiver
        assert len(await signal.send()) == 1
    async with signal.connected_to(receiver, sender=int, priority=1) as connected:
        assert connected is receiver
        assert (len(await signal.send(int)), len(await signal.send())) == (1, 0)

    @signal.connected_to(receiver)
    async def sends() -> Any:
        return await signal.send()

    assert await sends() == [(receiver, "called")]
    assert signal.connections == ()
    with pytest.raises(TypeError, match="not callable"):
        async with signal.connected_to(5):  # type: ignore[type-var]
            raise AssertionError("a number was connected")
    assert signal.connections == ()

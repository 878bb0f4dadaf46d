"""Receivers that return strange awaitables, in each way of sending."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Callable, Generator
from typing import Any
from unittest.mock import Mock

import pytest
from kit.misfits import WAYS, send

from aksara_signals import AsyncReceiverError, Signal
from aksara_signals.contrib.structured_logging import log_deliveries, stop_logging_deliveries

LOOPS: list[Any] = [pytest.param(None, id="asyncio")]
if sys.platform != "win32":  # uvloop doesn't exist there
    import uvloop

    LOOPS.append(pytest.param(uvloop.new_event_loop, id="uvloop"))


async def seven() -> int:
    return 7


def used_up() -> Any:
    coroutine = seven()
    with pytest.raises(StopIteration):
        coroutine.send(None)
    return coroutine


def of_another_loop() -> Any:
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    loop.close()
    return future


def finished() -> Any:
    future = asyncio.get_running_loop().create_future()
    future.set_result(7)
    return future


@types.coroutine
def generator_based() -> Generator[Any, Any, int]:
    yield from ()
    return 7


@types.coroutine
def generator_that_waits() -> Generator[Any, Any, int]:
    yield
    return 7


class GivesANumber:
    def __await__(self) -> Any:
        return 5


class Fails:
    def __await__(self) -> Any:
        raise ValueError("in __await__")


class AwaitsItself:
    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        raise StopIteration(7)


class WithoutEnd:
    """Awaits itself, and again."""

    def __await__(self) -> Any:
        return (yield from self.__await__())


class OnTheInstanceOnly:
    """Python asks the type, so that this is no awaitable."""

    def __init__(self) -> None:
        self.__await__ = lambda: iter(())


class NoMore(AwaitsItself):
    """A class that takes back what its base can, in Python's way."""

    __await__ = None


class Refuses:
    @property
    def __await__(self) -> Any:
        raise AttributeError("not this one")


async def goes_on() -> int:
    try:
        await asyncio.sleep(0)
    except GeneratorExit:
        await asyncio.sleep(0)
    return 7


async def fails_in_ending() -> int:
    try:
        await asyncio.sleep(0)
    finally:
        raise ValueError("in its end")


def started_task() -> Any:
    return asyncio.get_running_loop().create_task(seven())


async def an_async_generator() -> Any:
    yield 7


Outcome = int | type[BaseException]
"""What it becomes: the response, or what is raised."""

AWAITABLES: dict[str, tuple[Callable[[], Any], Outcome, Outcome]] = {
    # name: what returns it, outcome in an async send, outcome in a sync send
    "coroutine": (seven, 7, 7),
    "used up": (used_up, RuntimeError, RuntimeError),
    "of another loop": (of_another_loop, RuntimeError, AsyncReceiverError),
    "finished": (finished, 7, 7),
    "task": (started_task, 7, AsyncReceiverError),
    "generator based": (generator_based, 7, 7),
    "generator that waits": (generator_that_waits, 7, AsyncReceiverError),
    "gives a number": (GivesANumber, TypeError, TypeError),
    "fails": (Fails, ValueError, ValueError),
    "awaits itself": (AwaitsItself, 7, 7),
    "without end": (WithoutEnd, RecursionError, RecursionError),
    "refuses": (Refuses, AttributeError, AttributeError),
    "goes on": (goes_on, 7, AsyncReceiverError),
    "fails in ending": (fails_in_ending, ValueError, AsyncReceiverError),
}


@pytest.mark.parametrize("traced", [False, True], ids=["plain", "traced"])
@pytest.mark.parametrize("concurrent", [False, True], ids=["one by one", "concurrent"])
@pytest.mark.parametrize("way", WAYS)
async def test_whatever_is_awaitable_is_awaited(way: str, concurrent: bool, traced: bool) -> None:
    """Each strange awaitable gives its result or one error; none is left never awaited."""
    if traced:
        log_deliveries()
    try:
        for name, (make, asynchronous, synchronous) in AWAITABLES.items():
            signal = Signal(name)
            signal.connect(lambda make=make, **kwargs: make(), concurrent=concurrent)
            expected = synchronous if "sync" in way else asynchronous
            found: Any
            try:
                [(_, found)] = await send(signal, way)
                assert "robust" in way or not isinstance(found, BaseException), name
            except Exception as error:
                assert "robust" not in way, name
                found = error
            if isinstance(expected, int):
                assert found == expected, name
            else:
                assert type(found) is expected, name
            await asyncio.sleep(0)  # a task that was not awaited ends
    finally:
        stop_logging_deliveries()


@pytest.mark.parametrize("traced", [False, True], ids=["plain", "traced"])
@pytest.mark.parametrize("concurrent", [False, True], ids=["one by one", "concurrent"])
@pytest.mark.parametrize("way", WAYS)
async def test_what_is_no_awaitable_is_the_response(
    way: str, concurrent: bool, traced: bool
) -> None:
    """Generators, async ones too, and objects whose class has no __await__, or None, are responses."""
    signal = Signal("responses")
    generator = (each for each in ())
    async_generator = an_async_generator()
    returned = [generator, async_generator, OnTheInstanceOnly(), NoMore()]
    for response in returned:
        signal.connect(lambda response=response, **kwargs: response, concurrent=concurrent)
    if traced:
        log_deliveries()
    try:
        responses = await send(signal, way)
    finally:
        stop_logging_deliveries()
    assert [each for _, each in responses] == returned
    await async_generator.aclose()


async def wait_for(future: Any) -> Any:
    return await future


@types.coroutine
def waits_plainly(future: Any) -> Generator[Any, Any, Any]:
    return (yield from future)


class AwaitsAFuture:
    def __init__(self, future: Any) -> None:
        self.future = future

    def __await__(self) -> Any:
        return self.future.__await__()


@pytest.mark.parametrize("way", ["send_sync", "send_robust_sync"])
@pytest.mark.parametrize("kind", [wait_for, waits_plainly, AwaitsAFuture, lambda future: future])
@pytest.mark.parametrize("loop_factory", LOOPS)
def test_bystanders_can_await_what_a_refused_receiver_has_asked_for(
    loop_factory: Any, kind: Callable[[Any], Any], way: str
) -> None:
    """A future or task that other code awaits can still be awaited by it."""
    signal = Signal("shared")

    async def program() -> None:
        loop = asyncio.get_running_loop()
        for is_task in (False, True):
            future = loop.create_future()
            shared = loop.create_task(wait_for(future)) if is_task else future
            waits_already = loop.create_task(wait_for(shared))
            await asyncio.sleep(0)
            with signal.connected_to(lambda shared=shared, **kwargs: kind(shared)):
                try:
                    [(_, found)] = await send(signal, way)
                except AsyncReceiverError as error:
                    found = error
            assert type(found) is AsyncReceiverError
            future.set_result(7)
            assert await shared == 7
            assert await waits_already == 7

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(program())


async def test_what_is_yielded_may_be_anything() -> None:
    """Something that refuses to be asked, or is no future though it has everything, is refused."""

    class HasNothing:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("not to be asked")

    for waited_for in (HasNothing(), Mock()):

        @types.coroutine
        def wait(waited_for: Any = waited_for, **kwargs: Any) -> Generator[Any, Any, None]:
            yield waited_for

        signal = Signal("anything")
        signal.connect(lambda wait=wait, **kwargs: wait())
        with pytest.raises(AsyncReceiverError):
            signal.send_sync(None)


async def test_an_error_in_ending_is_the_cause() -> None:
    """What a coroutine raises when it is closed stands behind the error of who sent."""
    signal = Signal("causes")
    signal.connect(lambda **kwargs: fails_in_ending())
    with pytest.raises(AsyncReceiverError) as caught:
        signal.send_sync(None)
    assert repr(caught.value.__cause__) == "ValueError('in its end')"


async def test_a_send_may_be_closed_in_another_context() -> None:
    """A send that is dropped while a receiver waits, as when a loop is closed, ends in silence."""
    import contextvars

    signal = Signal("dropped")

    @signal.connect
    @types.coroutine
    def wait(**kwargs: Any) -> Any:
        yield

    sending = signal.send(None)
    contextvars.copy_context().run(sending.send, None)
    sending.close()

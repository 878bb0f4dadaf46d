"""Generator functions as receivers: calling one runs nothing, so they are refused."""

from __future__ import annotations

import functools
import types
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kit.misfits import WAYS, Account, send
from sqlalchemy.orm import Session

from aksara_signals import InvalidReceiverError, Signal, post_save
from aksara_signals.orm import on_commit, on_rollback


def generates(*args: Any, **kwargs: Any) -> Iterator[int]:
    yield 7


async def generates_async(*args: Any, **kwargs: Any) -> AsyncIterator[int]:
    yield 7


class Methods:
    def method(self, **kwargs: Any) -> Iterator[int]:
        yield 7

    async def async_method(self, **kwargs: Any) -> AsyncIterator[int]:
        yield 7

    @classmethod
    def of_the_class(cls, **kwargs: Any) -> Iterator[int]:
        yield 7

    @staticmethod
    def static(**kwargs: Any) -> Iterator[int]:
        yield 7


class Called:
    def __call__(self, **kwargs: Any) -> Iterator[int]:
        yield 7


class CalledAsync:
    async def __call__(self, **kwargs: Any) -> AsyncIterator[int]:
        yield 7


class CalledStatically:
    @staticmethod
    def __call__(**kwargs: Any) -> Iterator[int]:
        yield 7


class MethodOfACallable:
    """What is bound is no function, but an object that has one."""

    method = types.MethodType(functools.partial(generates), object())


def with_attributes(**kwargs: Any) -> Iterator[int]:
    yield 7


with_attributes.note = "inspect reads attributes"

REFUSED: dict[str, Callable[..., Any]] = {
    "function": generates,
    "async function": generates_async,
    "with attributes": with_attributes,
    "lambda": lambda **kwargs: (yield 7),
    "partial": functools.partial(generates, 1),
    "partial of a partial": functools.partial(functools.partial(generates_async), key=1),
    "method": Methods().method,
    "async method": Methods().async_method,
    "class method": Methods.of_the_class,
    "static method": Methods.static,
    "partial of a method": functools.partial(Methods().method, key=1),
    "method of a partial": MethodOfACallable.method,
    "object": Called(),
    "async object": CalledAsync(),
    "object with a static call": CalledStatically(),
    "method of an object": types.MethodType(Called(), 1),
    "partial of an object": functools.partial(Called()),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_generator_function_is_refused(name: str) -> None:
    """However it is wrapped; the message says what, where and the way out."""
    signal = Signal("refusing")
    kind = "an async generator" if "async" in name or name.endswith("a partial") else "a generator"
    kind = "a generator" if name == "method of a partial" else kind
    with pytest.raises(InvalidReceiverError) as caught:
        signal.connect(REFUSED[name])
    message = str(caught.value)
    assert f"is {kind} function, whose body would never run; return what it yields" in message
    assert " of signal refusing " in message
    if name in ("function", "async function", "lambda"):
        assert "test_generators.py:" in message
    assert not signal.is_connected


def test_a_model_signal_refuses_it_too() -> None:
    """A declared payload, and every way to connect, make no difference."""
    for connect in (
        lambda: post_save.connect(generates, sender=Account),
        lambda: post_save(Account)(generates),
        lambda: post_save(generates_async),
        lambda: Account.signals.post_save.connect(Methods().method),
        lambda: post_save.connected_to(generates).__enter__(),
        lambda: post_save.connect(generates, sender=Account, phase="after_commit"),
    ):
        with pytest.raises(InvalidReceiverError, match="generator function"):
            connect()
    assert not post_save.connections_for(Account)


@pytest.mark.parametrize("register", [on_commit, on_rollback])
@pytest.mark.parametrize("name", REFUSED)
def test_a_callback_is_no_generator_function(register: Any, name: str) -> None:
    """What is called after the outcome would not run either."""
    with Session() as session:
        expected = rf"{register.__name__}\(\) was given .* generator function, whose body would ne"
        with pytest.raises(InvalidReceiverError, match=expected):
            register(session, REFUSED[name])


@types.coroutine
def awaitable(**kwargs: Any) -> Any:
    yield from ()
    return 7


@contextmanager
def managed(**kwargs: Any) -> Iterator[int]:
    yield 7


@functools.wraps(generates)
def runs_it(*args: Any, **kwargs: Any) -> list[int]:
    return list(generates(*args, **kwargs))


class Made:
    """Calling the class makes an instance, whatever calling that would do."""

    def __init__(self, **kwargs: Any) -> None:
        self.is_made = True

    def __call__(self, **kwargs: Any) -> Iterator[int]:
        yield 7


class CallsItself:
    """Can't be called to any end, and can be looked at."""


CallsItself.__call__ = CallsItself()


@pytest.mark.parametrize("way", WAYS)
async def test_what_runs_is_no_generator_function(way: str) -> None:
    """Made awaitable by types.coroutine, wrapped by a function, or a class: these are called."""
    signal = Signal("accepting")
    for receiver in (awaitable, functools.partial(awaitable), managed, runs_it, Made):
        signal.connect(receiver)
    first, second, block, listed, made = (each for _, each in await send(signal, way))
    assert (first, second, listed, made.is_made) == (7, 7, [7], True)
    with block as number:
        assert number == 7


def test_one_that_calls_itself_is_looked_at_to_an_end() -> None:
    """An object whose __call__ is an object of its own class is refused for its signature."""
    with pytest.raises(InvalidReceiverError):
        Signal().connect(CallsItself())

"""What a receiver can be called with: read from functions, methods, objects, classes, partials."""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any

import pytest

from aksara_signals import InvalidReceiverError, Signal
from aksara_signals.dispatch.receivers.signature import (
    Parameter,
    is_async_receiver,
    parameters_of,
    problem_of_generators,
    problem_without_arguments,
)


def by_every_kind(
    a: Any, /, b: Any, c: Any = 1, *rest: Any, d: Any, e: Any = 2, **more: Any
) -> None:
    """A parameter of each kind."""


EVERY_KIND = [
    Parameter("a", True, False, False),
    Parameter("b", False, False, False),
    Parameter("c", False, False, True),
    Parameter("d", False, True, False),
    Parameter("e", False, True, True),
]


class Methods:
    """Things that can be called."""

    def method(self, a: Any, b: Any = 1, **more: Any) -> None:
        """Bound."""

    async def waits(self, **more: Any) -> None:
        """Bound and async."""

    def yields(self, **more: Any) -> Any:
        yield 1

    @staticmethod
    def static(a: Any, b: Any = 1, **more: Any) -> None:
        """Not bound."""

    @classmethod
    def of_class(cls, a: Any, b: Any = 1, **more: Any) -> None:
        """Bound to the class."""

    def __call__(self, a: Any, b: Any = 1, **more: Any) -> None:
        """Of the object."""


class WaitsWhenCalled:
    """An object with an async ``__call__``."""

    async def __call__(self, **more: Any) -> None:
        """Async."""


class YieldsWhenCalled:
    """An object whose ``__call__`` is a generator function."""

    def __call__(self, **more: Any) -> Any:
        yield 1


def wrapped(**more: Any) -> None:
    """Says by an attribute that it is another function."""


wrapped.__wrapped__ = by_every_kind  # type: ignore[attr-defined]


def test_a_function_is_read_as_inspect_reads_it() -> None:
    """Directly from its code, or by ``inspect`` where attributes say otherwise."""
    assert parameters_of(by_every_kind) == (EVERY_KIND, True)
    assert parameters_of(wrapped) == (EVERY_KIND, True)
    assert parameters_of(lambda a, b=1: None) == (
        [Parameter("a", False, False, False), Parameter("b", False, False, True)],
        False,
    )
    assert parameters_of(lambda *rest: None) == ([], False)


@pytest.mark.parametrize(
    "receiver",
    [
        Methods().method,
        Methods.static,
        Methods.of_class,
        Methods(),
        functools.partial(lambda given, a, b=1, **more: None, 7),
    ],
    ids=["method", "static", "of_class", "object", "partial"],
)
def test_other_receivers_are_read(receiver: Any) -> None:
    """Without ``self`` and what a partial has filled."""
    expected = [Parameter("a", False, False, False), Parameter("b", False, False, True)]
    assert parameters_of(receiver) == (expected, True)


def test_a_class_is_read_by_its_construction() -> None:
    """Calling it makes an instance."""

    class Receiver:
        def __init__(self, a: Any, **more: Any) -> None:
            """Receives."""

        async def __call__(self) -> None:
            """Not what is called."""

    assert parameters_of(Receiver) == ([Parameter("a", False, False, False)], True)
    assert not is_async_receiver(Receiver)


@pytest.mark.parametrize(
    ("receiver", "expected"),
    [
        (by_every_kind, False),
        (wrapped, False),
        (Methods().waits, True),
        (Methods().method, False),
        (WaitsWhenCalled(), True),
        (Methods(), False),
        (functools.partial(Methods().waits), True),
        (functools.partial(functools.partial(WaitsWhenCalled())), True),
        (functools.partial(by_every_kind), False),
    ],
)
def test_who_is_async(receiver: Any, expected: bool) -> None:
    """Whatever surely gives a coroutine."""
    assert is_async_receiver(receiver) is expected


async def waits(**more: Any) -> None:
    """Async."""


async def test_an_async_function_with_attributes_is_async() -> None:
    """Attributes that say nothing else change nothing."""

    async def marked(**more: Any) -> None:
        """Has an attribute."""

    marked.mark = 1  # type: ignore[attr-defined]
    assert is_async_receiver(marked)
    assert is_async_receiver(waits)


def test_a_marked_function_is_async() -> None:
    """Python knows marks from 3.12 on."""

    def marked(**more: Any) -> Any:
        return waits(**more)

    mark = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:
        mark(marked)
    assert is_async_receiver(marked) is (mark is not None)


def yields(**more: Any) -> Any:
    yield 1


async def yields_and_waits(**more: Any) -> Any:
    yield 1


@types.coroutine
def awaitable(**more: Any) -> Any:
    yield


@pytest.mark.parametrize(
    ("receiver", "kind"),
    [
        (yields, "a generator"),
        (yields_and_waits, "an async generator"),
        (Methods().yields, "a generator"),
        (YieldsWhenCalled(), "a generator"),
        (YieldsWhenCalled().__call__, "a generator"),
        (functools.partial(yields), "a generator"),
        (functools.partial(functools.partial(Methods().yields), x=1), "a generator"),
        (functools.partial(YieldsWhenCalled()), "a generator"),
    ],
)
def test_generator_functions_are_no_receivers(receiver: Any, kind: str) -> None:
    """However they are wrapped: calling one runs none of its body."""
    assert f"is {kind} function" in str(problem_of_generators(receiver))
    with pytest.raises(InvalidReceiverError, match=f"is {kind} function"):
        Signal().connect(receiver)


@pytest.mark.parametrize(
    "receiver",
    [
        by_every_kind,
        waits,
        awaitable,
        Methods().method,
        Methods(),
        Methods,
        YieldsWhenCalled,
        print,
    ],
)
def test_what_is_no_generator_function(receiver: Any) -> None:
    """Nothing is wrong with it, nor with a class whose objects would be one."""
    assert problem_of_generators(receiver) is None


def test_what_can_be_called_without_arguments() -> None:
    """The first parameter that nothing fills is named."""
    assert problem_without_arguments(lambda a=1, *b, c=2, **d: None) is None
    assert problem_without_arguments(functools.partial(lambda a: None, 1)) is None
    assert problem_without_arguments(type) is None  # has no signature to check
    assert "has a parameter b that" in str(problem_without_arguments(lambda a=1, *, b: None))
    assert "has a parameter a that" in str(problem_without_arguments(lambda a, b: None))

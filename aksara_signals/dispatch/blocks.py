"""Context managers for every kind of block: ``with``, ``async with``, and as a decorator."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import CoroutineType, TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

from aksara_signals.dispatch.receivers.identity import is_class
from aksara_signals.dispatch.receivers.naming import describe_receiver, describe_sender
from aksara_signals.dispatch.receivers.signature import is_async_receiver, problem_of_generators
from aksara_signals.exceptions import InvalidOptionError

CallableT = TypeVar("CallableT", bound=Callable[..., Any])
P = ParamSpec("P")
ValueT = TypeVar("ValueT")


class Block(Generic[ValueT]):
    """What happens around a ``with`` or an ``async with`` block, or around a decorated function.

    It may be entered again, also inside itself.

    Args:
        make: Gives the context manager for one block.
        name: What was called, for messages.
    """

    __slots__ = ("_entered", "_make", "_name")

    def __init__(self, make: Callable[[], AbstractContextManager[ValueT]], name: str) -> None:
        self._make = make
        self._name = name
        self._entered: list[AbstractContextManager[ValueT]] = []

    def __enter__(self) -> ValueT:
        around = self._make()
        value = around.__enter__()
        self._entered.append(around)
        return value

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._entered.pop().__exit__(exc_type, exc, traceback)

    async def __aenter__(self) -> ValueT:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self.__exit__(exc_type, exc, traceback)

    def __call__(self, function: CallableT) -> CallableT:
        """Decorate a function, sync or async.

        Raises:
            InvalidOptionError: It is a generator function, or can't be called.
        """
        return decorated(function, self._make, self._name)

    def __repr__(self) -> str:
        return f"<{self._name} block>"


def block(function: Callable[P, Iterator[ValueT]]) -> Callable[P, Block[ValueT]]:
    """As :func:`contextlib.contextmanager`, for ``async with`` and async functions as well."""
    manager = contextmanager(function)

    @functools.wraps(function)
    def made(*args: P.args, **kwargs: P.kwargs) -> Block[ValueT]:
        return Block(functools.partial(manager, *args, **kwargs), f"{function.__name__}()")

    return made


def decorated(
    function: CallableT, make: Callable[[], AbstractContextManager[Any]], name: str
) -> CallableT:
    """The function, sync or async, inside a context manager of its own for each call.

    Args:
        function: What is decorated.
        make: Gives the context manager.
        name: What decorates, for messages.

    Raises:
        InvalidOptionError: The function is a generator: what it does between two ``yield`` would
            leak to whoever iterates. Or it is a class, or can't be called.
    """
    if not callable(function):
        raise InvalidOptionError(
            f"{name} can't decorate {describe_sender(function)}, which is no function; decorate a "
            f"function, or write 'with' or 'async with'"
        )
    if is_class(function):  # which would be a function from here on, and no test class any more
        raise InvalidOptionError(
            f"{name} can't decorate the class {describe_sender(function)}; decorate its methods"
        )
    if problem_of_generators(function):
        raise InvalidOptionError(
            f"{name} can't decorate the generator {describe_receiver(function)}; write 'with' "
            f"inside it"
        )
    if is_async_receiver(function):

        @functools.wraps(function)
        async def inside_async(*args: Any, **kwargs: Any) -> Any:
            with make():
                return await function(*args, **kwargs)

        return inside_async  # type: ignore[return-value]  # wraps() keeps the signature

    @functools.wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with make():
            response = function(*args, **kwargs)
        # An async function behind a decorator that is none: its body hasn't run yet.
        return _awaited(response, make) if type(response) is CoroutineType else response

    return inside  # type: ignore[return-value]  # wraps() keeps the signature


async def _awaited(coroutine: Any, make: Callable[[], AbstractContextManager[Any]]) -> Any:
    with make():
        return await coroutine

"""Context managers for ``with`` and ``async with`` blocks, and as decorators."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from types import CoroutineType, TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

from aksara_signals.dispatch.receivers.identity import is_class
from aksara_signals.dispatch.receivers.naming import describe_receiver, describe_sender
from aksara_signals.dispatch.receivers.signature import is_async_receiver, problem_of_generators
from aksara_signals.exceptions import InvalidOptionError

CallableT = TypeVar("CallableT", bound=Callable[..., Any])
P = ParamSpec("P")
ValueT = TypeVar("ValueT")


class EveryBlock(ABC, Generic[ValueT]):
    """A context manager that is also an async one and a decorator.

    A subclass defines ``_name``, ``__enter__`` and ``__exit__``; the other ways follow from them.
    """

    __slots__ = ()

    _name: str
    """How messages refer to it."""

    @abstractmethod
    def __enter__(self) -> ValueT: ...

    @abstractmethod
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> bool | None: ...

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
        """Decorate a function, sync or async: each call of it runs inside the block.

        Raises:
            InvalidOptionError: This block can't decorate at all, or ``function`` is a generator
                function, a class, or not callable.
        """
        return decorated(function, self._block_of_call, self._name)

    def _block_of_call(self) -> AbstractContextManager[Any]:
        """The context manager for one call of a decorated function."""
        return self


class Block(EveryBlock[ValueT]):
    """A block made from a context manager, such as a generator function decorated by :func:`block`.

    It may be entered again, also inside itself, but not by several tasks at once: an exit always
    ends the block that was entered last. Calls of a decorated function are independent of one
    another, because each one gets a context manager of its own.

    Args:
        make: Returns the context manager for one block or one decorated call.
        name: What the user has called, for messages.
        make_async: Returns the context manager for one ``async with`` block; by default, ``make``
            is used there as well.
        undecorated: Why it can't decorate and what to write instead, for a message that begins
            with "can't decorate, because"; None if it can.
    """

    __slots__ = ("_entered", "_entered_async", "_make", "_make_async", "_name", "_undecorated")

    def __init__(
        self,
        make: Callable[[], AbstractContextManager[ValueT]],
        name: str,
        *,
        make_async: Callable[[], AbstractAsyncContextManager[ValueT]] | None = None,
        undecorated: str | None = None,
    ) -> None:
        self._make = make
        self._make_async = make_async
        self._name = name
        self._undecorated = undecorated
        self._entered: list[AbstractContextManager[ValueT]] = []
        self._entered_async: list[AbstractAsyncContextManager[ValueT]] = []

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
        if self._make_async is None:
            return self.__enter__()
        around = self._make_async()
        value = await around.__aenter__()
        self._entered_async.append(around)
        return value

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        # Not by super(): a warning at the end of a block has as many frames to skip in each kind.
        if self._make_async is None:
            return self._entered.pop().__exit__(exc_type, exc, traceback)
        return await self._entered_async.pop().__aexit__(exc_type, exc, traceback)

    def __call__(self, function: CallableT) -> CallableT:
        """As :meth:`EveryBlock.__call__`, unless ``undecorated`` says why this block can't."""
        if self._undecorated is not None:
            raise InvalidOptionError(f"{self._name} can't decorate, because {self._undecorated}")
        return super().__call__(function)

    def _block_of_call(self) -> AbstractContextManager[ValueT]:
        return self._make()

    def __repr__(self) -> str:
        return f"<{self._name} block>"


def block(function: Callable[P, Iterator[ValueT]]) -> Callable[P, Block[ValueT]]:
    """Like :func:`contextlib.contextmanager`, for ``async with`` and async functions as well."""
    manager = contextmanager(function)

    @functools.wraps(function)
    def made(*args: P.args, **kwargs: P.kwargs) -> Block[ValueT]:
        return Block(functools.partial(manager, *args, **kwargs), f"{function.__name__}()")

    return made


def decorated(
    function: CallableT, make: Callable[[], AbstractContextManager[Any]], name: str
) -> CallableT:
    """Wrap a function, sync or async, so that each call runs inside a context manager.

    Args:
        function: The decorated function.
        make: Returns the context manager for one call.
        name: What decorates it, for messages.

    Raises:
        InvalidOptionError: It is a generator function: while it is suspended at a ``yield``, its
            caller would run inside the context manager. Or it is a class, or is not callable.
    """
    if not callable(function):
        raise InvalidOptionError(
            f"{name} can't decorate {describe_sender(function)}, which is not a function; decorate "
            f"a function, or write 'with' or 'async with'"
        )
    if is_class(function):  # a decorated test class would become a function, and not be collected
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
        # A plain function may wrap an async one. Then what it returns is a coroutine, whose body
        # hasn't run yet.
        return _awaited_inside(response, make) if type(response) is CoroutineType else response

    return inside  # type: ignore[return-value]  # wraps() keeps the signature


async def _awaited_inside(coroutine: Any, make: Callable[[], AbstractContextManager[Any]]) -> Any:
    with make():
        return await coroutine

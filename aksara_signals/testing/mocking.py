"""One receiver, replaced by a mock wherever it is connected."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar
from unittest.mock import AsyncMock, Mock, NonCallableMock

from aksara_signals import all_signals
from aksara_signals.dispatch.connections.connection import Connection, connection_observers
from aksara_signals.dispatch.receivers.identity import same_receiver, type_name
from aksara_signals.dispatch.receivers.naming import describe_receiver
from aksara_signals.dispatch.receivers.patching import mocks
from aksara_signals.dispatch.receivers.signature import is_async_receiver
from aksara_signals.exceptions import (
    AksaraSignalsWarning,
    InvalidOptionError,
    InvalidReceiverError,
)
from aksara_signals.testing.circumstances import Circumstances
from aksara_signals.types import Receiver

__all__ = ["mock_receiver"]

CallableT = TypeVar("CallableT", bound=Callable[..., Any])


class _ReceiverMock:
    """A mock that refuses what its receiver couldn't be called with, and says why it wasn't."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        place: _Place | None = vars(self).get("_aksara_place")  # a child mock has none
        if place is not None:
            place.signature.bind(*args, **kwargs)
        return super().__call__(*args, **kwargs)  # type: ignore[misc]  # that of the mock


class _SyncReceiverMock(_ReceiverMock, Mock):
    """For a synchronous receiver."""


class _AsyncReceiverMock(_ReceiverMock, AsyncMock):
    """For an async one."""


def _explained(assertion: Callable[..., None]) -> Callable[..., None]:
    """An assertion of a mock whose failure also says what kept the receiver from being called."""

    @functools.wraps(assertion)
    def explained(self: Any, /, *args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        try:
            assertion(self, *args, **kwargs)
        except AssertionError as error:
            place: _Place | None = vars(self).get("_aksara_place")
            explanations = place.explain() if place is not None else []
            message = str(error)
            # One assertion may call another one.
            new = [each for each in explanations if each not in message]
            error.args = ("\n  ".join((message, *new)),)
            raise

    return explained


for _kind in (_SyncReceiverMock, _AsyncReceiverMock):
    for _name in dir(_kind):
        if _name.startswith("assert_"):
            setattr(_kind, _name, _explained(getattr(_kind, _name)))


class _Place:
    """The place of one receiver while a mock has it."""

    def __init__(self, receiver: Receiver, signature: inspect.Signature, double: Any) -> None:
        self.signature = signature
        self._entry = receiver, double
        self._receiver = receiver
        self._was_connected = False
        self._circumstances = Circumstances(self._is_it, self._is_it)

    def take(self) -> None:
        """The block begins."""
        mocks.append(self._entry)
        self._was_connected = any(
            self._is_it(receiver)
            for signal in all_signals()
            for connection in signal.connections
            if (receiver := connection.receiver) is not None
        )
        connection_observers.append(self._note_connection)
        self._circumstances.begin()

    def leave(self) -> None:
        """The block ends."""
        self._circumstances.end()
        connection_observers.remove(self._note_connection)
        mocks[:] = [each for each in mocks if each is not self._entry]

    def problem(self) -> str | None:
        """Why the mock could never be called, if that is so."""
        if self._was_connected:
            return None
        return (
            f"{describe_receiver(self._receiver)} was replaced by a mock, and is connected to no "
            f"signal; give mock_receiver() the very function that was connected"
        )

    def explain(self) -> list[str]:
        """What a failing assertion adds to its message."""
        problem = self.problem()
        return [*([] if problem is None else [problem]), *self._circumstances.explain()]

    def _is_it(self, receiver: Receiver) -> bool:
        return same_receiver(receiver, self._receiver)

    def _note_connection(self, connection: Connection) -> None:
        receiver = connection.receiver
        if receiver is not None and self._is_it(receiver):
            self._was_connected = True


class mock_receiver:  # noqa: N801 - used like a function, as contextlib's are
    """Replace a receiver by a mock of its signature: with ``with``, ``async with``, or decorating.

    Connections stay as they are, and look-ups show the receiver itself: its place is taken only
    when it would be called, by whichever signal, connected before or inside of the block. Unlike
    ``unittest.mock.patch`` it needs no dotted path, and works for methods, closures and lambdas.

    A block yields an ``AsyncMock`` for an async receiver, else a ``Mock``, with the receiver as its
    ``spec``. Called with what the receiver couldn't take, it raises ``TypeError``. An assertion
    that fails says so if signals were silenced, or deliveries to the receiver wait for a commit.
    A receiver that was connected nowhere, before or inside of the block, is warned of at its end.

    Args:
        receiver: What was connected.
        options: Those of a mock, such as ``return_value=`` or ``side_effect=``.

    Raises:
        InvalidReceiverError: It can't be called, or has no signature.
        InvalidOptionError: A ``spec`` is given.
    """

    def __init__(self, receiver: Receiver, **options: Any) -> None:
        if issubclass(type(receiver), NonCallableMock):
            raise InvalidReceiverError(
                "mock_receiver() was given a mock, which needs none in its place; look at its own "
                "calls"
            )
        if not callable(receiver):
            raise InvalidReceiverError(
                f"mock_receiver() was given {type_name(receiver)!r}, which can't be called; "
                f"give the receiver that was connected"
            )
        for option in ("spec", "spec_set"):
            if option in options:
                raise InvalidOptionError(
                    f"mock_receiver() was given {option}=; it is the receiver itself: leave it out"
                )
        try:
            self._signature = inspect.signature(receiver)
        except Exception as error:
            raise InvalidReceiverError(
                f"mock_receiver() was given {describe_receiver(receiver)}, which has no signature "
                f"that can be read; give the receiver that was connected"
            ) from error
        self._receiver = receiver
        self._options = options
        self._places: list[_Place] = []

    def __enter__(self) -> Any:
        kind = _AsyncReceiverMock if is_async_receiver(self._receiver) else _SyncReceiverMock
        double = kind(spec=self._receiver, **self._options)
        place = _Place(self._receiver, self._signature, double)
        double.__dict__["_aksara_place"] = place
        place.take()
        self._places.append(place)
        return double

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(exc)

    async def __aenter__(self) -> Any:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(exc)

    def _leave(self, exc: BaseException | None) -> None:
        place = self._places.pop()
        place.leave()
        problem = place.problem()
        # Where warnings are errors, one would take the place of what the block has raised.
        if problem is not None and exc is None:
            warnings.warn(problem, AksaraSignalsWarning, stacklevel=3)

    def __call__(self, function: CallableT) -> CallableT:
        """Decorate a function, sync or async, so that the mock stands there while it runs.

        Raises:
            InvalidOptionError: The function is a generator: what it does between two ``yield``
                would see the mock or not, as it is iterated.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InvalidOptionError(
                f"mock_receiver can't decorate the generator {describe_receiver(function)}; use "
                f"'with mock_receiver(…):' inside it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def mocked_async(*args: Any, **kwargs: Any) -> Any:
                with mock_receiver(self._receiver, **self._options):
                    return await function(*args, **kwargs)

            return mocked_async  # type: ignore[return-value]  # wraps() keeps the signature

        @functools.wraps(function)
        def mocked(*args: Any, **kwargs: Any) -> Any:
            with mock_receiver(self._receiver, **self._options):
                return function(*args, **kwargs)

        return mocked  # type: ignore[return-value]  # wraps() keeps the signature

"""One receiver, replaced by a mock wherever it is connected."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import AsyncMock, Mock, NonCallableMock

from aksara_signals import all_signals
from aksara_signals.dispatch.blocks import Block
from aksara_signals.dispatch.connections.connection import Connection, connection_observers
from aksara_signals.dispatch.connections.durable import durable_connections
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


class _ReceiverMock:
    """A mock that can only be called as its receiver can, and explains why it wasn't called."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        # Children of the mock, such as its attributes, have no replacement.
        replacement: _Replacement | None = vars(self).get("_aksara_replacement")
        if replacement is not None:
            replacement.signature.bind(*args, **kwargs)
        return super().__call__(*args, **kwargs)  # type: ignore[misc]  # that of the mock


class _SyncReceiverMock(_ReceiverMock, Mock):
    """Replaces a synchronous receiver."""


class _AsyncReceiverMock(_ReceiverMock, AsyncMock):
    """Replaces an async receiver."""


def _explained(assertion: Callable[..., None]) -> Callable[..., None]:
    """Wrap an assertion: its failure also says what kept the receiver from being called."""

    @functools.wraps(assertion)
    def explained(self: Any, /, *args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        try:
            assertion(self, *args, **kwargs)
        except AssertionError as error:
            replacement: _Replacement | None = vars(self).get("_aksara_replacement")
            explanations = replacement.explain() if replacement is not None else []
            message = str(error)
            # An assertion that calls another one gets a message that is explained already.
            new = [each for each in explanations if each not in message]
            error.args = ("\n  ".join((message, *new)),)
            raise

    return explained


for _kind in (_SyncReceiverMock, _AsyncReceiverMock):
    for _name in dir(_kind):
        if _name.startswith("assert_"):
            setattr(_kind, _name, _explained(getattr(_kind, _name)))


class _Replacement:
    """One receiver that is replaced by a mock, for as long as the block lasts."""

    def __init__(self, receiver: Receiver, signature: inspect.Signature, mock: Any) -> None:
        self.signature = signature
        self._entry = receiver, mock
        self._receiver = receiver
        self._was_connected = False
        self._circumstances = Circumstances(self._is_it, self._is_it)

    def begin(self) -> None:
        """Let signals call the mock, at the beginning of the block."""
        mocks.append(self._entry)
        self._was_connected = any(
            self._is_it(receiver)
            for signal in all_signals()
            for connection in signal.connections
            if (receiver := connection.receiver) is not None
        )
        connection_observers.append(self._note_connection)
        self._circumstances.begin()

    def end(self) -> None:
        """Let signals call the receiver again, at the end of the block."""
        self._circumstances.end()
        connection_observers.remove(self._note_connection)
        mocks[:] = [each for each in mocks if each is not self._entry]

    def problem(self) -> str | None:
        """Why the mock could never be called; None if it could."""
        if self._was_connected:
            return None
        return (
            f"{describe_receiver(self._receiver)} was replaced by a mock, but is not connected "
            f"to any signal; give mock_receiver() the very function that was connected"
        )

    def explain(self) -> list[str]:
        """What a failing assertion adds to its message."""
        problem = self.problem()
        durable = [
            connection.durable_name
            for _, connection in durable_connections()
            if (receiver := connection.receiver) is not None and self._is_it(receiver)
        ]
        if problem is None and durable:
            problem = (
                f"durable receiver {durable[0]!r} is called by workers: in a test, call it by "
                f"'await drain_outbox(session)'"
            )
        return [*([] if problem is None else [problem]), *self._circumstances.explain()]

    def _is_it(self, receiver: Receiver) -> bool:
        return same_receiver(receiver, self._receiver)

    def _note_connection(self, connection: Connection) -> None:
        receiver = connection.receiver
        if receiver is not None and self._is_it(receiver):
            self._was_connected = True


def mock_receiver(receiver: Receiver, **options: Any) -> Block[Any]:
    """Replace a receiver by a mock of its signature, in a block or while a function runs.

    For ``with`` and ``async with``, and as a decorator of functions, sync or async.

    Connections stay as they are, and look-ups show the receiver itself: the mock is called where
    the receiver would be, by any signal, connected before or inside the block. Unlike
    ``unittest.mock.patch`` it needs no dotted path, and works for methods, closures and lambdas.

    A block yields an ``AsyncMock`` for an async receiver, else a ``Mock``, with the receiver as its
    ``spec``. Called with what the receiver couldn't take, it raises ``TypeError``. An assertion
    that fails says so if signals were silenced, or if deliveries to the receiver are queued for a
    commit. If the receiver was connected nowhere, before or inside the block, a warning says so at
    the end.

    Args:
        receiver: The receiver as it was connected.
        options: Options of the mock, such as ``return_value=`` or ``side_effect=``.

    Raises:
        InvalidReceiverError: It can't be called, or has no signature.
        InvalidOptionError: A ``spec`` is given.
    """
    if issubclass(type(receiver), NonCallableMock):
        raise InvalidReceiverError(
            "mock_receiver() was given a mock, which records its calls itself; use its assertions"
        )
    if not callable(receiver):
        raise InvalidReceiverError(
            f"mock_receiver() was given {type_name(receiver)!r}, which can't be called; "
            f"give the receiver that was connected"
        )
    for option in ("spec", "spec_set"):
        if option in options:
            raise InvalidOptionError(
                f"mock_receiver() was given {option}=, which is always the receiver; leave it out"
            )
    try:
        signature = inspect.signature(receiver)
    except Exception as error:
        raise InvalidReceiverError(
            f"mock_receiver() was given {describe_receiver(receiver)}, which has no signature "
            f"that can be read; give the receiver that was connected"
        ) from error
    return Block(functools.partial(_mocked, receiver, signature, options), "mock_receiver()")


@contextmanager
def _mocked(
    receiver: Receiver, signature: inspect.Signature, options: dict[str, Any]
) -> Iterator[Any]:
    kind = _AsyncReceiverMock if is_async_receiver(receiver) else _SyncReceiverMock
    mock = kind(spec=receiver, **options)
    replacement = _Replacement(receiver, signature, mock)
    mock.__dict__["_aksara_replacement"] = replacement
    replacement.begin()
    try:
        yield mock
    finally:
        replacement.end()
    # Only if the block has raised nothing: where warnings are errors, this one would replace it.
    if (problem := replacement.problem()) is not None:
        warnings.warn(problem, AksaraSignalsWarning, stacklevel=4)  # past contextlib and Block

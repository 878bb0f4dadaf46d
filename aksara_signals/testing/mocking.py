"""One receiver, replaced by a mock wherever it is connected."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import Signature, signature
from typing import Any
from unittest.mock import AsyncMock, Mock

from aksara_signals.dispatch.blocks import block
from aksara_signals.dispatch.identity import type_name
from aksara_signals.dispatch.parameters import is_async_receiver
from aksara_signals.dispatch.patching import doubles
from aksara_signals.exceptions import InvalidReceiverError
from aksara_signals.types import Receiver

__all__ = ["mock_receiver"]


class _Signed:
    """A mock that refuses what its receiver couldn't be called with."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        known: Signature | None = vars(self).get("_receiver_signature")  # a child mock has none
        if known is not None:
            known.bind(*args, **kwargs)
        return super().__call__(*args, **kwargs)  # type: ignore[misc]  # that of the mock


class _SignedMock(_Signed, Mock):
    """For a synchronous receiver."""


class _SignedAsyncMock(_Signed, AsyncMock):
    """For an async one."""


@block
def mock_receiver(receiver: Receiver, **options: Any) -> Iterator[Any]:
    """Replace a receiver by a mock of its signature inside a ``with`` block, or as a decorator.

    Connections stay as they are, and look-ups show the receiver itself: its place is taken only
    when it would be called, by whichever signal, connected before or inside of the block. Unlike
    ``unittest.mock.patch`` it needs no dotted path, and works for methods, closures and lambdas.

    Args:
        receiver: What was connected.
        options: Those of a mock, such as ``return_value=`` or ``side_effect=``.

    Yields:
        An ``AsyncMock`` for an async receiver, else a ``Mock``, with the receiver as its ``spec``.
        Called with what the receiver couldn't take, it raises ``TypeError``.

    Raises:
        InvalidReceiverError: It can't be called.
    """
    if not callable(receiver):
        raise InvalidReceiverError(
            f"mock_receiver() was given {type_name(receiver)!r}, which can't be called; "
            f"give the receiver that was connected"
        )
    kind = _SignedAsyncMock if is_async_receiver(receiver) else _SignedMock
    double = kind(spec=receiver, **options)
    double.__dict__["_receiver_signature"] = signature(receiver)
    entry = receiver, double
    doubles.append(entry)
    try:
        yield double
    finally:
        doubles[:] = [each for each in doubles if each is not entry]

"""One receiver, replaced by a mock wherever it is connected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import create_autospec

from aksara_signals.dispatch.patching import doubles
from aksara_signals.exceptions import InvalidReceiverError
from aksara_signals.types import Receiver

__all__ = ["mock_receiver"]


@contextmanager
def mock_receiver(receiver: Receiver, **options: Any) -> Iterator[Any]:
    """Replace a receiver by a mock of its signature inside a ``with`` block, or as a decorator.

    Connections stay as they are, and look-ups show the receiver itself: its place is taken only
    when it would be called, by whichever signal, connected before or inside of the block. Unlike
    ``unittest.mock.patch`` it needs no dotted path, and works for methods, closures and lambdas.

    Args:
        receiver: What was connected.
        options: Those of a mock, such as ``return_value=`` or ``side_effect=``.

    Yields:
        An ``AsyncMock`` of an async receiver, else a ``Mock``, as ``create_autospec`` makes them.

    Raises:
        InvalidReceiverError: It can't be called.
    """
    if not callable(receiver):
        raise InvalidReceiverError(
            f"mock_receiver() was given {type(receiver).__qualname__!r}, which can't be called; "
            f"give the receiver that was connected"
        )
    double = create_autospec(receiver, **options)
    entry = receiver, double
    doubles.append(entry)
    try:
        yield double
    finally:
        doubles[:] = [each for each in doubles if each is not entry]

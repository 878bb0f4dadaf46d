"""The ``@receiver`` decorator."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from aksara_signals.dispatch.describing import describe_sender
from aksara_signals.dispatch.signal import Signal
from aksara_signals.exceptions import InvalidOptionError
from aksara_signals.types import ReceiverT, Sender

__all__ = ["receiver"]


def receiver(
    signal: Signal | Iterable[Signal], *, sender: Sender = None, **options: Any
) -> Callable[[ReceiverT], ReceiverT]:
    """Connect the decorated receiver to one signal or to several.

    Args:
        signal: A signal, or a list or tuple of them.
        sender: As for :meth:`Signal.connect`.
        options: Further options of :meth:`Signal.connect`.

    Raises:
        InvalidOptionError: ``signal`` is not a signal, nor holds only signals.

    Source: Django's ``django.dispatch.receiver``, with the same arguments.
    """
    signals = (signal,) if isinstance(signal, Signal) else signal
    if not isinstance(signals, (list, tuple, set, frozenset)) or not signals:
        raise InvalidOptionError(
            "@receiver needs a signal or a non-empty list of signals, as in @receiver(post_save)"
        )
    for each in signals:
        if not isinstance(each, Signal):
            raise InvalidOptionError(
                f"@receiver was given {describe_sender(each)}, which is no signal; "
                f"senders go into sender="
            )

    def decorate(function: ReceiverT) -> ReceiverT:
        for each in signals:
            each.connect(function, sender=sender, **options)
        return function

    return decorate

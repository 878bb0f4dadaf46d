"""The ``@receiver`` decorator."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Never

from aksara_signals.dispatch.describing import describe_sender
from aksara_signals.dispatch.senders import senders_of
from aksara_signals.dispatch.several import members_of
from aksara_signals.dispatch.signal import Signal, connect_to_all
from aksara_signals.exceptions import InvalidOptionError
from aksara_signals.types import ReceiverT, Senders

__all__ = ["receiver"]


def receiver(
    signal: Signal | Iterable[Signal],
    *given: Never,
    sender: Senders = None,
    senders: Senders = None,
    **options: Any,
) -> Callable[[ReceiverT], ReceiverT]:
    """Connect the decorated receiver to one signal or to several.

    Args:
        signal: A signal, or several in a list.
        given: Nothing: senders are given by name, and several signals in one list.
        sender: As for :meth:`Signal.connect`.
        senders: As for :meth:`Signal.connect`.
        options: Further options of :meth:`Signal.connect`.

    Raises:
        InvalidOptionError: ``signal`` is not a signal, nor holds only signals, or something is
            given besides by position.
        InvalidSenderError: As for :meth:`Signal.connect`.
        AksaraSignalsError: As :meth:`Signal.connect`. If one signal refuses the receiver, it is
            connected to none of them.

    Source: Django's ``django.dispatch.receiver``, with the same arguments.
    """
    if given:
        raise InvalidOptionError(
            f"@receiver was given {describe_sender(given[0])} besides the signal; senders go into "
            f"sender=, and several signals into one list"
        )
    signals: tuple[Any, ...] | None
    signals = (signal,) if issubclass(type(signal), Signal) else members_of(signal)
    if not signals:
        raise InvalidOptionError(
            "@receiver needs a signal or a non-empty list of signals, as in @receiver(post_save)"
        )
    for each in signals:
        if not issubclass(type(each), Signal):
            raise InvalidOptionError(
                f"@receiver was given {describe_sender(each)}, which is no signal; "
                f"senders go into sender="
            )
    # Once, before the first of several signals has used up a generator.
    several = [*senders_of(sender, senders, "@receiver()")]
    for each in signals:
        each.connect(sender=several, **options)  # makes a decorator: the options are looked at

    def decorate(function: ReceiverT) -> ReceiverT:
        connect_to_all(signals, function, several, options)
        return function

    return decorate

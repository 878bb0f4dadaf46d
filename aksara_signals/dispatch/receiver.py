"""The ``@receiver`` decorator."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Never

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.connections.narrowing import settled
from aksara_signals.dispatch.receivers.identity import same_receiver
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.dispatch.receivers.several import members_of
from aksara_signals.dispatch.senders import senders_of
from aksara_signals.dispatch.signal import (
    Signal,
    remove_connections,
    save_connections,
)
from aksara_signals.exceptions import InvalidOptionError, InvalidReceiverError
from aksara_signals.types import Receiver, ReceiverT, Senders


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
        given: Must be empty: senders are given by keyword, and several signals in one list.
        sender: As for :meth:`Signal.connect`.
        senders: As for :meth:`Signal.connect`.
        options: Further options of :meth:`Signal.connect`.

    Raises:
        InvalidOptionError: ``signal`` is neither a signal nor a list of signals, or there are
            further positional arguments.
        InvalidSenderError: As for :meth:`Signal.connect`.
        AksaraSignalsError: As for :meth:`Signal.connect`. If one signal rejects the receiver, it is
            connected to none of them.

    Source: Django's ``django.dispatch.receiver``, with the same arguments.
    """
    if given:
        raise InvalidOptionError(
            f"@receiver was given {describe_sender(given[0])} in addition to the signal; senders "
            f"go into sender=, and several signals into one list"
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
                f"@receiver was given {describe_sender(each)}, which is not a signal; "
                f"senders go into sender="
            )
    # As a list, because the first of several signals would exhaust a generator.
    several = [*senders_of(sender, senders, "@receiver()")]
    options = settled(options, "@receiver()")
    for each in signals:
        each.connect(sender=several, **options)  # returns a decorator, but checks the options

    def decorate(function: ReceiverT) -> ReceiverT:
        _connect_to_all(signals, function, several, options)
        return function

    return decorate


def _connect_to_all(
    signals: Iterable[Signal], receiver: Receiver, sender: Senders, options: dict[str, Any]
) -> None:
    """Connect a receiver to several signals, or to none of them if one rejects it."""
    # The decorator below this one returned None, for which connect() would return a decorator.
    if receiver is None:
        raise InvalidReceiverError(
            "@receiver decorates None instead of a function; if there is another decorator "
            "below it, let it return the function"
        )
    done: list[tuple[Signal, list[Connection]]] = []
    try:
        for signal in signals:
            before = save_connections(signal)
            done.append((signal, before))
            signal.connect(receiver, sender, **options)
    except BaseException:
        for signal, before in done:
            known = {id(each) for each in before}  # safe: the list keeps these objects alive
            remove_connections(
                signal,
                [
                    each
                    for each in save_connections(signal)
                    if id(each) not in known and same_receiver(each.receiver, receiver)
                ],
            )
        raise

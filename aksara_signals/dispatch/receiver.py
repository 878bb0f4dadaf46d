"""The ``@receiver`` decorator."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Never

from aksara_signals.dispatch.connections.connection import Connection
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
        _connect_to_all(signals, function, several, options)
        return function

    return decorate


def _connect_to_all(
    signals: Iterable[Signal], receiver: Receiver, sender: Senders, options: dict[str, Any]
) -> None:
    """Connect a receiver to several signals, or to none of them if one refuses it."""
    if receiver is None:  # a decorator below that has returned nothing; connect() would make one
        raise InvalidReceiverError(
            "@receiver was put above None, and not above a function; if there is a decorator "
            "between them, let it return the function"
        )
    done: list[tuple[Signal, list[Connection]]] = []
    try:
        for signal in signals:
            before = save_connections(signal)
            done.append((signal, before))
            signal.connect(receiver, sender, **options)
    except BaseException:
        for signal, before in done:
            known = {id(each) for each in before}  # which are held, so that none is another's
            remove_connections(
                signal,
                [
                    each
                    for each in save_connections(signal)
                    if id(each) not in known and same_receiver(each.receiver, receiver)
                ],
            )
        raise

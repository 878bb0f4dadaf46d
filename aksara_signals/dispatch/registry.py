"""Looks up signals by name, and checks that string senders name classes."""

from __future__ import annotations

from aksara_signals.dispatch.adapter import get_adapter
from aksara_signals.dispatch.live import live_signals
from aksara_signals.dispatch.receivers.identity import names_of
from aksara_signals.dispatch.receivers.naming import (
    describe_receiver,
    describe_sender,
    nearest,
    shortened,
)
from aksara_signals.dispatch.senders import require_unambiguous
from aksara_signals.dispatch.signal import Signal, forget_plans
from aksara_signals.exceptions import (
    InvalidOptionError,
    UnknownSignalError,
    UnresolvedSenderError,
)


def all_signals() -> list[Signal]:
    """Every live signal, in the order they were made."""
    return live_signals()


def lookup(name: str) -> Signal:
    """The signal with this name; of several, the one that was made first.

    Raises:
        UnknownSignalError: There is none. The message suggests the nearest name.
        InvalidOptionError: The name is not a string.
    """
    if not issubclass(type(name), str):
        raise InvalidOptionError(
            f"lookup() was given {describe_sender(name)}; it takes the name of a signal, as in "
            f"lookup('post_save')"
        )
    names: list[str] = []
    for signal in all_signals():
        if signal.name == name:
            return signal
        if signal.name is not None:
            names.append(signal.name)
    raise UnknownSignalError(f"no signal is named {shortened(name)}{nearest(name, names)}")


def senders_changed() -> None:
    """Discard what string senders were resolved to, because a class has come or gone."""
    for signal in all_signals():
        forget_plans(signal)


_SENT_BY_CLASSES = frozenset(("instance", "instances", "args"))
"""A signal that declares one of these is sent by classes."""


def check_senders() -> None:
    """Check that every string sender names a class; for the end of start-up, and for tests.

    A string may be connected long before its class exists, so a misspelled name looks like that of
    a class that will be defined later. Only the application knows when all its classes exist.

    Raises:
        UnresolvedSenderError: Lists every string that is not the name of a mapped class, its signal
            and its receiver, with the nearest name that exists.
        AmbiguousSenderError: A string is the name of two classes.
    """
    known = [name for cls in get_adapter().classes() for name in names_of(cls)]
    problems: list[str] = []
    for signal in all_signals():
        for connection in signal.connections:
            sender, receiver = connection.sender, connection.receiver
            if not connection.sender_key.is_name or receiver is None:
                continue
            payload = signal.payload
            if payload.is_declared and not _SENT_BY_CLASSES.intersection(payload.names):
                continue  # its senders may be strings themselves, as those of pre_migrate are
            require_unambiguous(sender)
            if sender not in known:
                problems.append(
                    f"sender={shortened(sender)} of {signal.display_name} for receiver "
                    f"{describe_receiver(receiver)} names no mapped class{nearest(sender, known)}"
                )
    if problems:
        raise UnresolvedSenderError(
            "\n".join(problems) + "\nImport the module that defines the class, or fix the name"
        )

"""Checks the senders given to a call: how many there are, and whether they can send the signal."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from types import FunctionType, MethodType
from typing import Any, Final

from aksara_signals.dispatch.adapter import get_adapter
from aksara_signals.dispatch.receivers.identity import (
    is_class,
    is_number,
    names_of,
    plain_text,
    type_name,
)
from aksara_signals.dispatch.receivers.naming import describe_receiver, describe_sender, shortened
from aksara_signals.dispatch.receivers.payload import ANYTHING, CLASSES, LINKS, MIGRATIONS, Payload
from aksara_signals.dispatch.receivers.several import members_of
from aksara_signals.exceptions import (
    AmbiguousSenderError,
    InvalidOptionError,
    InvalidReceiverError,
    InvalidSenderError,
)
from aksara_signals.types import Receiver, Sender, Senders

MIGRATION_COMMANDS: Final = ("upgrade", "downgrade", "revision")
"""The strings that send built-in signals: the commands of a migration."""


def flattened(given: Senders, operation: str) -> tuple[Sender, ...]:
    """The senders in an argument that is one sender or a collection of several.

    Args:
        given: One sender, or a list, tuple, set, view of a dict, generator or other iterator.
        operation: What it was given to, for messages.

    Raises:
        InvalidSenderError: A collection is empty, or contains another collection.
    """
    several = members_of(given)
    if several is None:
        return (given,)
    if not several:
        raise InvalidSenderError(
            f"{operation} was given an empty {type_name(given)} of senders; name at least one, or "
            f"give None for all"
        )
    for each in several:
        if members_of(each) is not None:
            raise InvalidSenderError(
                f"{operation} was given a {type_name(each)} inside a {type_name(given)} of "
                f"senders; give all senders in one list"
            )
    return several


def senders_of(sender: Senders, senders: Senders, operation: str) -> tuple[Sender, ...]:
    """The senders given as ``sender=`` or as ``senders=``.

    Raises:
        InvalidSenderError: As for :func:`flattened`.
        InvalidOptionError: Both are given.
    """
    if senders is None:
        return flattened(sender, operation)
    if sender is not None:
        raise InvalidOptionError(
            f"{operation} was given sender= and senders=; give all senders in one of them"
        )
    return flattened(senders, operation)


def _problem(sender: Sender, payload: Payload, signal_name: str) -> str | None:
    """Why a sender can never send a signal, and what was meant; None if it may."""
    sent_by = payload.sent_by
    if sent_by is ANYTHING or sender is None:
        return None
    if is_class(sender):
        return None
    if issubclass(type(sender), str):
        name: Any = sender
        return None if sent_by is MIGRATIONS else _problem_of_name(plain_text(name), signal_name)
    problem = get_adapter().problem_of_sender(sender, signal_name, sent_by is LINKS)
    if problem is not None:
        return problem
    if sent_by is LINKS and not is_number(sender):
        return None  # the adapter knows which objects are tables, and has not objected
    if sent_by is MIGRATIONS:
        return "is not the name of a command: give a string, such as 'upgrade'"
    if callable(sender):
        return (
            f"is not a class: give receivers to {signal_name}.connect(), and the class that "
            f"sends as sender="
        )
    return f"is not a class: give the class that sends, as in @{signal_name}(Post), or its name"


def _problem_of_name(name: str, signal_name: str) -> str | None:
    bare = name.strip()
    if bare == name:
        owner, _, attribute = name.rpartition(".")
        classes = classes_named(owner) if owner else []
        if any(attribute in dir(cls) for cls in classes) and not classes_named(name):
            return (
                f"is the name of an attribute: give the class, as in @{signal_name}({owner}), or "
                f"to m2m_changed the relationship itself, as in @m2m_changed({name})"
            )
        return None
    way_out = f"write {shortened(bare)}" if bare else "give the class, or its name"
    return f"begins or ends with a space, which no class name does: {way_out}"


def classes_named(name: str) -> list[type]:
    """The live mapped classes that a string sender is the name of."""
    found: list[type] = []
    for cls in get_adapter().classes():
        if name in names_of(cls) and cls not in found:
            found.append(cls)
    return found


def require_unambiguous(name: str) -> None:
    """Reject a string that is the name of two or more live mapped classes.

    Raises:
        AmbiguousSenderError: Names the classes.
    """
    if len(classes_named(name)) < 2:
        return
    gc.collect()  # an unused class lives on until a collection, because it refers to itself
    classes = classes_named(name)
    if len(classes) > 1:
        paths = ", ".join(sorted(names_of(cls)[1] for cls in classes))
        raise AmbiguousSenderError(
            f"sender={shortened(name)} is the name of {len(classes)} mapped classes: {paths}; "
            f"give the full path, or the class itself"
        )


def require_possible(senders: Iterable[Sender], payload: Payload, signal_name: str) -> None:
    """Reject senders that can never send a built-in signal.

    Raises:
        InvalidSenderError: Says what was given, and what was meant.
    """
    for sender in senders:
        problem = _problem(sender, payload, signal_name)
        if problem is not None:
            is_function = type(sender) in (FunctionType, MethodType)
            what = describe_receiver(sender) if is_function else describe_sender(sender)
            raise InvalidSenderError(
                f"{signal_name} can't be connected to {what}, which never sends it: it {problem}"
            )


def is_sent_by_classes(payload: Payload) -> bool:
    """Whether a signal with this payload is sent by mapped classes or by links between them."""
    return payload.sent_by in (CLASSES, LINKS)


def senders_connected(senders: Iterable[Sender], payload: Payload) -> None:
    """Inform the adapter that a receiver of a built-in signal was connected to classes or names."""
    if is_sent_by_classes(payload):
        for sender in senders:
            if is_class(sender) or issubclass(type(sender), str):
                get_adapter().connected(sender)


def require_no_model(receiver: Receiver, signal_name: str) -> None:
    """Reject a mapped class as a receiver.

    Raises:
        InvalidReceiverError: Says how to give it as the sender.
    """
    if is_class(receiver) and get_adapter().is_model(receiver):
        name, path = names_of(receiver)
        raise InvalidReceiverError(
            f"{path} can't be a receiver of {signal_name}: it is a mapped class, which sends "
            f"signals; write @{signal_name}({name}) above the receiver, or "
            f"{signal_name}.connect(receiver, sender={name})"
        )

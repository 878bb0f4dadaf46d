"""Checks the arguments of a :class:`SignalContext`.

A context that can't silence anything, such as one for an instance instead of its class, goes
unnoticed: the block runs as usual, and signals are sent that should have been silenced. So whatever
can never match a send is rejected when the context is made. The exception is a name, whose class
may be defined later; it is checked each time that a block begins.
"""

from __future__ import annotations

import weakref
from collections import UserList, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from aksara_signals.dispatch.adapter import get_adapter
from aksara_signals.dispatch.live import is_signal, live_signals
from aksara_signals.dispatch.receivers.identity import SenderKey, is_class, names_of, type_name
from aksara_signals.dispatch.receivers.members import live_classes
from aksara_signals.dispatch.receivers.naming import (
    describe_receiver,
    describe_sender,
    nearest,
    shortened,
)
from aksara_signals.dispatch.receivers.several import members_of
from aksara_signals.dispatch.receivers.signature import is_annotation
from aksara_signals.dispatch.senders import MIGRATION_COMMANDS, classes_named, is_sent_by_classes
from aksara_signals.exceptions import InvalidOptionError, InvalidSenderError
from aksara_signals.types import Receiver, Sender

_CONTAINERS = (Mapping, Sequence, AbstractSet, deque, UserList, weakref.WeakSet)


def models_of(given: tuple[Any, ...]) -> list[Sender]:
    """The models given to a context: each by itself, or several in a list, view or generator.

    Raises:
        InvalidOptionError: A model is None, or a list is empty.
        InvalidSenderError: A list contains another list.
    """
    models: list[Sender] = []
    for each in given:
        members = members_of(each)
        if members is None:
            models.append(each)
            continue
        if not members:
            raise InvalidOptionError(
                "SignalContext was given an empty list of models, which names nothing to silence; "
                "give at least one, or use SignalContext.disable_all()"
            )
        models += members
    for model in models:
        if model is None:
            raise InvalidOptionError(
                "SignalContext was given None as a model; use SignalContext.disable_all() to "
                "silence every sender"
            )
        if members_of(model) is not None:
            raise InvalidSenderError(
                "SignalContext was given a list of models inside a list; give the models "
                "themselves, or one list of them"
            )
    return models


def require_can_send(model: Sender, signals: tuple[Any, ...] | None) -> None:
    """Reject what can send none of the signals to silence.

    Args:
        model: Neither None nor a list.
        signals: The signals to silence; None means all.

    Raises:
        InvalidSenderError: Says what it is, and what was probably meant.
    """
    if is_class(model) or issubclass(type(model), str):
        return
    if signals is not None and _has_custom(signals):
        return  # anything may send a custom signal
    problem = _problem_of(model) or get_adapter().problem_of_silenced(model, signals)
    if problem:
        raise InvalidSenderError(
            f"SignalContext was given {describe_sender(model)}, which {problem}; it would silence "
            f"nothing"
        )


def _problem_of(thing: Any) -> str | None:
    if is_signal(thing):
        return "is a signal, not a sender: signals go into signals=, as in signals=[post_save]"
    if issubclass(type(thing), (FunctionType, MethodType, BuiltinFunctionType)):
        return (
            "is a function, not a sender: receivers go into receivers=; to silence a signal of "
            "your own that functions send, name it in signals="
        )
    if is_annotation(thing):
        return "is a type annotation, not a sender: name the class itself"
    if issubclass(type(thing), ModuleType):
        return (
            "is a module, not a sender: name its classes; to silence a signal of your own that "
            "modules send, name it in signals="
        )
    if _is_container(type(thing)):
        return (
            f"is one {type_name(thing)}, not the models in it: give the models one by one, or "
            f"in a list; to silence a signal of your own that it sends, name it in signals="
        )
    return None


def _is_container(kind: type) -> bool:
    """Whether this is a type of collection, of those that :func:`members_of` doesn't expand."""
    try:
        return issubclass(kind, _CONTAINERS)
    except Exception:  # noqa: BLE001 - a user's metaclass may raise
        return False


def require_classes(
    keys: tuple[SenderKey, ...],
    signals: tuple[Any, ...] | None,
    known: dict[str, Callable[[], type | None]],
) -> None:
    """Reject names that nothing has when a block begins.

    Args:
        keys: The senders of the context.
        signals: The signals to silence; None means all.
        known: The classes found by name so far; those found now are added.

    Raises:
        InvalidSenderError: Suggests the class with the nearest name.
    """
    for key in keys:
        if not key.is_name:
            continue
        name: str = key.get()
        found = known.get(name)
        if found is not None and found() is not None:
            continue
        if signals is not None and _has_custom(signals):
            continue  # the string itself may be the sender of a custom signal
        cls: type | None = next(_classes_called(name), None)
        if cls is not None:
            known[name] = weakref.ref(cls)
        elif signals is not None or not _is_sent_by(name):
            mapped = [each for cls in get_adapter().classes() for each in names_of(cls)]
            raise InvalidSenderError(
                f"SignalContext was given the name {shortened(name)}, which no class has"
                f"{nearest(name, mapped)}; it would silence nothing. Import the module that "
                f"defines the class, or fix the name; if strings send signals of your own, name "
                f"these signals in signals="
            )


def _has_custom(signals: tuple[Any, ...]) -> bool:
    """Whether any of the signals may be sent by something other than a class."""
    return not all(is_sent_by_classes(each.payload) for each in signals)


def _is_sent_by(name: str) -> bool:
    """Whether a string is known to be a sender itself, because a receiver is connected to it."""
    if name in MIGRATION_COMMANDS:
        return True
    return any(
        connection.sender_key.is_name and connection.sender == name
        for signal in live_signals()
        if _has_custom((signal,))
        for connection in signal.connections
    )


def _classes_called(name: str) -> Iterator[type]:
    """Live classes with this name: first mapped ones, then any others, such as mixins."""
    yield from classes_named(name)
    yield from (cls for cls in live_classes() if name in names_of(cls))


def signals_of(given: Any) -> tuple[Any, ...]:
    """The signals given to a context.

    Raises:
        InvalidOptionError: One of them is not a signal, or there is none.
    """
    signals = _several(given, "signals")
    for each in signals:
        if not is_signal(each):
            raise InvalidOptionError(
                f"signals= was given {describe_sender(each)}, which is not a signal and would "
                f"silence nothing; give the signals themselves, as in "
                f"disable_for(Post, signals=[post_save])"
            )
    return signals


def receivers_of(given: Any) -> tuple[Receiver, ...]:
    """The receivers given to a context.

    Raises:
        InvalidOptionError: One of them is not a receiver, or there is none.
    """
    receivers = _several(given, "receivers")
    for each in receivers:
        if not callable(each):
            raise InvalidOptionError(
                f"receivers= was given {describe_sender(each)}, which is not a receiver and would "
                f"silence nothing; give what was connected"
            )
        if is_signal(each):
            raise InvalidOptionError(
                f"receivers= was given the signal {describe_receiver(each)}; signals go into "
                f"signals="
            )
        if is_class(each) and get_adapter().is_model(each):
            raise InvalidOptionError(
                f"receivers= was given {describe_sender(each)}, which is a mapped class, not a "
                f"receiver; models come first, as in disable_for({names_of(each)[0]})"
            )
    return receivers


def _several(things: Any, option: str) -> tuple[Any, ...]:
    members = members_of(things)
    if members is None:
        return (things,)
    if not members:
        raise InvalidOptionError(f"{option}= is empty and would silence nothing; leave it out")
    return members

"""What a :class:`SignalContext` may be given, and why it refuses the rest.

A context that silences nothing looks as if it did its work, until something is written that should
have been silent. So what could never match a send is refused: where the context is made or, for
names of classes that may come later, where its block begins.
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
from aksara_signals.dispatch.senders import classes_named, is_sent_by_classes, string_senders
from aksara_signals.exceptions import InvalidOptionError, InvalidSenderError
from aksara_signals.types import Receiver, Sender

_CONTAINERS = (Mapping, Sequence, AbstractSet, deque, UserList, weakref.WeakSet)


def models_of(given: tuple[Any, ...]) -> list[Sender]:
    """The models that a context is given: each alone, or several in a list, a view, a generator.

    Raises:
        InvalidOptionError: One is None, or a list is empty.
        InvalidSenderError: A list is nested deeper than once.
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
    """Refuse what sends none of the signals that are to be silenced.

    Args:
        model: Neither None nor a list.
        signals: Those that are to be silenced; None means all.

    Raises:
        InvalidSenderError: Says what it is, and what was probably meant.
    """
    if is_class(model) or issubclass(type(model), str):
        return
    if signals is not None and _has_custom(signals):
        return  # which anything may send
    problem = _problem_of(model) or get_adapter().problem_of_silenced(model, signals)
    if problem:
        raise InvalidSenderError(
            f"SignalContext was given {describe_sender(model)}, which {problem}; it would silence "
            f"nothing"
        )


def _problem_of(thing: Any) -> str | None:
    if is_signal(thing):
        return "is a signal, and no sender: signals go into signals=, as in signals=[post_save]"
    if issubclass(type(thing), (FunctionType, MethodType, BuiltinFunctionType)):
        return (
            "is a function, and no sender: receivers go into receivers=; to silence a signal of "
            "your own that functions send, name it in signals="
        )
    if is_annotation(thing):
        return "is a type annotation, and no sender: name the class itself"
    if issubclass(type(thing), ModuleType):
        return (
            "is a module, and no sender: name its classes; to silence a signal of your own that "
            "modules send, name it in signals="
        )
    if _is_container(type(thing)):
        return (
            f"is one {type_name(thing)}, and not the models in it: give the models one by one, or "
            f"in a list; to silence a signal of your own that it sends, name it in signals="
        )
    return None


def _is_container(kind: type) -> bool:
    """Whether things of this type hold others, and aren't taken for these."""
    try:
        return issubclass(kind, _CONTAINERS)
    except Exception:  # noqa: BLE001 - its metaclass doesn't like to be asked
        return False


def require_classes(
    keys: tuple[SenderKey, ...],
    signals: tuple[Any, ...] | None,
    known: dict[str, Callable[[], type | None]],
) -> None:
    """Refuse names that nothing answers to when a block begins.

    Args:
        keys: The senders of the context.
        signals: Those that are to be silenced; None means all.
        known: The classes that have been found by their names so far; added to.

    Raises:
        InvalidSenderError: Names the nearest class.
    """
    for key in keys:
        if not key.is_name:
            continue
        name: str = key.get()
        found = known.get(name)
        if found is not None and found() is not None:
            continue
        if signals is not None and _has_custom(signals):
            continue  # which may be sent by the string itself
        cls: type | None = next(_classes_called(name), None)
        if cls is not None:
            known[name] = weakref.ref(cls)
        elif signals is not None or not _is_sent_by(name):
            mapped = [each for cls in get_adapter().classes() for each in names_of(cls)]
            raise InvalidSenderError(
                f"SignalContext was given the name {shortened(name)}, which no class has"
                f"{nearest(name, mapped)}; it would silence nothing. Import the module that "
                f"defines the class, or mend the name; where signals of your own are sent by "
                f"strings, name these signals in signals="
            )


def _has_custom(signals: tuple[Any, ...]) -> bool:
    """Whether any of the signals may be sent by something else than a class."""
    return not all(is_sent_by_classes(each.payload) for each in signals)


def _is_sent_by(name: str) -> bool:
    """Whether a string is a sender itself, as far as is known: somebody listens to it."""
    if name in string_senders:
        return True
    return any(
        connection.sender_key.is_name and connection.sender == name
        for signal in live_signals()
        if _has_custom((signal,))
        for connection in signal.connections
    )


def _classes_called(name: str) -> Iterator[type]:
    """Live classes with this name: mapped ones, else any: bases, mixins, senders of your own."""
    yield from classes_named(name)
    yield from (cls for cls in live_classes() if name in names_of(cls))


def signals_of(given: Any) -> tuple[Any, ...]:
    """The signals that a context is given.

    Raises:
        InvalidOptionError: One is no signal, or there is none.
    """
    signals = _several(given, "signals")
    for each in signals:
        if not is_signal(each):
            raise InvalidOptionError(
                f"signals= was given {describe_sender(each)}, which is no signal and would silence "
                f"nothing; give signals themselves, as in disable_for(Post, signals=[post_save])"
            )
    return signals


def receivers_of(given: Any) -> tuple[Receiver, ...]:
    """The receivers that a context is given.

    Raises:
        InvalidOptionError: One is no receiver, or there is none.
    """
    receivers = _several(given, "receivers")
    for each in receivers:
        if not callable(each):
            raise InvalidOptionError(
                f"receivers= was given {describe_sender(each)}, which is no receiver and would "
                f"silence nothing; give what was connected"
            )
        if is_signal(each):
            raise InvalidOptionError(
                f"receivers= was given the signal {describe_receiver(each)}; signals go into "
                f"signals="
            )
        if is_class(each) and get_adapter().is_model(each):
            raise InvalidOptionError(
                f"receivers= was given {describe_sender(each)}, which is a mapped class and no "
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

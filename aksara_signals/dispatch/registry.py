"""Every live signal by name, and what string senders stand for."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from aksara_signals.dispatch.describing import describe_receiver, describe_sender, shortened
from aksara_signals.dispatch.identity import names_of
from aksara_signals.exceptions import (
    AmbiguousSenderError,
    InvalidOptionError,
    UnknownSignalError,
    UnresolvedSenderError,
)

if TYPE_CHECKING:
    from aksara_signals.dispatch.signal import Signal

__all__ = [
    "all_signals",
    "check_senders",
    "class_sources",
    "classes_named",
    "lookup",
    "senders_changed",
    "string_senders",
]

_signals: dict[int, weakref.ref[Signal]] = {}
"""By number, in the order they were made. Finalisers make and end signals at any moment, also while
another one is being made: no step here can be interrupted half-way, and none takes a lock."""
_numbers = itertools.count()

class_sources: list[Callable[[], Iterable[type]]] = []
"""Functions that give the live classes that may send; each mapping layer adds one."""


string_senders: set[str] = set()
"""Strings that send a built-in signal themselves, such as the commands of a migration."""


def register_signal(signal: Signal) -> None:
    """Remember a signal as long as it lives."""
    number = next(_numbers)
    forget = _signals.pop  # bound here: modules lose their names when the interpreter ends
    _signals[number] = weakref.ref(signal, lambda _: forget(number, None))


def all_signals() -> list[Signal]:
    """Every live signal, in the order they were made."""
    return [signal for each in list(_signals.values()) if (signal := each()) is not None]


def lookup(name: str) -> Signal:
    """The signal with this name; of several, the one that was made first.

    Raises:
        UnknownSignalError: There is none. The message offers the nearest name.
        InvalidOptionError: The name is no string.
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


def nearest(name: str, names: Iterable[str]) -> str:
    """A clause that offers the name which was probably meant."""
    from difflib import get_close_matches

    close = get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def classes_named(name: str) -> list[type]:
    """The live mapped classes that answer to a string sender."""
    found: list[type] = []
    for source in class_sources:
        found.extend(cls for cls in source() if name in names_of(cls) and cls not in found)
    return found


def require_unambiguous(name: str) -> None:
    """Refuse a string that two live mapped classes answer to.

    Raises:
        AmbiguousSenderError: Names the classes.
    """
    if len(classes_named(name)) < 2:
        return
    gc.collect()  # classes are cyclic garbage: one that nobody can reach is not live
    classes = classes_named(name)
    if len(classes) > 1:
        paths = ", ".join(sorted(names_of(cls)[1] for cls in classes))
        raise AmbiguousSenderError(
            f"sender={shortened(name)} is the name of {len(classes)} mapped classes: {paths}; "
            f"give the full path, or the class itself"
        )


def senders_changed() -> None:
    """Forget what string senders were resolved to: a class has come or gone."""
    for signal in all_signals():
        signal.forget_plans()


_SENT_BY_CLASSES = frozenset(("instance", "instances", "args"))
"""A signal that declares one of these is sent by classes."""


def check_senders() -> None:
    """Check that every string sender names a class; for the end of start-up, and for tests.

    A string may be connected long before its class exists, so a name that is never taken can only
    be told from one that is not taken yet by somebody who knows that all classes are there.

    Raises:
        UnresolvedSenderError: Lists every string that no mapped class answers to, its signal and
            its receiver, with the nearest name that exists.
        AmbiguousSenderError: Two classes answer to one string.
    """
    known = [name for source in class_sources for cls in source() for name in names_of(cls)]
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
            "\n".join(problems) + "\nImport the module that defines the class, or mend the name"
        )

"""Describes receivers, senders and values, for logs and error messages.

A description must neither raise nor reveal private data. So it never calls a user's ``repr``, and
leaves out attributes whose access raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import CodeType, MethodType
from typing import Any

from aksara_signals.dispatch.receivers.identity import (
    is_class,
    is_number,
    names_of,
    plain_text,
    type_name,
    without_partials,
)
from aksara_signals.types import Receiver, Sender

MAX_SHOWN = 80
"""How many characters of a value a message shows."""


def printable(text: str) -> str:
    r"""Escape what isn't printable: line breaks, terminal codes, marks that reverse the direction.

    >>> printable("Post\nTag")
    'Post\\nTag'
    """
    text = plain_text(text)
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def shortened(value: object) -> str:
    """Describe a string, number or other plain value: on one line, in at most 80 characters.

    >>> shortened("post_sav")
    "'post_sav'"
    >>> len(shortened("x" * 1000))
    80
    """
    if issubclass(type(value), str):  # may be long: take the repr only of what is shown
        value = plain_text(value)[: MAX_SHOWN + 1]  # type: ignore[arg-type]
    text = safe_str(value, repr)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def counted(count: float, noun: str, plural: str | None = None) -> str:
    """A number and its noun.

    >>> counted(1, "receiver"), counted(2, "receiver"), counted(2, "delivery", "deliveries")
    ('1 receiver', '2 receivers', '2 deliveries')
    """
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def safe_str(value: object, words: Callable[[Any], str] = str) -> str:
    """A value as text, on one line; if that raises, the name of its type.

    Args:
        value: Any object.
        words: Makes the text; may raise.
    """
    try:
        return printable(words(value))
    except Exception:
        return f"<{type_name(value)} object>"


def describe_sender(sender: Sender) -> str:
    """Describe a sender. Calls ``repr`` only for a string or a number."""
    if is_class(sender):
        return printable(names_of(sender)[1])
    if sender is None or issubclass(type(sender), str) or is_number(sender):
        return shortened(sender)
    return f"<{type_name(sender)} object>"


def _attribute(thing: Any, name: str) -> Any:
    """An attribute; None if there is none, or if reading it raises."""
    try:
        return getattr(thing, name, None)
    except Exception:  # from a user's __getattr__; it must not replace the error being described
        return None


def receiver_place(receiver: Receiver) -> tuple[str, CodeType | None]:
    """The dotted name of a receiver, and its code if that is known. Never calls its ``repr``."""
    target: Any = without_partials(receiver)
    name = _attribute(target, "__qualname__")
    if not issubclass(type(name), str):
        name = f"{type_name(target)} object"
        target = type(target)
    module = _attribute(target, "__module__")
    module = plain_text(module) if issubclass(type(module), str) else "?"
    where = printable(f"{module}.{plain_text(name)}")
    function = target.__func__ if type(target) is MethodType else target
    code = _attribute(unwrapped(function), "__code__")
    return where, code if type(code) is CodeType else None


def unwrapped(function: Any) -> Any:
    """The function inside wrappers that ``functools.wraps`` has made."""
    from inspect import unwrap

    try:
        return unwrap(function)
    except Exception:  # a cycle of wrappers, or an object that has every attribute
        return function


def describe_receiver(receiver: Receiver | None) -> str:
    """Describe a receiver, with file and line if they are known. Never calls its ``repr``."""
    if receiver is None:
        return "a receiver that is gone"
    where, code = receiver_place(receiver)
    if code is None:
        return where
    return f"{where} ({printable(code.co_filename)}:{code.co_firstlineno})"


def nearest(name: str, names: Iterable[str]) -> str:
    """A clause that suggests the name which was probably meant; empty if none is similar."""
    from difflib import get_close_matches

    close = get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""

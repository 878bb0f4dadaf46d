"""Who is who: keys and weak references of receivers and senders.

Objects are told apart by identity and looked up by address, but an address alone is never trusted:
it is reused as soon as its owner dies. Every look-up ends with a comparison of the live objects.
"""

from __future__ import annotations

import functools
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from numbers import Number
from types import BuiltinMethodType, CodeType, MethodType
from typing import Any

from aksara_signals.exceptions import InvalidSenderError
from aksara_signals.types import Receiver, Sender

__all__ = [
    "SenderGroup",
    "SenderKey",
    "describe_receiver",
    "describe_sender",
    "mro_of",
    "names_of",
    "receiver_address",
    "receiver_place",
    "same_receiver",
    "sender_key",
    "weak_receiver",
    "without_partials",
]

Reference = Callable[[], Any]


def same_receiver(one: Receiver | None, other: Receiver | None) -> bool:
    """Whether two expressions denote one receiver: methods by their object and function."""
    if one is other:
        return True
    if isinstance(one, MethodType) and isinstance(other, MethodType):
        return one.__self__ is other.__self__ and one.__func__ is other.__func__
    if isinstance(one, BuiltinMethodType) and isinstance(other, BuiltinMethodType):
        return one.__self__ is other.__self__ and one.__name__ == other.__name__
    return False


def receiver_address(receiver: Receiver | None) -> Hashable:
    """Where to look for a receiver. Equal for equal receivers, to be followed by a comparison."""
    if isinstance(receiver, MethodType):
        return id(receiver.__self__), id(receiver.__func__)
    if isinstance(receiver, BuiltinMethodType):
        return id(receiver.__self__), receiver.__name__
    return id(receiver)


def without_partials(receiver: Receiver) -> Receiver:
    """The function inside any number of ``functools.partial``."""
    while isinstance(receiver, functools.partial):
        receiver = receiver.func
    return receiver


def weak_receiver(receiver: Receiver, on_death: Callable[[Any], object]) -> Reference:
    """A weak reference to a receiver; a bound method lives as long as its object does.

    Raises:
        TypeError: The receiver's type supports no weak references.
    """
    if isinstance(receiver, MethodType):
        return weakref.WeakMethod(receiver, on_death)
    return weakref.ref(receiver, on_death)


def names_of(cls: type) -> tuple[str, str]:
    """The two strings a class answers to: ``Post`` and ``blog.models.Post``."""
    return cls.__name__, f"{cls.__module__}.{cls.__qualname__}"


def mro_of(sender: Sender) -> tuple[type, ...]:
    """The classes a sender counts as: a class and its bases, nothing for other objects."""
    return sender.__mro__ if isinstance(sender, type) else ()


class SenderGroup:
    """Several senders that speak as one, such as a relationship's table and its classes.

    A send by the group reaches whoever is connected to any of its members. Keep one group as long
    as it is sent by: who hears it is worked out once per group.

    Args:
        members: Whom receivers may have been connected to.
    """

    __slots__ = ("__weakref__", "members")

    def __init__(self, *members: Sender) -> None:
        self.members: tuple[Sender, ...] = members


class SenderKey(ABC):
    """The sender a connection was made for, and the question which senders it matches."""

    __slots__ = ("address",)

    address: Hashable
    """Where to look for the sender; equal for equal senders, to be followed by :meth:`same`."""

    is_name = False
    """Whether this is a string, which may stand for a class that doesn't exist yet."""

    @abstractmethod
    def get(self) -> Sender:
        """The sender itself; None once it is gone."""

    def same(self, other: SenderKey) -> bool:
        """Whether two keys stand for one sender."""
        return self.address == other.address

    def matches(self, sender: Sender, exact: bool) -> bool:
        """Whether what ``sender`` sends is for this key."""
        if isinstance(sender, SenderGroup):
            return any(self.matches_one(member, exact) for member in sender.members)
        return self.matches_one(sender, exact)

    @abstractmethod
    def matches_one(self, sender: Sender, exact: bool) -> bool:
        """Whether what ``sender``, who is no group, sends is for this key."""


class AnySender(SenderKey):
    """Every sender, and none."""

    __slots__ = ()

    def __init__(self) -> None:
        self.address: Hashable = None

    def get(self) -> None:
        return None

    def matches_one(self, sender: Sender, exact: bool) -> bool:
        return True


class NamedSender(SenderKey):
    """A string: an equal string, or the classes that answer to it."""

    __slots__ = ("name",)
    is_name = True

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.address: Hashable = ("name", name)

    def get(self) -> str:
        return self.name

    def matches_one(self, sender: Sender, exact: bool) -> bool:
        if isinstance(sender, str):
            return sender == self.name
        classes = mro_of(sender)
        return any(self.name in names_of(cls) for cls in (classes[:1] if exact else classes))


class NumberSender(SenderKey):
    """A number, by equality."""

    __slots__ = ("number",)

    def __init__(self, number: Any) -> None:
        self.number: Any = number
        self.address: Hashable = ("number", number)

    def get(self) -> Any:
        return self.number

    def matches_one(self, sender: Sender, exact: bool) -> bool:
        return isinstance(sender, Number) and bool(sender == self.number)


class ObjectSender(SenderKey):
    """Any other object by identity; a class also for its subclasses."""

    __slots__ = ("reference",)

    def __init__(self, sender: Sender, on_death: Callable[[Any], object] | None) -> None:
        self.address: Hashable = ("object", id(sender))
        try:
            self.reference: Reference = weakref.ref(sender, on_death)
        except TypeError:  # a tuple, or slots without __weakref__: it has to be kept alive
            self.reference = lambda: sender

    def get(self) -> Sender:
        return self.reference()

    def same(self, other: SenderKey) -> bool:
        if not isinstance(other, ObjectSender):
            return False
        own = self.reference()
        return own is not None and own is other.reference()

    def matches_one(self, sender: Sender, exact: bool) -> bool:
        own = self.reference()
        if own is None:
            return False
        if own is sender:
            return True
        return not exact and any(own is cls for cls in mro_of(sender))


def sender_key(sender: Sender, on_death: Callable[[Any], object] | None = None) -> SenderKey:
    """The key of one sender.

    Args:
        sender: None for every sender.
        on_death: Called with the dead reference when the sender is collected. It runs in a
            finaliser, so it must not take a lock.

    Raises:
        InvalidSenderError: The sender is an empty string.
    """
    if sender is None:
        return AnySender()
    if isinstance(sender, str):
        if not sender:
            raise InvalidSenderError(
                "an empty string can't be a sender; give the class, its name, or None for all"
            )
        return NamedSender(sender)
    if isinstance(sender, Number):
        return NumberSender(sender)
    return ObjectSender(sender, on_death)


def describe_sender(sender: Sender) -> str:
    """A sender in words, whatever its ``__repr__`` does."""
    if isinstance(sender, type):
        return names_of(sender)[1]
    if sender is None or isinstance(sender, (str, Number)):
        return repr(sender)
    return f"<{type(sender).__qualname__} object>"


def receiver_place(receiver: Receiver) -> tuple[str, CodeType | None]:
    """The dotted name of a receiver, and its code where that is known: never calls its ``repr``."""
    target: Any = without_partials(receiver)
    name = getattr(target, "__qualname__", None)
    if not isinstance(name, str):
        target = type(target)
        name = f"{target.__qualname__} object"
    where = f"{getattr(target, '__module__', None) or '?'}.{name}"
    function = getattr(target, "__func__", target)
    from inspect import unwrap

    code = getattr(unwrap(function), "__code__", None)
    return where, code if isinstance(code, CodeType) else None


def describe_receiver(receiver: Receiver | None) -> str:
    """A receiver in words, with file and line where they are known: never calls its ``repr``."""
    if receiver is None:
        return "a receiver that is gone"
    where, code = receiver_place(receiver)
    return where if code is None else f"{where} ({code.co_filename}:{code.co_firstlineno})"

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
from types import BuiltinMethodType, MethodType
from typing import Any, TypeGuard

from aksara_signals.exceptions import InvalidSenderError
from aksara_signals.types import Receiver, Sender

Getter = Callable[[], Any]


def same_receiver(one: Receiver | None, other: Receiver | None) -> bool:
    """Whether two expressions denote one receiver: methods by their object and function."""
    if one is other:
        return True
    # By what they are: isinstance() would believe what their __class__ says.
    kind = type(one)
    first: Any = one
    second: Any = other
    if kind is not type(other):
        return False
    if kind is MethodType:
        return first.__self__ is second.__self__ and first.__func__ is second.__func__
    if kind is BuiltinMethodType:
        return first.__self__ is second.__self__ and bool(first.__name__ == second.__name__)
    return False


def receiver_address(receiver: Receiver | None) -> Hashable:
    """Where to look for a receiver. Equal for equal receivers, to be followed by a comparison."""
    thing: Any = receiver
    if type(thing) is MethodType:
        return id(thing.__self__), id(thing.__func__)
    if type(thing) is BuiltinMethodType:
        return id(thing.__self__), thing.__name__
    return id(thing)


def without_partials(receiver: Receiver) -> Receiver:
    """The function inside any number of ``functools.partial``."""
    inner: Any = receiver
    while issubclass(type(inner), functools.partial):
        inner = inner.func
    found: Receiver = inner
    return found


def weak_receiver(receiver: Receiver, on_death: Callable[[Any], object]) -> Getter:
    """A weak reference to a receiver; a bound method lives as long as its object does.

    Raises:
        TypeError: The receiver's type supports no weak references.
    """
    thing: Any = receiver
    if type(thing) is MethodType:
        return weakref.WeakMethod(thing, on_death)
    return weakref.ref(receiver, on_death)


def is_class(thing: Any) -> TypeGuard[type]:
    """Whether this is a class, whatever its ``__class__`` says."""
    return issubclass(type(thing), type)


def is_number(thing: Any) -> bool:
    """Whether this is a number, whatever its ``__class__`` says."""
    try:
        return issubclass(type(thing), Number)
    except Exception:  # asking an ABC takes the hash of the type, which its metaclass may refuse
        return False


# As Python knows them: a metaclass may say otherwise, or raise.
_name, _qualname, _module, _mro = (
    type.__dict__[each].__get__ for each in ("__name__", "__qualname__", "__module__", "__mro__")
)

plain_text: Callable[[str], str] = str.__str__
"""Text as a string of Python's own: of a subclass of ``str``, whatever is asked may raise."""


def names_of(cls: type) -> tuple[str, str]:
    """The two strings a class answers to: ``Post`` and ``blog.models.Post``."""
    module: Any
    try:
        module = _module(cls)
    except AttributeError:  # made where modules have no name
        module = None
    where = plain_text(module) if issubclass(type(module), str) else "?"
    return plain_text(_name(cls)), f"{where}.{plain_text(_qualname(cls))}"


def type_name(thing: object) -> str:
    """The name of an object's class, without its module."""
    return plain_text(_qualname(type(thing)))


def mro_of(sender: Sender) -> tuple[type, ...]:
    """The classes a sender counts as: a class and its bases, nothing for other objects."""
    return _mro(sender) if is_class(sender) else ()


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
        if type(sender) is SenderGroup:
            return any(self.matches_one(member, exact) for member in sender.members)
        return self.matches_one(sender, exact)

    @abstractmethod
    def matches_one(self, sender: Sender, exact: bool) -> bool:
        """Whether what ``sender``, who is no group, sends is for this key."""


class _AnySender(SenderKey):
    """Every sender, and none."""

    __slots__ = ()

    def __init__(self) -> None:
        self.address: Hashable = None

    def get(self) -> None:
        return None

    def matches_one(self, sender: Sender, exact: bool) -> bool:
        return True


class _NamedSender(SenderKey):
    """A string: an equal string, or the classes that answer to it."""

    __slots__ = ("name",)
    is_name = True

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.address: Hashable = ("name", name)

    def get(self) -> str:
        return self.name

    def matches_one(self, sender: Sender, exact: bool) -> bool:
        if issubclass(type(sender), str):
            return bool(sender == self.name)
        classes = mro_of(sender)
        return any(self.name in names_of(cls) for cls in (classes[:1] if exact else classes))


class _NumberSender(SenderKey):
    """A number, by equality."""

    __slots__ = ("number",)

    def __init__(self, number: Any) -> None:
        self.number: Any = number
        self.address: Hashable = ("number", number)

    def get(self) -> Any:
        return self.number

    def matches_one(self, sender: Sender, exact: bool) -> bool:
        return is_number(sender) and bool(sender == self.number)


class _ObjectSender(SenderKey):
    """Any other object by identity; a class also for its subclasses."""

    __slots__ = ("reference",)

    def __init__(self, sender: Sender, on_death: Callable[[Any], object] | None) -> None:
        self.address: Hashable = ("object", id(sender))
        try:
            self.reference: Getter = weakref.ref(sender, on_death)
        except TypeError:  # a tuple, or slots without __weakref__: it has to be kept alive
            self.reference = lambda: sender

    def get(self) -> Sender:
        return self.reference()

    def same(self, other: SenderKey) -> bool:
        if not isinstance(other, _ObjectSender):
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
        return _AnySender()
    kind = type(sender)
    if issubclass(kind, str):
        if not sender:
            raise InvalidSenderError(
                "an empty string can't be a sender; give the class, its name, or None for all"
            )
        return _NamedSender(sender)
    if not issubclass(kind, type) and is_number(sender):  # in this order: an ABC takes longer
        return _NumberSender(sender)
    return _ObjectSender(sender, on_death)

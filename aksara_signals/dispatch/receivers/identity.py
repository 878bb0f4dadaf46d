"""The identity of receivers and senders: keys and weak references.

Objects are compared by identity and looked up by address. An address alone is not enough, because
it is reused after its object has died, so every look-up ends with a comparison of the live objects.
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
    """Whether these are the same receiver; methods are compared by their object and function."""
    if one is other:
        return True
    # By type(), because isinstance() also considers __class__, which an object can override.
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
    """The key to look a receiver up by. To be followed by :func:`same_receiver`."""
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
    """Whether this is a class, regardless of its ``__class__``."""
    return issubclass(type(thing), type)


def is_number(thing: Any) -> bool:
    """Whether this is a number, regardless of its ``__class__``."""
    try:
        return issubclass(type(thing), Number)
    except Exception:  # an ABC hashes the type, and a user's metaclass may be unhashable
        return False


# From `type` itself, because a metaclass may override these attributes, or raise.
_name, _qualname, _module, _mro = (
    type.__dict__[each].__get__ for each in ("__name__", "__qualname__", "__module__", "__mro__")
)

plain_text: Callable[[str], str] = str.__str__
"""Converts a subclass of ``str``, any method of which may raise, to a plain string."""


def names_of(cls: type) -> tuple[str, str]:
    """The two names of a class for string senders: ``Post`` and ``blog.models.Post``."""
    module: Any
    try:
        module = _module(cls)
    except AttributeError:  # the class was made by code whose globals have no __name__
        module = None
    where = plain_text(module) if issubclass(type(module), str) else "?"
    return plain_text(_name(cls)), f"{where}.{plain_text(_qualname(cls))}"


def type_name(thing: object) -> str:
    """The name of an object's class, without its module."""
    return plain_text(_qualname(type(thing)))


def mro_of(sender: Sender) -> tuple[type, ...]:
    """The classes that a sender matches: for a class, itself and its bases; else none."""
    return _mro(sender) if is_class(sender) else ()


class SenderGroup:
    """Several senders that send as one, such as a relationship's table and its classes.

    A send by the group reaches the receivers connected to any of its members. Reuse one group for
    all its sends: its plan is worked out once per group object.

    Args:
        members: The senders to which receivers may be connected.
    """

    __slots__ = ("__weakref__", "members")

    def __init__(self, *members: Sender) -> None:
        self.members: tuple[Sender, ...] = members


class SenderKey(ABC):
    """The sender that a connection was made for, and which sends it matches."""

    __slots__ = ("address", "place")

    address: Hashable
    """The key to look the sender up by. To be followed by :meth:`same`."""
    place: Hashable
    """Where to look for what may match: one of those that :func:`places_of` returns."""

    is_name = False
    """Whether this is a string, which may be the name of a class that doesn't exist yet."""

    @abstractmethod
    def get(self) -> Sender:
        """The sender itself; None if it has died."""

    def same(self, other: SenderKey) -> bool:
        """Whether two keys are for the same sender."""
        return self.address == other.address

    def matches(self, sender: Sender, exact: bool) -> bool:
        """Whether a send by ``sender`` matches this key.

        Args:
            sender: May be a group, whose members are then tried.
            exact: Whether a subclass doesn't match.
        """
        if type(sender) is SenderGroup:
            return any(self.matches_one(member, exact) for member in sender.members)
        return self.matches_one(sender, exact)

    @abstractmethod
    def matches_one(self, sender: Sender, exact: bool) -> bool:
        """As :meth:`matches`, for a sender that is not a group."""


def is_plain_value(thing: Any) -> bool:
    """Whether this is a string or number of which equal ones have equal hashes for certain."""
    kind = type(thing)  # neither compared nor hashed: a metaclass may do anything then
    return kind is str or kind is int or kind is float or kind is bool or kind is complex


_PECULIAR = "strings and numbers of other types"
"""The place of keys whose value decides itself what it equals, such as a member of ``IntEnum``."""


def places_of(sender: Sender, by_name: bool) -> list[Hashable] | None:
    """The places of all keys that may match a send by ``sender``; each key is to be asked.

    Args:
        sender: May be a group.
        by_name: Whether classes are looked up by their names, too.

    Returns:
        None if that may be any place, because the sender decides itself what it equals.
    """
    found: list[Hashable] = [None, _PECULIAR]
    for one in sender.members if type(sender) is SenderGroup else (sender,):
        found.append(("object", id(one)))
        if is_plain_value(one):
            found.append(("name" if type(one) is str else "number", one))
        elif is_class(one):
            for cls in _mro(one):
                found.append(("object", id(cls)))
                if by_name:
                    found += [("name", name) for name in names_of(cls)]
        elif issubclass(type(one), str) or is_number(one):
            return None
    return found


class _AnySender(SenderKey):
    """Matches every sender, None included."""

    __slots__ = ()

    def __init__(self) -> None:
        self.address: Hashable = None
        self.place: Hashable = None

    def get(self) -> None:
        return None

    def matches_one(self, sender: Sender, exact: bool) -> bool:
        return True


class _NamedSender(SenderKey):
    """A string: matches equal strings, and the classes with this name."""

    __slots__ = ("name",)
    is_name = True

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.address: Hashable = ("name", name)
        self.place: Hashable = self.address if type(name) is str else _PECULIAR

    def get(self) -> str:
        return self.name

    def matches_one(self, sender: Sender, exact: bool) -> bool:
        if issubclass(type(sender), str):
            return bool(sender == self.name)
        classes = mro_of(sender)
        return any(self.name in names_of(cls) for cls in (classes[:1] if exact else classes))


class _NumberSender(SenderKey):
    """A number: matches equal numbers."""

    __slots__ = ("number",)

    def __init__(self, number: Any) -> None:
        self.number: Any = number
        self.address: Hashable = ("number", number)
        self.place: Hashable = self.address if is_plain_value(number) else _PECULIAR

    def get(self) -> Any:
        return self.number

    def matches_one(self, sender: Sender, exact: bool) -> bool:
        return is_number(sender) and bool(sender == self.number)


class _ObjectSender(SenderKey):
    """Any other object: matches itself; a class also matches its subclasses."""

    __slots__ = ("reference",)

    def __init__(self, sender: Sender, on_death: Callable[[Any], object] | None) -> None:
        self.address: Hashable = ("object", id(sender))
        self.place: Hashable = self.address
        try:
            self.reference: Getter = weakref.ref(sender, on_death)
        except TypeError:  # such as a tuple, or slots without __weakref__: kept alive instead
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
        on_death: Called with the dead reference when the sender is collected. It is called by a
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
    if not issubclass(kind, type) and is_number(sender):  # in this order: an ABC is slower to ask
        return _NumberSender(sender)
    return _ObjectSender(sender, on_death)

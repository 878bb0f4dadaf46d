"""Looks up attributes of classes and objects without running any code of theirs."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any, NamedTuple

from aksara_signals.dispatch.receivers.identity import is_class, mro_of, names_of


class Member(NamedTuple):
    """The value that a class or object stores under a name."""

    raw: Any
    """The value as it is stored: a function, a ``staticmethod``, a mock …"""
    given: tuple[Any, Any] | None
    """The arguments for ``__get__``, if the attribute is bound when it is read; else None."""

    @property
    def function(self) -> Any:
        """The function inside a method of any kind."""
        return _function_of(self.raw)

    def get(self) -> Any:
        """The value that reading the attribute returns."""
        if self.given is None or type(self.raw) not in _KINDS:
            return self.raw
        return self.raw.__get__(*self.given)


_KINDS = (FunctionType, staticmethod, classmethod)


def _function_of(raw: Any) -> Any:
    return raw.__func__ if type(raw) in (staticmethod, classmethod, MethodType) else raw


def member_named(name: str, owner: Any) -> Member | None:
    """Look up a name in an object or a class, as Python does; None if there is no such name."""
    kind = type(owner)
    if is_class(owner):
        for each in mro_of(owner):
            if name in _vars(each):
                return Member(_vars(each)[name], (None, owner))
    else:
        try:
            own = object.__getattribute__(owner, "__dict__")
        except Exception:  # there is none, or a user's class overrides it
            own = None
        if type(own) is dict and name in own:
            return Member(own[name], None)
    for each in mro_of(kind):
        if name in _vars(each):
            return Member(_vars(each)[name], (owner, kind))
    return None


# From `type` itself, because a metaclass may override this attribute, or raise.
_vars: Callable[[type], Any] = type.__dict__["__dict__"].__get__

_holders: dict[tuple[int, str], tuple[weakref.ref[type], weakref.ref[Any]]] = {}
"""By address of a class and name: the class, and the function last seen there. The class is stored
because its address is reused after it has died."""


class ClassMember:
    """A name in a class, and the function that was last seen there.

    Args:
        holder: The class that defines the name itself, rather than inherits it.
        name: The name.
    """

    __slots__ = ("holder", "name")

    def __init__(self, holder: type, name: str) -> None:
        self.holder: weakref.ref[type] = weakref.ref(holder)
        self.name: str = name

    @classmethod
    def of(cls, function: FunctionType, owner: Any) -> ClassMember | None:
        """Find a method's function in the classes of an object, or in a class and its bases.

        Args:
            function: The function of the method.
            owner: The object or class.
        """
        bases = (*mro_of(owner), *mro_of(type(owner)))
        name = function.__name__
        for each in bases:
            for known in (name, _mangled(each, name)):
                if _function_of(_vars(each).get(known)) is function:
                    return cls._claimed(each, known, function)
        for each in bases:  # the function may have another name, as one made by a decorator
            for known, raw in tuple(_vars(each).items()):
                if _function_of(raw) is function:
                    return cls._claimed(each, known, function)
        return None

    @classmethod
    def _claimed(cls, holder: type, name: str, function: Any) -> ClassMember:
        member = cls(holder, name)
        member.claim(function)
        return member

    def claim(self, function: Any) -> None:
        """Store that this function has been seen there."""
        holder = self.holder()
        if holder is not None and not self.belongs_to(function):
            key = id(holder), self.name
            gone = _holders.pop  # bound here: module globals are cleared when the interpreter exits
            _holders[key] = (
                weakref.ref(holder, lambda _: gone(key, None)),
                weakref.ref(function),
            )

    def belongs_to(self, function: Any) -> bool:
        """Whether this function was the last one seen there."""
        holder = self.holder()
        found = _holders.get((id(holder), self.name))
        return found is not None and found[0]() is holder and found[1]() is function


def _mangled(cls: type, name: str) -> str:
    """The mangled name of a method in its class, if its name begins with two underscores."""
    own = names_of(cls)[0].lstrip("_")
    return f"_{own}{name}" if own and name[:2] == "__" and name[-2:] != "__" else name


def class_called(
    module: str,
    path: str,
    name: str,
    function: Any,
    is_mock: Callable[[Any], bool] | None = None,
) -> ClassMember | None:
    """Find the class in whose body a function was defined, by the function's names.

    Args:
        module: The function's module.
        path: The qualified name of the class.
        name: The function's name.
        function: The function, which the class must have under its name.
        is_mock: Whether an object is a mock. With it, a class that has a mock under the name is
            found as well, if it is the only one.
    """
    masked: list[ClassMember] = []
    for cls in _classes_at(module, path):
        for known in dict.fromkeys((name, _mangled(cls, name))):
            raw = _vars(cls).get(known)
            member = ClassMember(cls, known)
            if _function_of(raw) is function:
                member.claim(function)
                return member
            if is_mock is not None and is_mock(raw):
                masked.append(member)
    if len(masked) != 1:
        return None
    masked[0].claim(function)
    return masked[0]


def _classes_at(module: str, path: str) -> Iterator[type]:
    if "<locals>" in path:
        wanted = f"{module}.{path}"
        yield from (cls for cls in live_classes() if names_of(cls)[1] == wanted)
        return
    first, *rest = path.split(".")
    found: Any = getattr(sys.modules.get(module), "__dict__", {}).get(first)
    for part in rest:
        found = _vars(found).get(part) if is_class(found) else None
    if is_class(found):
        yield found


def live_classes() -> Iterator[type]:
    """Every live class. Takes milliseconds."""
    unseen: list[type] = [object]
    seen: set[int] = set()
    while unseen:
        subclasses: list[type] = type.__subclasses__(unseen.pop())
        for cls in subclasses:
            if id(cls) not in seen:
                seen.add(id(cls))
                unseen.append(cls)
                yield cls

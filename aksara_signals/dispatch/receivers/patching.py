"""Late patching: a receiver that a test replaces by a mock under its name.

A signal holds the receiver object itself, so ``unittest.mock.patch("app.signals.notify")`` and
``patch.object(service, "notify")``, which only rebind a name, would go unseen. What a name means is
therefore looked up when it matters: at dispatch, and only in processes that have imported
``unittest.mock``. Which name a receiver has is found out when it is connected.
"""

from __future__ import annotations

import sys
import weakref
from types import FunctionType, MethodType
from typing import Any, Protocol

from aksara_signals.dispatch.receivers.identity import same_receiver
from aksara_signals.dispatch.receivers.members import (
    ClassMember,
    Member,
    class_called,
    member_named,
)
from aksara_signals.types import Receiver

mocks: list[tuple[Receiver, Any]] = []
"""Receivers and what is called in their place, the latest last."""

_owners: dict[tuple[str, str], weakref.ref[Any]] = {}
"""Which of the receivers that were defined under one module-level name is bound to it."""


class PatchPlace(Protocol):
    """Where a mock may stand in a receiver's place."""

    def current(self, receiver: Any, /) -> Any:
        """The mock that stands there, else the receiver."""
        ...


class ModuleName:
    """The module-level name under which a receiver was defined."""

    __slots__ = ("key",)

    def __init__(self, module: str, name: str) -> None:
        self.key: tuple[str, str] = module, name

    def current(self, receiver: Any, /) -> Any:
        """The mock that stands under this name in the receiver's place, else the receiver."""
        bound = _bound_to(self.key)
        owner = _owners.get(self.key)
        is_owner = owner is not None and owner() is receiver
        if bound is receiver:
            if not is_owner:
                _owners[self.key] = weakref.ref(receiver)
        elif is_owner and _is_mock(bound):
            receiver = bound
        return receiver


class MethodName:
    """The name under which the object of a bound method, or its class, has the method."""

    __slots__ = ("_member",)

    def __init__(self, member: ClassMember) -> None:
        self._member = member

    def current(self, receiver: Any, /) -> Any:
        """The mock that the object gives under this name, else the receiver."""
        found = member_named(self._member.name, receiver.__self__)
        return receiver if found is None else _stands_for(found, self._member, receiver)


class FunctionName:
    """The name under which a class has a static method, or a function that is used as one.

    The function itself doesn't know its class. It is looked for by its name: at once, if the class
    is found in its module; else, as that takes time, when a mock could be there for the first time.
    """

    __slots__ = ("_is_searched", "_key", "_member")

    def __init__(self, receiver: FunctionType) -> None:
        path, _, name = receiver.__qualname__.rpartition(".")
        self._key: tuple[str, str, str] = receiver.__module__, path, name
        self._member: ClassMember | None = None
        self._is_searched = False
        if "<locals>" not in path or "unittest.mock" in sys.modules:
            self._member = class_called(*self._key, receiver)
        _note_latest((receiver.__module__, receiver.__qualname__), receiver)

    def current(self, receiver: Any, /) -> Any:
        """The mock that the class has under this name, else the receiver."""
        if self._member is None and not self._is_searched:
            self._is_searched = True  # once: a decorator inside of the class body comes before it
            owner = _owners[self._key[0], receiver.__qualname__]
            is_mock = _is_mock if owner() is receiver else None
            self._member = class_called(*self._key, receiver, is_mock)
        member = self._member
        holder = None if member is None else member.holder()
        if member is None or holder is None:
            return receiver
        found = member_named(member.name, holder)
        return receiver if found is None else _stands_for(found, member, receiver)


def _stands_for(found: Member, member: ClassMember, receiver: Any) -> Any:
    """What is called for a receiver whose name has been looked up."""
    function = receiver.__func__ if type(receiver) is MethodType else receiver
    if found.function is function:
        member.claim(function)
    elif member.belongs_to(function) and (_is_mock(found.raw) or _is_mock(found.function)):
        return found.get()
    return receiver


def mock_for(receiver: Receiver, place: PatchPlace | None) -> Any:
    """What is called instead of a receiver, in a process that has imported ``unittest.mock``."""
    for original, mock in reversed(mocks):
        if same_receiver(original, receiver):
            return mock
    return receiver if place is None else place.current(receiver)


def patch_place_of(receiver: Receiver) -> PatchPlace | None:
    """Where a receiver can be patched: a module's function, or a class's or object's method."""
    thing: Any = receiver
    if type(thing) is MethodType:
        return _method_name_of(thing)
    if type(thing) is not FunctionType:
        return None
    # Of a subclass of str, whatever is asked may raise.
    if any(
        type(each) is not str for each in (thing.__module__, thing.__name__, thing.__qualname__)
    ):
        return None
    path, _, name = thing.__qualname__.rpartition(".")
    if not path:
        return module_name_of(receiver)
    if path.endswith("<locals>") or name == "<lambda>":
        return None
    return FunctionName(thing)


def _method_name_of(method: MethodType) -> MethodName | None:
    function: Any = method.__func__
    if type(function) is not FunctionType or type(function.__name__) is not str:
        return None
    member = ClassMember.of(function, method.__self__)
    return None if member is None else MethodName(member)


def module_name_of(receiver: Receiver) -> ModuleName | None:
    """Where a function at the top level of a module can be patched; None of anything else.

    A decorator runs before the name is bound, and one name may be defined twice in a module. The
    name belongs to the receiver that is seen bound to it or, until then, to the one defined last.
    """
    if type(receiver) is not FunctionType:
        return None
    key = receiver.__module__, receiver.__name__
    if any(type(each) is not str for each in (*key, receiver.__qualname__)):
        return None
    if receiver.__name__ == "<lambda>" or receiver.__qualname__ != receiver.__name__:
        return None
    _note_latest(key, receiver)
    return ModuleName(*key)


def _note_latest(key: tuple[str, str], receiver: FunctionType) -> None:
    """Note who has a name: whoever is bound to it, else the one that was defined last."""
    reference = _owners.get(key)
    owner = None if reference is None else reference()
    if _bound_to(key) is receiver or owner is None or _line(receiver) >= _line(owner):
        _owners[key] = weakref.ref(receiver)


def _bound_to(key: tuple[str, str]) -> Any:
    """What a module's name is bound to; a ``__getattr__`` of the module's is not asked."""
    module, name = key
    return getattr(sys.modules.get(module), "__dict__", {}).get(name)


def _line(function: FunctionType) -> int:
    return function.__code__.co_firstlineno


def _is_mock(thing: Any) -> bool:
    mock = sys.modules.get("unittest.mock")
    if mock is None:
        return False
    # An autospecced function is a real function that carries its mock.
    return isinstance(thing, mock.NonCallableMock) or isinstance(
        getattr(thing, "mock", None), mock.NonCallableMock
    )

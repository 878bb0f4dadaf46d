"""Late patching: a mock under a receiver's name is called in place of the receiver.

The problem: a signal references the receiver object itself, but
``unittest.mock.patch("app.signals.notify")`` and ``patch.object(service, "notify")`` only rebind a
name. A test that patches a connected receiver would still call the original.

So the name of a receiver is determined when it is connected, and looked up at each send, but only
in a process that has imported ``unittest.mock``. If a mock is found there, it is called instead.
One name may be that of several receivers, as when a module defines two functions with it; the mock
then replaces only the one that the name was bound to before.
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
"""Receivers and the mocks called instead of them, the latest last."""


class Owners:
    """To which receiver each name of a module belongs, of all that were defined with it."""

    __slots__ = ("_by_name", "noted")

    def __init__(self) -> None:
        self._by_name: dict[tuple[str, str], weakref.ref[Any]] = {}
        self.noted: int = 0
        """Another number whenever a name has come to belong to another receiver."""

    def get(self, key: tuple[str, str]) -> Any:
        """The receiver that a name belongs to, by module and name; None if it is gone."""
        reference = self._by_name.get(key)
        return None if reference is None else reference()

    def note(self, key: tuple[str, str], receiver: FunctionType) -> None:
        """Store to which receiver a name belongs."""
        self._by_name[key] = weakref.ref(receiver)
        self.noted += 1


owners: Owners = Owners()


class PatchPlace(Protocol):
    """A name under which a mock may replace a receiver."""

    def current(self, receiver: Any, /) -> Any:
        """The mock that is found there; without one, the receiver."""
        ...


class ModuleName:
    """The module-level name under which a receiver was defined."""

    __slots__ = ("key",)

    def __init__(self, module: str, name: str) -> None:
        self.key: tuple[str, str] = module, name

    def current(self, receiver: Any, /) -> Any:
        """The mock that the module has under this name; without one, the receiver."""
        bound = _bound_to(self.key)
        is_owner = owners.get(self.key) is receiver
        if bound is receiver:
            if not is_owner:
                owners.note(self.key, receiver)
        elif is_owner and _is_mock(bound):
            receiver = bound
        return receiver

    def is_bound_to(self, receiver: Any) -> bool:
        """Whether the module has the receiver itself under this name."""
        return _bound_to(self.key) is receiver


class MethodName:
    """The name of a bound method in its object, or in the object's class."""

    __slots__ = ("_member",)

    def __init__(self, member: ClassMember) -> None:
        self._member = member

    def current(self, receiver: Any, /) -> Any:
        """The mock that the object has under this name; without one, the receiver."""
        found = member_named(self._member.name, receiver.__self__)
        return receiver if found is None else _stands_for(found, self._member, receiver)


class FunctionName:
    """The name of a static method in its class, or of a function that is used as one.

    The function has no reference to its class, so the class is searched for by the qualified name
    of the function. Where the class is an attribute of its module, this is done at once. For a
    local class, all live classes have to be searched, which is slow, so it isn't done before
    ``unittest.mock`` has been imported.
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
        """The mock that the class has under this name; without one, the receiver."""
        # Search again, once: when a decorator in a class body connects a receiver, the class
        # doesn't exist yet.
        if self._member is None and not self._is_searched:
            self._is_searched = True
            owner = owners.get((self._key[0], receiver.__qualname__))
            is_mock = _is_mock if owner is receiver else None
            self._member = class_called(*self._key, receiver, is_mock)
        member = self._member
        holder = None if member is None else member.holder()
        if member is None or holder is None:
            return receiver
        found = member_named(member.name, holder)
        return receiver if found is None else _stands_for(found, member, receiver)


def _stands_for(found: Member, member: ClassMember, receiver: Any) -> Any:
    """The mock found under a receiver's name, if it replaces this receiver; else the receiver."""
    function = receiver.__func__ if type(receiver) is MethodType else receiver
    if found.function is function:
        member.claim(function)
    elif member.belongs_to(function) and (_is_mock(found.raw) or _is_mock(found.function)):
        return found.get()
    return receiver


def mock_for(receiver: Receiver, place: PatchPlace | None) -> Any:
    """The mock to call instead of a receiver; without one, the receiver itself.

    Only called in a process that has imported ``unittest.mock``.
    """
    for original, mock in reversed(mocks):
        if same_receiver(original, receiver):
            return mock
    return receiver if place is None else place.current(receiver)


def patch_place_of(receiver: Receiver) -> PatchPlace | None:
    """The name under which a receiver can be patched; None if there is none.

    A function at the top level of a module has one, and so has a method of a class or an object.
    """
    thing: Any = receiver
    if type(thing) is MethodType:
        return _method_name_of(thing)
    if type(thing) is not FunctionType:
        return None
    # Not a subclass of str: any operation on one may run user code, and raise.
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
    """The name of a function at the top level of a module; None for anything else.

    If a module defines two functions with one name, the name belongs to the one that it is bound
    to. As decorators run before the name is bound, until then it belongs to the one defined last.
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
    """Store which receiver a name belongs to: the one it is bound to, else the one defined last."""
    owner = owners.get(key)
    if _bound_to(key) is receiver or owner is None or _line(receiver) >= _line(owner):
        owners.note(key, receiver)


def _bound_to(key: tuple[str, str]) -> Any:
    """The value that a name of a module is bound to, without calling the module's ``__getattr__``.

    None if there is no such name.
    """
    module, name = key
    return getattr(sys.modules.get(module), "__dict__", {}).get(name)


def _line(function: FunctionType) -> int:
    return function.__code__.co_firstlineno


def _is_mock(thing: Any) -> bool:
    mock = sys.modules.get("unittest.mock")
    if mock is None:
        return False
    # Autospeccing a function makes a real function with a mock as an attribute.
    return isinstance(thing, mock.NonCallableMock) or isinstance(
        getattr(thing, "mock", None), mock.NonCallableMock
    )

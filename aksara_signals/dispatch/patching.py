"""Late patching: a module-level receiver that a test replaces by a mock.

A signal holds the receiver object itself, so ``unittest.mock.patch("app.signals.notify")``, which
only rebinds a name, would go unseen. What a name means is therefore looked up when it matters: at
dispatch, and only in processes that have imported ``unittest.mock``.
"""

from __future__ import annotations

import sys
import weakref
from types import FunctionType
from typing import Any

from aksara_signals.dispatch.identity import same_receiver
from aksara_signals.types import Receiver

__all__ = ["ModuleName", "doubles", "module_name_of", "stand_in"]

doubles: list[tuple[Receiver, Any]] = []
"""Receivers and what is called in their place, the latest last."""

_owners: dict[tuple[str, str], weakref.ref[Any]] = {}
"""Which of the receivers that were defined under one module-level name is bound to it."""


class ModuleName:
    """The module-level name under which a receiver was defined."""

    __slots__ = ("key",)

    def __init__(self, module: str, name: str) -> None:
        self.key: tuple[str, str] = module, name

    def current(self, receiver: Any) -> Any:
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


def stand_in(receiver: Receiver, module_name: ModuleName | None) -> Any:
    """What is called instead of a receiver, in a process that has imported ``unittest.mock``."""
    for original, double in reversed(doubles):
        if same_receiver(original, receiver):
            return double
    return receiver if module_name is None else module_name.current(receiver)


def module_name_of(receiver: Receiver) -> ModuleName | None:
    """Where a receiver can be patched: functions at the top level of a module, nothing else.

    A decorator runs before the name is bound, and one name may be defined twice in a module. The
    name belongs to the receiver that is seen bound to it or, until then, to the one defined last.
    """
    if type(receiver) is not FunctionType:
        return None
    key = receiver.__module__, receiver.__name__
    # Of a subclass of str, whatever is asked may raise.
    if any(type(each) is not str for each in (*key, receiver.__qualname__)):
        return None
    if receiver.__name__ == "<lambda>" or receiver.__qualname__ != receiver.__name__:
        return None
    bound = _bound_to(key)
    reference = _owners.get(key)
    owner = None if reference is None else reference()
    if bound is receiver or owner is None or _line(receiver) >= _line(owner):
        _owners[key] = weakref.ref(receiver)
    return ModuleName(*key)


def _bound_to(key: tuple[str, str]) -> Any:
    """What a module's name is bound to; a ``__getattr__`` of the module's is not asked."""
    module, name = key
    return getattr(sys.modules.get(module), "__dict__", {}).get(name)


def _line(function: FunctionType) -> int:
    return function.__code__.co_firstlineno


def _is_mock(thing: Any) -> bool:
    mock = sys.modules.get("unittest.mock")
    if mock is None or thing is None:
        return False
    # An autospecced function is a real function that carries its mock.
    return isinstance(thing, mock.NonCallableMock) or isinstance(
        getattr(thing, "mock", None), mock.NonCallableMock
    )

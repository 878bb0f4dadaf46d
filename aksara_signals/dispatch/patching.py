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

from aksara_signals.types import Receiver

__all__ = ["ModuleName", "module_name_of"]

_owners: weakref.WeakValueDictionary[tuple[str, str], FunctionType] = weakref.WeakValueDictionary()
"""Which of the receivers that were defined under one module-level name is bound to it."""


class ModuleName:
    """The module-level name under which a receiver was defined."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module: str = module
        self.name: str = name

    def current(self, receiver: Any) -> Any:
        """The mock that stands under this name in the receiver's place, else the receiver."""
        namespace = getattr(sys.modules.get(self.module), "__dict__", {})
        bound: Any = namespace.get(self.name)
        if bound is receiver:
            _owners[self.module, self.name] = receiver
        elif _is_mock(bound) and _owners.get((self.module, self.name)) is receiver:
            receiver = bound
        return receiver


def module_name_of(receiver: Receiver) -> ModuleName | None:
    """Where a receiver can be patched: functions at the top level of a module, nothing else.

    A decorator runs before the name is bound, and one name may be defined twice in a module. The
    name belongs to the receiver that is seen bound to it or, until then, to the one defined last.
    """
    if not isinstance(receiver, FunctionType) or receiver.__qualname__ != receiver.__name__:
        return None
    if receiver.__name__ == "<lambda>" or not isinstance(receiver.__module__, str):
        return None
    key = receiver.__module__, receiver.__name__
    bound = getattr(sys.modules.get(key[0]), key[1], None)
    owner = _owners.get(key)
    if bound is receiver or owner is None or _line(receiver) >= _line(owner):
        _owners[key] = receiver
    return ModuleName(*key)


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

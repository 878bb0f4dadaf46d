"""Receivers that are defined again: by a reloaded module, or a notebook cell that is run again.

Connecting such a receiver makes a second object of what its author takes for one function. It is
recognised by where it was defined, and by which execution of its module that was.
"""

from __future__ import annotations

import sys
import weakref
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any, NamedTuple

from aksara_signals.dispatch.receivers.identity import is_class, without_partials
from aksara_signals.dispatch.receivers.naming import unwrapped
from aksara_signals.types import Receiver


class Origin(NamedTuple):
    """Where a receiver was defined, and when."""

    place: tuple[str, str, str | None]
    """Module, qualified name and file; the file because two modules may have one name."""
    execution: object
    """One object for each execution of the module."""
    code: CodeType
    """One object for all that a loop or a factory makes."""


_executions: weakref.WeakKeyDictionary[FunctionType, object] = weakref.WeakKeyDictionary()
"""Of functions whose modules have no spec: what was running when they were first connected."""


def origin_of(receiver: Receiver) -> Origin | None:
    """Where a receiver was defined; None of what may exist many times.

    That is whatever is no function, a lambda, a function made by a function, and a method of an
    instance.
    """
    function = _function_of(receiver)
    if function is None:
        return None
    module, name = function.__module__, function.__qualname__
    # Of a subclass of str, whatever is asked may raise.
    if type(module) is not str or type(name) is not str or "<" in name:
        return None
    # The globals know it, also where the module isn't in sys.modules. A reload replaces the spec.
    spec, code = function.__globals__.get("__spec__"), function.__code__
    execution: object = spec
    if spec is None:  # a notebook, or a script
        execution = _executions.get(function)
        if execution is None:
            execution = _running_module(function.__globals__) or code
            _executions[function] = execution
    file = getattr(spec, "origin", None)
    return Origin((module, name, file if type(file) is str else None), execution, code)


def _running_module(names: dict[str, Any]) -> CodeType | None:
    """The code at the top of a module, or of a cell, that is being executed; each time another one.

    Two functions that one script defines under one name are both live, although nothing but this
    tells them from a cell that is run twice.
    """
    # inspect takes long to import, and its currentframe() is the same.
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if frame.f_globals is names and frame.f_code.co_name == "<module>":
            return frame.f_code
        frame = frame.f_back
    return None


def _function_of(receiver: Receiver) -> FunctionType | None:
    found: Any = receiver
    if type(found) is not FunctionType or found.__dict__:
        found = without_partials(found)
        if type(found) is MethodType:
            if not is_class(found.__self__):
                return None
            found = found.__func__
        found = unwrapped(found)
    return found if type(found) is FunctionType else None

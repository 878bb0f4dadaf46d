"""Recognises receivers that are defined again, by a reloaded module or a re-run notebook cell.

The problem: to its author, a function that is defined again is the same function; to Python, it is
a second object beside the first one, which is still connected. So the new one has to replace it.
But two functions with one name may also be meant to exist side by side, if one execution of their
module has defined both. A receiver is therefore identified by the place where it was defined and by
the execution of its module that defined it: it replaces those of its place that an earlier
execution has defined, and no others.
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
    """Where a receiver was defined, and by which execution of its module."""

    place: tuple[str, str, str | None]
    """Module, qualified name and file; the file because two modules may have one name."""
    execution: object
    """An object that stands for the execution of the module."""
    code: CodeType
    """The code of the function; the same for every function that a loop or a factory makes."""


_executions: weakref.WeakKeyDictionary[FunctionType, object] = weakref.WeakKeyDictionary()
"""For functions whose modules have no spec: what was running when they were first connected."""


def origin_of(receiver: Receiver) -> Origin | None:
    """Where a receiver was defined; None if many like it may exist at once.

    That is a lambda, a function made by a function, a method of an instance, and any receiver that
    isn't a function.
    """
    function = _function_of(receiver)
    if function is None:
        return None
    module, name = function.__module__, function.__qualname__
    # Not a subclass of str: any operation on one may run user code, and raise.
    if type(module) is not str or type(name) is not str or "<" in name:
        return None
    # Each execution of a module has a new spec, as a reload replaces it. It is read from the
    # globals, because the module may not be in sys.modules.
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
    """The code of the module, or the cell, that is being executed: a new object each time.

    It distinguishes two functions of one name in a script, which are both meant to be connected,
    from one function in a cell that is run twice. Nothing else does.
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

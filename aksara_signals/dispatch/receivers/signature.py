"""The signatures of receivers, and what can't be a receiver."""

from __future__ import annotations

import typing
from functools import partial
from types import CoroutineType, FunctionType, GenericAlias, MethodType
from typing import Any, NamedTuple
from weakref import ref

from aksara_signals.dispatch.adapter import get_adapter
from aksara_signals.dispatch.live import is_signal
from aksara_signals.dispatch.receivers.identity import is_class, without_partials
from aksara_signals.types import Receiver

_ANNOTATIONS: tuple[type, ...] = (
    GenericAlias,
    *(type(each) for each in (typing.List[int], typing.List, typing.ClassVar)),  # noqa: UP006 - the old spelling as well
)
"""The types of annotations, such as ``list[Post]``, that users may take for classes."""

CO_VARKEYWORDS = 0x08
CO_GENERATOR = 0x20
CO_COROUTINE = 0x80
CO_ITERABLE_COROUTINE = 0x100
CO_ASYNC_GENERATOR = 0x200
# Copied from ``inspect``, whose import takes half as long as that of all of this library.


class Parameter(NamedTuple):
    """One parameter, neither ``*args`` nor ``**kwargs``."""

    name: str
    is_by_position: bool
    """Whether it can only be filled by position."""
    is_by_keyword: bool
    """Whether it can only be filled by keyword."""
    has_default: bool


def parameters_of(receiver: Receiver) -> tuple[list[Parameter], bool]:
    """The parameters of a callable, and whether it also accepts ``**kwargs``.

    Raises:
        ValueError: It has no readable signature.
        TypeError: The same.
    """
    if type(receiver) is FunctionType and not receiver.__dict__:
        return _of_function(receiver), bool(receiver.__code__.co_flags & CO_VARKEYWORDS)
    from inspect import Parameter as Found
    from inspect import signature

    found = signature(_described(receiver)).parameters.values()
    parameters = [
        Parameter(
            each.name,
            each.kind is Found.POSITIONAL_ONLY,
            each.kind is Found.KEYWORD_ONLY,
            each.default is not Found.empty,
        )
        for each in found
        if each.kind not in (Found.VAR_POSITIONAL, Found.VAR_KEYWORD)
    ]
    return parameters, any(each.kind is Found.VAR_KEYWORD for each in found)


def _of_function(function: FunctionType) -> list[Parameter]:
    """The parameters of a function without attributes that change its signature.

    The same as those of ``inspect.signature``, without importing it.
    """
    code = function.__code__
    count = code.co_argcount
    first_default = count - len(function.__defaults__ or ())
    keyword_defaults = function.__kwdefaults__ or {}
    names = code.co_varnames
    parameters = [
        Parameter(names[place], place < code.co_posonlyargcount, False, place >= first_default)
        for place in range(count)
    ]
    parameters.extend(
        Parameter(name, False, True, name in keyword_defaults)
        for name in names[count : count + code.co_kwonlyargcount]
    )
    return parameters


def _described(receiver: Receiver) -> Receiver:
    """What to read the signature from, instead of an object with a ``__call__``.

    ``inspect`` would read attributes of the object and compare them, which runs the object's own
    code. The ``__call__`` of its type, which is what Python itself calls, avoids this.
    """
    if is_class(receiver) or issubclass(type(receiver), partial) or _is_routine(receiver):
        return receiver
    kind: Any = type(receiver)
    return kind.__call__.__get__(receiver, kind)  # type: ignore[no-any-return]  # a bound method


def _is_routine(receiver: Any) -> bool:
    from inspect import isroutine

    try:  # not one whose __class__ differs from its type
        return receiver.__class__ is type(receiver) and isroutine(receiver)
    except Exception:
        return False


def is_async_receiver(receiver: Receiver) -> bool:
    """Whether the receiver is known to return a coroutine; False if it isn't known."""
    if type(receiver) is FunctionType and not receiver.__dict__:
        return bool(receiver.__code__.co_flags & CO_COROUTINE)
    from inspect import iscoroutinefunction

    target = without_partials(receiver)
    if is_class(target):
        return False  # calling a class makes an instance, even if the instance's __call__ is async
    if iscoroutinefunction(type(target).__call__):
        return True
    try:
        return iscoroutinefunction(target)
    except Exception:  # inspect reads attributes, which may run code of the receiver
        return False


def problem_of_generators(receiver: Receiver) -> str | None:
    """Why a generator function can't be a receiver; None for anything else.

    Calling it makes a generator and runs none of its body. The exception is one that
    ``types.coroutine`` has made awaitable.
    """
    called: Any = receiver
    if type(called) is not FunctionType:
        called = _function_in(called)
        if called is None:
            return None
    flags = called.__code__.co_flags
    if not flags & (CO_GENERATOR | CO_ASYNC_GENERATOR) or flags & CO_ITERABLE_COROUTINE:
        return None
    kind = "an async generator" if flags & CO_ASYNC_GENERATOR else "a generator"
    return (
        f"is {kind} function, whose body would never run; return what it yields, as a list, or "
        f"give a function that runs it to its end"
    )


def is_annotation(thing: Any) -> bool:
    """Whether this is an annotation such as ``Mapped[int]`` or ``list[Post]``, and not a class."""
    return issubclass(type(thing), _ANNOTATIONS)


def problem_of_kind(receiver: Any) -> str | None:
    """Why something can't be a receiver, whatever its signature is; None if it may be one."""
    kind = type(receiver)
    if kind is FunctionType:
        return _problem_of_self(receiver)
    if issubclass(kind, CoroutineType):
        return "is a coroutine, which runs once; connect the async function, without calling it"
    if is_annotation(receiver):
        return (
            "is a type annotation, neither a receiver nor a sender; to name a sender, give the "
            "class itself"
        )
    if kind is ref:
        return "is a weak reference; connect the receiver itself, with weak=True"
    return _problem_of_signal(receiver) or get_adapter().problem_of_receiver(receiver)


def _problem_of_signal(thing: Any) -> str | None:
    """Why a signal, or a method of one, can't be a receiver; None for anything else."""
    is_method = type(thing) is MethodType
    owner: Any = thing.__self__ if is_method else thing
    if not is_signal(owner):
        return None
    called: Any = thing.__func__ if is_method else type(thing).__call__
    if called.__module__.partition(".")[0] != "aksara_signals":
        return None  # a method that a user's subclass of Signal defines
    return (
        f"is the signal {owner.display_name}, or a method of it; to pass a send on, connect a "
        f"function that sends what it is given"
    )


def _problem_of_self(function: Any) -> str | None:
    """Why a function in a class body can't be a receiver: nothing would fill ``self`` or ``cls``.

    None for any other function.
    """
    code = function.__code__
    if not code.co_argcount or code.co_varnames[0] not in ("self", "cls"):
        return None
    name: str = function.__qualname__
    owner = name.rpartition(".")[0]
    if not owner or owner.endswith("<locals>"):
        return None
    return (
        f"is a method without its object: nothing fills {code.co_varnames[0]}; connect the bound "
        f"method once there is an object, or write @staticmethod below the decorator"
    )


def problem_without_arguments(receiver: Receiver) -> str | None:
    """Why a receiver can't be called without arguments; None if it can."""
    try:
        parameters, _ = parameters_of(receiver)
    except Exception:  # not known; if it can't, the call will raise
        return None
    for parameter in parameters:
        if not parameter.has_default:
            return (
                f"has a parameter {parameter.name} that nothing fills; bind it, as in "
                f"lambda: notify(post.id)"
            )
    return None


def _function_in(thing: Any) -> FunctionType | None:
    """The function that is called when something is called; None if it isn't written in Python."""
    found = _unbound(thing)
    if type(found) is not FunctionType and not is_class(found):
        kind: Any = type(found)
        found = _unbound(kind.__call__)
    return found if type(found) is FunctionType else None


def _unbound(thing: Any) -> Any:
    """The callable inside any number of methods and partials."""
    while True:
        if type(thing) is MethodType:
            thing = thing.__func__
        elif issubclass(type(thing), partial):
            thing = thing.func
        else:
            return thing

"""``pre_init`` and ``post_init``: constructors are wrapped only while a receiver is connected.

SQLAlchemy has an event before construction and none after it. So the function is wrapped that its
instrumentation calls once per construction.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any

from aksara_signals.orm.bridge.classes import mapping_lock, wrap_init, wrap_inits
from aksara_signals.orm.mapping.registered import Upkeep, is_wired, wired_classes
from aksara_signals.orm.sending import runs_of_signal, send
from aksara_signals.signals import post_init, pre_init


@Upkeep
def wrap_constructors() -> None:
    """Wrap the construction of every wired class, or of none if no receiver is connected."""
    wrap_inits(wired_classes() if _has_receivers() else [], _wrapped)


def wrap_constructor(cls: type) -> None:
    """Wrap the construction of a class that has just been mapped, if a receiver is connected."""
    with mapping_lock:
        if _has_receivers() and is_wired(cls):
            wrap_init(cls, _wrapped)


def _has_receivers() -> bool:
    return pre_init.is_connected or post_init.is_connected


def _wrapped(construct: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(construct)

    @functools.wraps(construct)
    def init(self: object, *args: Any, **kwargs: Any) -> None:
        cls = type(self)
        if pre_init.plan_for(cls):
            positional, keywords = _by_name(signature, self, args, kwargs)
            send(runs_of_signal(pre_init, cls, {"args": positional, "kwargs": keywords}))
            construct(self, *positional, **keywords)
        else:
            construct(self, *args, **kwargs)
        if post_init.plan_for(cls):
            send(runs_of_signal(post_init, cls, {"instance": self}))

    return init


def _by_name(
    signature: inspect.Signature, instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a constructor, as many as possible by name.

    SQLAlchemy passes every declared parameter by position, including those left at their default.
    Values that are the default are dropped, so that receivers see what was really given.
    """
    bound = signature.bind(instance, *args, **kwargs)
    # If there are values for *args, every parameter before it has to be given by position.
    has_rest = any(
        signature.parameters[name].kind is Parameter.VAR_POSITIONAL for name in bound.arguments
    )
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for place, (name, value) in enumerate(bound.arguments.items()):
        parameter = signature.parameters[name]
        if place == 0:
            continue  # self
        if parameter.kind is Parameter.VAR_POSITIONAL:
            positional.extend(value)
        elif parameter.kind is Parameter.VAR_KEYWORD:
            keywords.update(value)
        elif parameter.kind is Parameter.POSITIONAL_ONLY or (
            has_rest and parameter.kind is Parameter.POSITIONAL_OR_KEYWORD
        ):
            positional.append(value)
        elif value is not parameter.default:
            keywords[name] = value
    return positional, keywords

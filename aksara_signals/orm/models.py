"""Which mapped classes send signals."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import registry

from aksara_signals.dispatch.describing import describe_sender
from aksara_signals.dispatch.identity import is_class, mro_of
from aksara_signals.dispatch.several import members_of
from aksara_signals.exceptions import InvalidOptionError, UnmappedClassError
from aksara_signals.orm import bridge

__all__ = [
    "Upkeep",
    "is_model",
    "is_wired",
    "register",
    "unregister",
    "watchers",
    "wire",
    "wired_classes",
    "wiring",
]

_bases: weakref.WeakSet[type] = weakref.WeakSet()
"""The mixin and whatever was registered; their mapped subclasses send signals."""

_mixins: weakref.WeakSet[type] = weakref.WeakSet()
"""Those of them whose subclasses are all meant to be mapped, or to be bases of mapped classes."""

watchers: list[Callable[[], object]] = []
"""Called after classes were registered or unregistered."""

_wiring = object()


class Upkeep:
    """What is brought in line with who is connected and which classes there are.

    Threads that call it at once take turns, and each finds its own change heeded afterwards. A
    finaliser that connects calls it in the midst of itself: then it is done once more.

    Args:
        bring_in_line: Does it, from whatever state it is in.
    """

    __slots__ = ("_bring_in_line", "_is_under_way", "_is_wanted")

    def __init__(self, bring_in_line: Callable[[], object]) -> None:
        self._bring_in_line = bring_in_line
        self._is_wanted = False
        self._is_under_way = False

    def __call__(self) -> None:
        """Do it, and again if it was asked for in the meantime."""
        with bridge.mapping_lock:
            self._is_wanted = True
            if self._is_under_way:
                return
            self._is_under_way = True
            try:
                while self._is_wanted:
                    self._is_wanted = False
                    self._bring_in_line()
            finally:
                self._is_under_way = False


def wire(base: type) -> None:
    """Make the mapped subclasses of a base send signals, whether or not there are any yet."""
    _mixins.add(base)
    _bases.add(base)
    _bases_changed()


def is_wired(cls: type) -> bool:
    """Whether a mapped class sends signals."""
    return any(base in _bases for base in cls.__mro__)


def is_model(cls: type) -> bool:
    """Whether a class is mapped, or is there to be inherited by mapped classes."""
    if inspect(cls, raiseerr=False) is not None or any(base in _mixins for base in mro_of(cls)):
        return True
    return any(
        isinstance(getattr(cls, name, None), registry) for name in ("registry", "_sa_registry")
    )


def wiring() -> object:
    """Another object whenever :func:`is_wired` may answer otherwise; to be asked for first."""
    return _wiring


def wired_classes() -> list[type]:
    """Every live mapped class that sends signals."""
    return [cls for cls in bridge.mapped_classes() if is_wired(cls)]


def register(*classes: type | Iterable[type]) -> None:
    """Make mapped classes send signals that don't inherit :class:`SignalMixin`.

    Args:
        classes: Mapped classes, or bases of mapped classes, each alone or in a list; their
            subclasses, present and to come, are included. ``register(object)`` means every mapped
            class.

    Raises:
        UnmappedClassError: One of them is not mapped and no base of a mapped class. None of them is
            registered then.
        InvalidOptionError: No class is named.
    """
    named = _classes_of(classes, "register")
    for cls in named:
        if not _can_be_registered(cls):
            raise UnmappedClassError(
                f"register() was given {describe_sender(cls)}, which SQLAlchemy doesn't map and "
                f"from which no mapped class inherits; map it first, or register its mapped "
                f"subclasses"
            )
    _bases.update(named)
    _bases_changed()


def unregister(*classes: type | Iterable[type]) -> None:
    """Undo :func:`register` for these classes; what was not registered is passed over.

    Raises:
        UnmappedClassError: One of them is no class. None of them is unregistered then.
        InvalidOptionError: No class is named.
    """
    for cls in _classes_of(classes, "unregister"):
        _bases.discard(cls)
    _bases_changed()


def _classes_of(given: tuple[Any, ...], function: str) -> list[type]:
    classes: list[type] = []
    for each in given:
        members = members_of(each)
        classes += (each,) if members is None else members
    if not classes:
        raise InvalidOptionError(
            f"{function}() was given no class; name mapped classes or a base of them, or object "
            f"for every mapped class"
        )
    for cls in classes:
        if not is_class(cls):
            if bridge.state_of(cls) is not None:
                way_out = f"give its class, {describe_sender(type(cls))}"
            else:
                way_out = "map it first, if that is what it stands for, and give the class itself"
            raise UnmappedClassError(
                f"{function}() was given {describe_sender(cls)}, which is no class; {way_out}"
            )
    return classes


def _can_be_registered(cls: type) -> bool:
    # A declarative base is registered before its first model exists.
    if cls is object or is_model(cls):
        return True
    return any(cls in mro_of(mapped) for mapped in bridge.mapped_classes())


def _bases_changed() -> None:
    global _wiring  # noqa: PLW0603 - one name for one value that is replaced in one step
    _wiring = object()
    for watcher in watchers:
        watcher()

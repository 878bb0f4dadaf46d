"""Which mapped classes send signals."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable

from sqlalchemy import inspect
from sqlalchemy.orm import registry

from aksara_signals.dispatch.receivers.identity import mro_of
from aksara_signals.orm.bridge.classes import mapped_classes, mapping_lock

_bases: weakref.WeakSet[type] = weakref.WeakSet()
"""The mixin and whatever was registered; their mapped subclasses send signals."""

_mixins: weakref.WeakSet[type] = weakref.WeakSet()
"""Those of them whose subclasses are all meant to be mapped, or to be bases of mapped classes."""

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
        with mapping_lock:
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
    return [cls for cls in mapped_classes() if is_wired(cls)]


def add_bases(classes: Iterable[type]) -> None:
    """Make the mapped subclasses of these classes send signals."""
    _bases.update(classes)
    _bases_changed()


def discard_bases(classes: Iterable[type]) -> None:
    """Undo :func:`add_bases`, and :func:`wire`, for these classes."""
    _bases.difference_update(classes)
    _bases_changed()


def _bases_changed() -> None:
    global _wiring  # noqa: PLW0603 - one name for one value that is replaced in one step
    _wiring = object()

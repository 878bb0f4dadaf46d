"""Which mapped classes send signals."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable

from sqlalchemy import inspect
from sqlalchemy.orm import registry

from aksara_signals.dispatch.receivers.identity import mro_of
from aksara_signals.orm.bridge.classes import mapped_classes, mapping_lock

_bases: weakref.WeakSet[type] = weakref.WeakSet()
"""The mixin and registered classes; their mapped subclasses send signals."""

_mixins: weakref.WeakSet[type] = weakref.WeakSet()
"""Those bases whose subclasses are all mapped classes, or bases of mapped classes."""


class Upkeep:
    """A function that brings something in line with the connections and the mapped classes.

    Threads that call it at the same time are serialised by a lock, and each change is taken into
    account when its call returns. A finaliser that connects a receiver may call it recursively;
    then the running call repeats the work.

    Args:
        bring_in_line: The function. It must work from any previous state.
    """

    __slots__ = ("_bring_in_line", "_is_under_way", "_is_wanted")

    def __init__(self, bring_in_line: Callable[[], object]) -> None:
        self._bring_in_line = bring_in_line
        self._is_wanted = False
        self._is_under_way = False

    def __call__(self) -> None:
        """Call the function, and repeat it if it was called in the meantime."""
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
    """Make the mapped subclasses of a base send signals, including future ones."""
    _mixins.add(base)
    _bases.add(base)


def is_wired(cls: type) -> bool:
    """Whether a mapped class sends signals."""
    return any(base in _bases for base in cls.__mro__)


def is_model(cls: type) -> bool:
    """Whether a class is mapped, or is a base for mapped classes."""
    if inspect(cls, raiseerr=False) is not None or any(base in _mixins for base in mro_of(cls)):
        return True
    return any(
        isinstance(getattr(cls, name, None), registry) for name in ("registry", "_sa_registry")
    )


def wired_classes() -> list[type]:
    """Every live mapped class that sends signals."""
    return [cls for cls in mapped_classes() if is_wired(cls)]


def add_bases(classes: Iterable[type]) -> None:
    """Make the mapped subclasses of these classes send signals."""
    _bases.update(classes)


def discard_bases(classes: Iterable[type]) -> None:
    """Undo :func:`add_bases`, and :func:`wire`, for these classes."""
    _bases.difference_update(classes)

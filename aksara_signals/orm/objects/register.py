"""``register()`` and ``unregister()``: signals for mapped classes that don't inherit the mixin."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aksara_signals.dispatch.receivers.identity import is_class, mro_of
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.dispatch.receivers.several import members_of
from aksara_signals.exceptions import InvalidOptionError, UnmappedClassError
from aksara_signals.orm.bridge.classes import mapped_classes
from aksara_signals.orm.bridge.states import state_of
from aksara_signals.orm.construction import wrap_constructors
from aksara_signals.orm.flush.recipients import forget_recipients
from aksara_signals.orm.mapping.registered import add_bases, discard_bases, is_model
from aksara_signals.orm.relations.origins import attach_listeners


def register(*classes: type | Iterable[type]) -> None:
    """Make mapped classes send signals without inheriting :class:`SignalMixin`.

    Args:
        classes: Mapped classes, or bases of mapped classes, one by one or in lists. Their
            subclasses are included, also future ones. ``register(object)`` means every mapped
            class.

    Raises:
        UnmappedClassError: One of them is neither mapped nor a base of a mapped class. None of them
            is registered then.
        InvalidOptionError: No class was given.
    """
    named = _classes_of(classes, "register")
    for cls in named:
        if not _can_be_registered(cls):
            raise UnmappedClassError(
                f"register() was given {describe_sender(cls)}, which SQLAlchemy doesn't map and "
                f"from which no mapped class inherits; map it first, or register its mapped "
                f"subclasses"
            )
    add_bases(named)
    _wiring_changed()


def unregister(*classes: type | Iterable[type]) -> None:
    """Undo :func:`register` for these classes; classes that are not registered are ignored.

    Raises:
        UnmappedClassError: One of them is not a class. None of them is unregistered then.
        InvalidOptionError: No class was given.
    """
    discard_bases(_classes_of(classes, "unregister"))
    _wiring_changed()


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
            if state_of(cls) is not None:
                way_out = f"give its class, {describe_sender(type(cls))}"
            else:
                way_out = "map it first, if that is what it stands for, and give the class itself"
            raise UnmappedClassError(
                f"{function}() was given {describe_sender(cls)}, which is not a class; {way_out}"
            )
    return classes


def _can_be_registered(cls: type) -> bool:
    # A declarative base is registered before its first model exists.
    if cls is object or is_model(cls):
        return True
    return any(cls in mro_of(mapped) for mapped in mapped_classes())


def _wiring_changed() -> None:
    wrap_constructors()
    attach_listeners()
    forget_recipients()

"""Mapped classes and their constructors."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import (
    Mapper,
    MapperProperty,
    RelationshipProperty,
    mapperlib,
)

mapping_lock: AbstractContextManager[bool] = mapperlib._CONFIGURE_MUTEX
"""SQLAlchemy's own, re-entrant, held wherever classes are mapped and configured. What follows the
classes there are is done under this lock and no other, which would be taken in either order."""


def mapped_classes() -> Iterator[type]:
    """Every live mapped class, also while other threads map more."""
    for registry in mapperlib._all_registries():
        for reference in registry._managers.keyrefs():
            manager = reference()
            if manager is not None and manager.is_mapped:  # it is there before its mapper is
                yield manager.class_


def is_own_attribute(attribute: Any) -> bool:
    """Whether an attribute is a class's very own, and not an alias's, or narrowed for a query."""
    cls = attribute.class_
    return isinstance(cls, type) and getattr(cls, attribute.key, None) is attribute


def property_of(attribute: Any) -> MapperProperty[Any] | None:
    """The property behind a mapped attribute; None of a hybrid. It configures no mappers."""
    if issubclass(type(attribute), MapperProperty):
        found: Any = attribute
    else:
        found = getattr(attribute, "prop", None)
    return found if issubclass(type(found), MapperProperty) else None


def place_of(prop: MapperProperty[Any] | None) -> tuple[type | None, str | None]:
    """The class and the name of a property, as far as it has been mapped."""
    mapper = getattr(prop, "parent", None)
    return (None, None) if prop is None or mapper is None else (mapper.class_, prop.key)


def has_secondary(prop: RelationshipProperty[Any]) -> bool:
    """Whether a relationship is a many-to-many one, also before its mapper is configured."""
    return _secondary_of(prop) is not None


Wrapper = Callable[[Callable[..., None]], Callable[..., None]]

_original_inits: weakref.WeakKeyDictionary[Any, Callable[..., None]] = weakref.WeakKeyDictionary()


def wrap_inits(classes: Iterable[type], wrapper: Wrapper) -> None:
    """Put a function around the construction of these mapped classes, and of no others.

    What is wrapped already stays so all the time: other threads construct meanwhile.
    """
    managers: set[Any] = {inspect(cls).class_manager for cls in classes}
    for manager, original in list(_original_inits.items()):
        if manager not in managers:
            manager.original_init = original
            del _original_inits[manager]
    for cls in classes:
        wrap_init(cls, wrapper)


def wrap_init(cls: type, wrapper: Wrapper) -> None:
    """Put a function around the construction of a mapped class, not of its subclasses.

    SQLAlchemy calls ``original_init`` once per construction, however long the chain of
    ``super().__init__`` is.
    """
    manager: Any = inspect(cls).class_manager
    if manager not in _original_inits:
        _original_inits[manager] = manager.original_init
        manager.original_init = wrapper(manager.original_init)


def is_secondary(table: object) -> bool:
    """Whether a table is the secondary one of a relationship; configures no mapper."""
    for cls in mapped_classes():
        mapper: Mapper[Any] = inspect(cls)
        for prop in tuple(mapper._props.values()):
            if isinstance(prop, RelationshipProperty) and _secondary_is(prop, table):
                return True
    return False


def _secondary_is(prop: RelationshipProperty[Any], table: Any) -> bool:
    """Whether it is the relationship's, or may be, where nobody has looked yet."""
    secondary = _secondary_of(prop)
    if isinstance(secondary, str):
        return secondary in (getattr(table, "name", None), getattr(table, "fullname", None))
    return secondary is table or callable(secondary)


def _secondary_of(prop: RelationshipProperty[Any]) -> Any:
    """What was given as ``secondary``, or what became of it when the mapper was configured."""
    given: Any = prop._init_args.secondary
    return given.argument if given.resolved is None else given.resolved

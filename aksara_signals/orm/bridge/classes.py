"""Mapped classes and their constructors."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import (
    CompositeProperty,
    Mapper,
    MapperProperty,
    RelationshipProperty,
    mapperlib,
)

mapping_lock: AbstractContextManager[bool] = mapperlib._CONFIGURE_MUTEX
"""SQLAlchemy's own re-entrant lock, held wherever classes are mapped and configured.

Whatever depends on the mapped classes is done under this lock. With a second lock, two threads
could take the two in opposite order."""


def mapped_classes() -> Iterator[type]:
    """Every live mapped class, also while other threads map more."""
    for registry in mapperlib._all_registries():
        for reference in registry._managers.keyrefs():
            manager = reference()
            if manager is not None and manager.is_mapped:  # a manager exists before its mapper does
                yield manager.class_


def is_own_attribute(attribute: Any) -> bool:
    """Whether an attribute is a class's own, not that of an alias or narrowed by ``of_type()``."""
    cls = attribute.class_
    return isinstance(cls, type) and getattr(cls, attribute.key, None) is attribute


def property_of(attribute: Any) -> MapperProperty[Any] | None:
    """The property behind a mapped attribute; None for a hybrid. Configures no mappers."""
    if issubclass(type(attribute), MapperProperty):
        found: Any = attribute
    else:
        found = getattr(attribute, "prop", None)
    return found if issubclass(type(found), MapperProperty) else None


def properties_of(mapper: Mapper[Any]) -> dict[str, MapperProperty[Any]]:
    """The properties of a mapper by name, as far as they are known; configures no mappers."""
    return dict(mapper._props)


def composite_values(prop: CompositeProperty[Any], value: Any) -> tuple[Any, ...] | None:
    """The values of the columns of a composite; None if the value is of another class."""
    if value is None:
        return (None,) * len(prop.props)
    kind: Any = prop.composite_class
    if isinstance(kind, type) and not isinstance(value, kind):
        return None
    return prop._composite_values_from_instance(value)


def place_of(prop: MapperProperty[Any] | None) -> tuple[type | None, str | None]:
    """The class and the name of a property; ``(None, None)`` before it has been mapped."""
    mapper = getattr(prop, "parent", None)
    return (None, None) if prop is None or mapper is None else (mapper.class_, prop.key)


def has_secondary(prop: RelationshipProperty[Any]) -> bool:
    """Whether a relationship has ``secondary=``; known before its mapper is configured."""
    return _secondary_of(prop) is not None


Wrapper = Callable[[Callable[..., None]], Callable[..., None]]

_original_inits: weakref.WeakKeyDictionary[Any, Callable[..., None]] = weakref.WeakKeyDictionary()


def wrap_inits(classes: Iterable[type], wrapper: Wrapper) -> None:
    """Wrap the construction of these mapped classes, and unwrap that of all others.

    A class that is wrapped already is not unwrapped in between: other threads may be constructing
    instances.
    """
    managers: set[Any] = {inspect(cls).class_manager for cls in classes}
    for manager, original in list(_original_inits.items()):
        if manager not in managers:
            manager.original_init = original
            del _original_inits[manager]
    for cls in classes:
        wrap_init(cls, wrapper)


def wrap_init(cls: type, wrapper: Wrapper) -> None:
    """Wrap the construction of a mapped class, not of its subclasses.

    SQLAlchemy calls ``original_init`` once per construction, however many ``__init__`` methods call
    ``super().__init__()``.
    """
    manager: Any = inspect(cls).class_manager
    if manager not in _original_inits:
        _original_inits[manager] = manager.original_init
        manager.original_init = wrapper(manager.original_init)


def is_secondary(table: object) -> bool:
    """Whether a table is the ``secondary`` of any relationship; configures no mapper."""
    for cls in mapped_classes():
        mapper: Mapper[Any] = inspect(cls)
        for prop in tuple(mapper._props.values()):
            if isinstance(prop, RelationshipProperty) and _secondary_is(prop, table):
                return True
    return False


def _secondary_is(prop: RelationshipProperty[Any], table: Any) -> bool:
    """Whether a table is a relationship's ``secondary``, or may be, if that isn't resolved yet."""
    secondary = _secondary_of(prop)
    if isinstance(secondary, str):
        return secondary in (getattr(table, "name", None), getattr(table, "fullname", None))
    return secondary is table or callable(secondary)


def _secondary_of(prop: RelationshipProperty[Any]) -> Any:
    """The argument given as ``secondary``; resolved, once the mapper is configured."""
    given: Any = prop._init_args.secondary
    return given.argument if given.resolved is None else given.resolved

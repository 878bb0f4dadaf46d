"""Mapped classes and their constructors."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import (
    mapperlib,
)

__all__ = ["mapped_classes", "unwrap_inits", "wrap_init"]


def mapped_classes() -> Iterator[type]:
    """Every live mapped class."""
    for registry in list(mapperlib._all_registries()):
        for mapper in list(registry.mappers):
            yield mapper.class_


_original_inits: weakref.WeakKeyDictionary[Any, Callable[..., None]] = weakref.WeakKeyDictionary()


def wrap_init(cls: type, wrapper: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Put a function around the construction of a mapped class, not of its subclasses.

    SQLAlchemy calls ``original_init`` once per construction, however long the chain of
    ``super().__init__`` is.
    """
    manager: Any = inspect(cls).class_manager
    _original_inits[manager] = manager.original_init
    manager.original_init = wrapper(manager.original_init)


def unwrap_inits() -> None:
    """Undo every :func:`wrap_init`."""
    for manager, original in list(_original_inits.items()):
        manager.original_init = original
    _original_inits.clear()

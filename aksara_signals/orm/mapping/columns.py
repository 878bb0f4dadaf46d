"""The plain columns of a mapped class."""

from __future__ import annotations

import weakref
from typing import Any

from sqlalchemy import Column
from sqlalchemy.orm import Mapper

__all__ = ["columns_of", "key_names"]

_columns: weakref.WeakKeyDictionary[Mapper[Any], dict[str, Column[Any]]] = (
    weakref.WeakKeyDictionary()
)
_keys: weakref.WeakKeyDictionary[Mapper[Any], tuple[str, ...]] = weakref.WeakKeyDictionary()


def columns_of(mapper: Mapper[Any]) -> dict[str, Column[Any]]:
    """Attribute names and their columns; SQL expressions are left out."""
    found = _columns.get(mapper)
    if found is None:
        found = _columns[mapper] = {
            prop.key: prop.columns[0]
            for prop in mapper.column_attrs
            if isinstance(prop.columns[0], Column)
        }
    return found


def key_names(mapper: Mapper[Any]) -> tuple[str, ...]:
    """The attributes of the primary key, in its order."""
    found = _keys.get(mapper)
    if found is None:
        found = _keys[mapper] = tuple(
            mapper.get_property_by_column(column).key for column in mapper.primary_key
        )
    return found

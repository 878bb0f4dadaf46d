"""The plain columns of a mapped class, and its attributes by name."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, ColumnElement, and_, inspect
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import QueryableAttribute

from aksara_signals.dispatch.describing import describe_sender
from aksara_signals.dispatch.registry import nearest
from aksara_signals.exceptions import UnknownFieldError

__all__ = ["attribute_named", "columns_of", "key_names", "matching"]

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


def attribute_named(model: type, name: str) -> QueryableAttribute[Any]:
    """The mapped attribute of a name, synonyms and association proxies included.

    Raises:
        UnknownFieldError: There is none.
    """
    mapper: Mapper[Any] = inspect(model)
    if name not in mapper.all_orm_descriptors:
        hint = ""
        if "__" in name:
            hint = (
                f"; it takes equality only, and richer criteria as expressions: "
                f"filter({model.__name__}.column > 5)"
            )
        known = ["pk", *mapper.all_orm_descriptors.keys()]
        raise UnknownFieldError(
            f"{name!r} is no attribute of {describe_sender(model)}{nearest(name, known)}{hint}"
        )
    attribute: QueryableAttribute[Any] = getattr(model, name)
    return attribute


def matching(
    model: type, given: Iterable[ColumnElement[bool]], equals: dict[str, Any]
) -> tuple[ColumnElement[bool], ...]:
    """The criteria of a ``filter(…)``.

    Args:
        model: The class.
        given: SQL expressions.
        equals: Attribute names and what they must equal. ``pk`` is the primary key, a tuple if it
            has several columns, unless the class has an attribute of that name.

    Raises:
        UnknownFieldError: A name is no attribute, or ``pk`` has not as many values as the key.
    """
    found = [*given]
    for name, value in equals.items():
        if name == "pk" and "pk" not in inspect(model).all_orm_descriptors:
            found.append(_key_equals(model, value))
        else:
            found.append(attribute_named(model, name) == value)
    return tuple(found)


def _key_equals(model: type, value: Any) -> ColumnElement[bool]:
    names = key_names(inspect(model))
    values = value if isinstance(value, tuple) else (value,)
    if len(values) != len(names):
        raise UnknownFieldError(
            f"pk= was given {len(values)} value(s), and the primary key of "
            f"{describe_sender(model)} consists of {', '.join(names)}; give a tuple in that order"
        )
    return and_(*(getattr(model, name) == each for name, each in zip(names, values, strict=True)))

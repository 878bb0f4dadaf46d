"""Values of mapped attributes that can't be right: refused in words before SQLAlchemy fails."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import FunctionType
from typing import Any
from uuid import UUID

from sqlalchemy.orm import ColumnProperty, RelationshipProperty
from sqlalchemy.types import TypeDecorator
from sqlalchemy.util import duck_type_collection

from aksara_signals.dispatch.describing import describe_sender
from aksara_signals.dispatch.identity import is_class
from aksara_signals.dispatch.several import members_of
from aksara_signals.orm import bridge
from aksara_signals.orm.sessions import is_session

__all__ = ["problem_of_comparison", "problem_of_value", "takes_one_value"]

_SINGLE = frozenset((bool, int, float, str, Decimal, UUID, date, datetime, time, timedelta))
"""Python's types of columns that hold one value, and no list or mapping of them."""


def problem_of_value(prop: Any, value: Any) -> str | None:
    """Why an attribute can't be set to a value, in words that go on after the value.

    Args:
        prop: What is mapped; anything but a column or a relationship takes whatever is given.
        value: Of any kind.
    """
    if isinstance(prop, ColumnProperty):
        return _problem_of_one(prop, value)
    if not isinstance(prop, RelationshipProperty):
        return None
    target = prop.mapper.class_
    if not prop.uselist:
        if value is None or isinstance(value, target):
            return None
        return f"the relationship takes None or an instance of {describe_sender(target)}"
    if prop.lazy == "write_only":
        return f"the relationship is never loaded: change it by related({prop.key!r})"
    wanted = _collection_of(prop)
    members = value.values() if isinstance(value, dict) else value
    is_fit = duck_type_collection(value) is wanted
    if prop.lazy == "dynamic":  # whose members are added one by one
        is_fit = isinstance(value, Collection) and not isinstance(value, (str, bytes))
    if is_fit and all(isinstance(each, target) for each in members):
        return None
    return (
        f"the relationship takes a collection of {describe_sender(target)}: a {wanted.__name__} "
        f"of instances"
    )


def problem_of_comparison(prop: Any, value: Any) -> str | None:
    """Why no row can have a value, in words that go on after the value; None if one may."""
    if bridge.is_expression(value):
        return None
    if isinstance(prop, RelationshipProperty):
        if prop.uselist:
            return "a relationship to many is searched by an expression, such as .contains(…)"
        if value is None or isinstance(value, prop.mapper.class_):
            return None
        return (
            f"the relationship takes None or an instance of {describe_sender(prop.mapper.class_)}; "
            f"to search by a key, name its foreign key"
        )
    if not isinstance(prop, ColumnProperty):
        return None
    problem = _problem_of_one(prop, value)
    if problem is None and _holds_several(value) and takes_one_value(prop.columns[0]):
        return f"the column holds one value; for one of several write .{prop.key}.in_([…])"
    return problem


def takes_one_value(column: Any) -> bool:
    """Whether a column surely holds one value, and no list or mapping."""
    kind = column.type
    if isinstance(kind, TypeDecorator):
        return False  # what it makes of a list is its own business
    try:
        return kind.python_type in _SINGLE
    except NotImplementedError:  # a type that names none, says SQLAlchemy
        return False


def _problem_of_one(prop: ColumnProperty[Any], value: Any) -> str | None:
    if bridge.state_of(value) is not None:
        return "an instance is no value of a column: give its key, or name the relationship"
    is_code = is_class(value) or type(value) is FunctionType
    if (is_code and takes_one_value(prop.columns[0])) or is_session(value):
        return "the column takes a value"
    return None


def _holds_several(value: Any) -> bool:
    return isinstance(value, Mapping) or members_of(value) is not None


def _collection_of(prop: RelationshipProperty[Any]) -> type:
    made: Any = list if prop.collection_class is None else prop.collection_class
    return duck_type_collection(made() if callable(made) else made) or list

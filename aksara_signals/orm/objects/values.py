"""Checks of values for mapped attributes, with clearer errors than SQLAlchemy would raise."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from inspect import getattr_static
from types import FunctionType
from typing import Any
from uuid import UUID

from sqlalchemy import inspect
from sqlalchemy.orm import ColumnProperty, CompositeProperty, Mapper, RelationshipProperty
from sqlalchemy.types import TypeDecorator
from sqlalchemy.util import duck_type_collection

from aksara_signals.dispatch.receivers.identity import is_class
from aksara_signals.dispatch.receivers.naming import describe_sender, nearest, shortened
from aksara_signals.dispatch.receivers.several import members_of
from aksara_signals.exceptions import InvalidOptionError, UnknownFieldError
from aksara_signals.orm.bridge.column_edits import is_expression
from aksara_signals.orm.bridge.states import state_of
from aksara_signals.orm.mapping.attributes import property_named, why_read_only
from aksara_signals.orm.mapping.info import info_of
from aksara_signals.orm.session.current import is_session

_SINGLE = frozenset((bool, int, float, str, Decimal, UUID, date, datetime, time, timedelta))
"""Python types of columns that hold one value, as opposed to a list or mapping."""


def problem_of_value(prop: Any, value: Any) -> str | None:
    """Why an attribute can't be set to a value, in words that go on after the value.

    Args:
        prop: The mapped property; anything but a column or a relationship takes any value.
        value: Any value.
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
    if prop.lazy == "dynamic":  # SQLAlchemy adds its members one by one
        is_fit = isinstance(value, Collection) and not isinstance(value, (str, bytes))
    if is_fit and all(isinstance(each, target) for each in members):
        return None
    return (
        f"the relationship takes a collection of {describe_sender(target)}: a {wanted.__name__} "
        f"of instances"
    )


def problem_of_comparison(prop: Any, value: Any) -> str | None:
    """Why a row can't have a value, in words that go on after the value; None if it can."""
    if is_expression(value):
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
    """Whether a column surely holds one value and not a list or mapping."""
    kind = column.type
    if isinstance(kind, TypeDecorator):
        return False  # it may accept a list
    try:
        return kind.python_type in _SINGLE
    except NotImplementedError:  # raised by types without a Python type
        return False


def _problem_of_one(prop: ColumnProperty[Any], value: Any) -> str | None:
    if state_of(value) is not None:
        return "an instance is not a value of a column: give its key, or name the relationship"
    is_code = is_class(value) or type(value) is FunctionType
    if (is_code and takes_one_value(prop.columns[0])) or is_session(value):
        return "the column takes a value"
    return None


def _holds_several(value: Any) -> bool:
    return isinstance(value, Mapping) or members_of(value) is not None


def _collection_of(prop: RelationshipProperty[Any]) -> type:
    made: Any = list if prop.collection_class is None else prop.collection_class
    return duck_type_collection(made() if callable(made) else made) or list


def require_column(model: type, name: str, value: Any) -> None:
    """Raise if one UPDATE statement can't write an attribute, or can't set it to a value.

    Raises:
        UnknownFieldError: The attribute is not a column, or is read-only.
        InvalidOptionError: The value is an instance, or something else that no column holds.
    """
    mapper: Mapper[Any] = inspect(model)
    reason = why_read_only(mapper, name)
    if reason is not None:
        raise UnknownFieldError(
            f"update() names {shortened(name)}, which {reason}; name columns of "
            f"{describe_sender(model)}"
        )
    found = property_named(mapper, name)
    is_column = found is not None and found.key in info_of(mapper).columns
    if not (is_column or isinstance(found, CompositeProperty)):
        raise UnknownFieldError(
            f"update() names {shortened(name)}, which is not a column, and one UPDATE statement "
            f"writes columns only; name the foreign key, or use .with_signals().update(…)"
        )
    problem = problem_of_value(found, value)
    if problem is not None:
        raise InvalidOptionError(
            f"update() was given {name}={describe_sender(type(value))}; {problem}"
        )


def require_values_for(model: type, values: Mapping[str, Any], operation: str) -> None:
    """Raise if values can't be set on an instance, before any of them is set.

    Args:
        model: A mapped class.
        values: Values by attribute name; the attributes may be Python properties with a setter.
        operation: The operation that sets them, for the error message.

    Raises:
        UnknownFieldError: A name is not an attribute, or one that can't be written.
        InvalidOptionError: A relationship is given anything but instances of its class, or a column
            is given an instance.
    """
    mapper: Mapper[Any] = inspect(model)
    known = mapper.all_orm_descriptors.keys()
    for name, value in values.items():
        if name not in known and not _has_setter(model, name):
            raise UnknownFieldError(
                f"{operation} names {shortened(name)}, which is not an attribute of "
                f"{describe_sender(model)} that can be set{nearest(name, known)}"
            )
        reason = why_read_only(mapper, name)
        if reason is not None:
            raise UnknownFieldError(
                f"{operation} names {shortened(name)}, which {reason}, so nothing would be "
                f"written; name other attributes of {describe_sender(model)}"
            )
        found = property_named(mapper, name)
        problem = problem_of_value(found, value)
        if problem is not None:
            raise InvalidOptionError(
                f"{operation} was given {name}={describe_sender(type(value))}; {problem}"
            )


def require_constructible(model: type, values: Mapping[str, Any], operation: str) -> None:
    """Raise if SQLAlchemy's constructor would fail over values, or if they would be lost.

    A constructor that the user has written may take any arguments, so nothing is checked for it.

    Raises:
        UnknownFieldError: A name is that of an attribute that can't be written.
        InvalidOptionError: A relationship is given anything but instances of its class, or a column
            is given an instance.
    """
    mapper: Mapper[Any] = inspect(model)
    if mapper.class_manager.original_init is mapper.registry.constructor:
        known = {name: value for name, value in values.items() if name in mapper.attrs}
        require_values_for(model, known, operation)


def _has_setter(model: type, name: str) -> bool:
    if name.startswith("__"):
        return False  # Python's own, such as __class__
    found = getattr_static(model, name, None)
    if isinstance(found, property):
        return found.fset is not None
    return hasattr(type(found), "__set__")

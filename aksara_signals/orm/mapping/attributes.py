"""Attributes of a mapped class by the names that users give, and which of them can be written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Column, inspect
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    ColumnProperty,
    CompositeProperty,
    Mapper,
    RelationshipProperty,
    SynonymProperty,
)
from sqlalchemy.orm.attributes import QueryableAttribute

from aksara_signals.dispatch.receivers.naming import describe_sender, shortened
from aksara_signals.exceptions import InvalidOptionError, UnknownFieldError


def field_name(model: type, given: Any, option: str) -> Any:
    """The name that was given, or the name of the mapped attribute that was given.

    Args:
        model: A mapped class.
        given: ``"title"`` or ``Post.title``; anything else is returned unchanged.
        option: The argument that it was given as, for the error message.

    Raises:
        UnknownFieldError: An attribute of another class was given.
    """
    if not isinstance(given, QueryableAttribute):
        return given
    mapper: Mapper[Any] = inspect(model)
    owner: Mapper[Any] = given.parent.mapper
    if not mapper.isa(owner):
        raise UnknownFieldError(
            f"{option} was given {owner.class_.__name__}.{given.key}, which is not an attribute of "
            f"{describe_sender(model)}"
        )
    return given.key


def field_names(model: type, given: Any, option: str) -> list[str]:
    """The names in an argument that takes several, as strings or mapped attributes.

    Raises:
        InvalidOptionError: The argument doesn't hold names.
        UnknownFieldError: The names come as one string or attribute, or one of them is neither.
    """
    if isinstance(given, (str, QueryableAttribute)):
        name = shortened(field_name(model, given, option))
        what = "string" if isinstance(given, str) else "attribute"
        raise UnknownFieldError(
            f"{option}={name} is one {what}; give a list of names: {option}=[{name}]"
        )
    if isinstance(given, Mapping):
        raise InvalidOptionError(
            f"{option} was given a dict; it takes names only: set the values first, or give them "
            f"to update(name=value)"
        )
    if not isinstance(given, Iterable):
        raise InvalidOptionError(
            f"{option} was given {describe_sender(given)}; it takes a list of names"
        )
    names: list[str] = []
    for each in given:
        name = field_name(model, each, option)
        if not isinstance(name, str):
            raise UnknownFieldError(
                f"{option} names {describe_sender(name)}, which is not a column of "
                f"{describe_sender(model)}; give names of attributes"
            )
        names.append(name)
    return names


def property_named(mapper: Mapper[Any], name: str) -> Any:
    """The property that is mapped under a name, with synonyms resolved; None if there is none."""
    found: Any = mapper.attrs.get(name)
    while isinstance(found, SynonymProperty):
        found = mapper.attrs.get(found.name)
    return found


def why_read_only(mapper: Mapper[Any], name: str) -> str | None:
    """Why a mapped attribute can't be written, in words that go on after "which"; else None."""
    found = property_named(mapper, name)
    if isinstance(found, CompositeProperty):
        reasons = (why_read_only(mapper, each.key) for each in found.props)
        return next((reason for reason in reasons if reason), None)
    if isinstance(found, ColumnProperty):
        column = found.columns[0]
        if not isinstance(column, Column):
            return "is SQL that is only read (a column_property)"
        return None if column.computed is None else "is computed by the database"
    if isinstance(found, RelationshipProperty):
        return "is a viewonly relationship" if found.viewonly else None
    hybrid = mapper.all_orm_descriptors.get(name)
    if isinstance(hybrid, hybrid_property) and hybrid.fset is None:
        return "is a hybrid property without a setter"
    return None

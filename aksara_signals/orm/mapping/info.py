"""Facts about a mapper that are computed once: its columns, its key, its relationships by kind."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

from sqlalchemy import Column
from sqlalchemy.orm import (
    CompositeProperty,
    Mapper,
    RelationshipDirection,
    RelationshipProperty,
)

from aksara_signals.orm.bridge.classes import properties_of
from aksara_signals.orm.bridge.history import reverse_keys
from aksara_signals.orm.bridge.states import has_delete_orphans

Relationship = RelationshipProperty[Any]

_INFO = "aksara_signals.info"
"""The key in the ``info`` of a class manager, so that both have the same lifetime."""


class Composite(NamedTuple):
    """An attribute that consists of several columns."""

    prop: CompositeProperty[Any]
    columns: tuple[str, ...]
    """The names of the attributes of its columns."""


class MapperInfo:
    """Facts about one mapper that the library needs again and again.

    Each is computed when it is first read. Most of them configure the mappers, but the key is
    needed while classes are still being defined.
    """

    def __init__(self, mapper: Mapper[Any]) -> None:
        self._mapper = mapper

    @cached_property
    def columns(self) -> dict[str, Column[Any]]:
        """Columns by attribute name, without SQL expressions."""
        return {
            prop.key: prop.columns[0]
            for prop in self._mapper.column_attrs
            if isinstance(prop.columns[0], Column)
        }

    @cached_property
    def column_keys(self) -> tuple[str, ...]:
        """The names of all column attributes, including SQL expressions."""
        return tuple(self._mapper.column_attrs.keys())

    @cached_property
    def composites(self) -> dict[str, Composite]:
        """Composites by attribute name; configures no mappers."""
        return {
            key: Composite(prop, tuple(each.key for each in prop.props))
            for key, prop in properties_of(self._mapper).items()
            if isinstance(prop, CompositeProperty)
        }

    @cached_property
    def key_names(self) -> tuple[str, ...]:
        """The attributes of the primary key, in its order."""
        return tuple(
            self._mapper.get_property_by_column(column).key for column in self._mapper.primary_key
        )

    @cached_property
    def _writable(self) -> list[Relationship]:
        return [each for each in self._mapper.relationships if not each.viewonly]

    @cached_property
    def has_relationships(self) -> bool:
        """Whether instances have links that a flush may write."""
        return bool(self._writable)

    @cached_property
    def has_orphans(self) -> bool:
        """Whether an instance can be an orphan, so that a flush deletes it."""
        return has_delete_orphans(self._mapper)

    @cached_property
    def many_to_one(self) -> list[Relationship]:
        """The relationships by which an instance refers to another one."""
        return [each for each in self._writable if _is_many_to_one(each)]

    @cached_property
    def owned(self) -> list[Relationship]:
        """The relationships by which an instance has members."""
        return [each for each in self._writable if not _is_many_to_one(each)]

    @cached_property
    def parents(self) -> list[tuple[Relationship, Relationship]]:
        """The many-to-one relationships, each with a relationship that is its other side."""
        return [
            (each, reverse)
            for each in self.many_to_one
            for key in reverse_keys(each)
            if not (reverse := each.mapper.relationships[key]).viewonly
        ]

    @cached_property
    def releasing(self) -> list[Relationship]:
        """The relationships that delete the members which are removed from them."""
        return [each for each in self.to_children if each.cascade.delete_orphan]

    @cached_property
    def to_children(self) -> list[Relationship]:
        """The relationships whose changes update or delete rows of their members."""
        return [
            each
            for each in self._writable
            if each.direction is RelationshipDirection.ONETOMANY or each.cascade.delete_orphan
        ]

    @cached_property
    def is_linked(self) -> bool:
        """Whether relationships can make an instance affect other rows, or others its row."""
        return self.has_orphans or bool(self.to_children)


def _is_many_to_one(prop: Relationship) -> bool:
    return prop.direction is RelationshipDirection.MANYTOONE


def info_of(mapper: Mapper[Any]) -> MapperInfo:
    """The facts about a mapper."""
    kept = mapper.class_manager.info
    found: MapperInfo | None = kept.get(_INFO)
    if found is None:
        found = kept[_INFO] = MapperInfo(mapper)
    return found

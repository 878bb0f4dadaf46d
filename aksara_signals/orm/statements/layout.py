"""How the rows of one table become instances: columns, attributes, classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import Any

from sqlalchemy import Column, table
from sqlalchemy import column as sql_column
from sqlalchemy.orm import ColumnProperty, Mapper

from aksara_signals.orm.bridge.results import Row, taking
from aksara_signals.orm.bridge.statements import key_columns_in
from aksara_signals.orm.mapping.info import info_of

Identity = tuple[Any, ...]
"""A primary key."""


class ClassLayout:
    """Where the values of one class stand in a row.

    Args:
        mapper: The mapper of the class.
        columns: The columns of a row.
        written: The attributes that the statement writes.
    """

    def __init__(
        self, mapper: Mapper[Any], columns: Sequence[Column[Any]], written: AbstractSet[str]
    ) -> None:
        self.mapper: Mapper[Any] = mapper
        self.cls: type[object] = mapper.class_
        places = _places(columns)
        self.places: dict[str, int] = {}
        """By the name of an attribute, the place of its value in a row."""
        self.missing: list[str] = []
        """The attributes that a query loads by default, or that are written, and that a row
        doesn't have."""
        self.unloaded: list[str] = []
        """The attributes that a copy doesn't have: reading one raises an error that names it."""
        for prop in mapper.column_attrs:
            found = [places[each] for each in prop.columns if each in places]
            if found:
                self.places[prop.key] = found[0]
            elif not isinstance(prop.columns[0], Column) or _is_left_out(prop, written):
                self.unloaded.append(prop.key)
            else:
                self.missing.append(prop.key)
        self.names: tuple[str, ...] = tuple(self.places)

    @cached_property
    def values_of(self) -> Callable[[Row], tuple[Any, ...]]:
        """Takes the values of ``names`` out of a row."""
        return taking([*self.places.values()])


class RowLayout:
    """The columns that are read of each row, and the classes that a row can be of.

    Args:
        mapper: The mapper that a statement writes to.
        classes: The mappers of the classes.
        columns: By the elements of RETURNING, the columns of a row.
        key: Those of the primary key.
        written: The attributes that the statement writes.
    """

    def __init__(
        self,
        mapper: Mapper[Any],
        classes: Sequence[Mapper[Any]],
        columns: Mapping[Any, Column[Any]],
        key: Sequence[Column[Any]],
        written: AbstractSet[str],
    ) -> None:
        self.mapper: Mapper[Any] = mapper
        self.columns: list[Column[Any]] = [*columns.values()]
        """The columns that are read of each row."""
        self.elements: list[Any] = [*columns]
        """What a RETURNING or a SELECT is given to read them."""
        places = _places(self.columns)
        discriminator = mapper.polymorphic_on if len(classes) > 1 else None
        self.discriminator: int | None = (
            None if discriminator is None else places.get(discriminator)
        )
        """The place of the value by which the classes differ, if a row has it."""
        self.is_ambiguous: bool = len(classes) > 1 and self.discriminator is None
        """Whether the class of a row has to be read from another table."""
        self.classes: dict[Mapper[Any], ClassLayout] = {
            each: ClassLayout(each, self.columns, written) for each in classes
        }
        self.key_places: list[int] = [places[column] for column in key]
        """The places of the primary key in a row."""
        self.identity_of: Callable[[Row], Identity] = taking(self.key_places)
        """Takes the primary key out of a row."""

    @cached_property
    def returned(self) -> list[Any]:
        """The elements, with names that collide with no others in a result."""
        return _labelled(self.elements, "_aksara")

    def returned_of(self, alias: Any) -> list[Any]:
        """The same of an alias of the table."""
        columns = [alias.corresponding_column(column) for column in self.columns]
        return _labelled(columns, "_aksara")

    @cached_property
    def returned_before(self) -> list[Any]:
        """What a RETURNING of PostgreSQL 18 has to be given to return the old values as well."""
        old = table("old", *(sql_column(each.name, each.type) for each in self.columns))
        return _labelled(old.c, "_aksara_old")

    @cached_property
    def identity_class(self) -> Any:
        """The first element of the identity keys of these rows."""
        return self.mapper.identity_key_from_primary_key(tuple(self.key_places))[0]

    @property
    def has_all_values(self) -> bool:
        """Whether a row has all values of its instance, whatever its class is."""
        return not self.is_ambiguous and not any(each.missing for each in self.classes.values())

    def class_of(self, row: Row) -> ClassLayout:
        """The class of a row that has a discriminator, or that can be of one class only."""
        if self.discriminator is None:
            return self.classes[self.mapper]
        return self.of_identity(row[self.discriminator])

    def of_identity(self, identity: object) -> ClassLayout:
        """The class of a polymorphic identity."""
        found = self.mapper.polymorphic_map.get(identity, self.mapper)
        return self.classes.get(found, self.classes[self.mapper])


def _labelled(elements: Iterable[Any], name: str) -> list[Any]:
    return [each.label(f"{name}_{place}") for place, each in enumerate(elements)]


def _places(columns: Sequence[Column[Any]]) -> dict[Any, int]:
    return {column: place for place, column in enumerate(columns)}


def _is_left_out(prop: ColumnProperty[Any], written: AbstractSet[str]) -> bool:
    """Whether a row doesn't have an attribute because a query wouldn't load it either.

    What the statement writes is needed for ``changes``.
    """
    return prop.deferred and prop.key not in written


_KEY = "aksara_signals.row_layout"


def layout_of_table(mapper: Mapper[Any], written: AbstractSet[str]) -> RowLayout | None:
    """How rows of the table of a mapper become instances; None if it lacks the primary key.

    Args:
        mapper: The mapper.
        written: The attributes that the statement writes.
    """
    kept = mapper.class_manager.info
    # A class may be mapped at any time.
    classes = classes_of_rows(mapper)
    attributes: Any = mapper.column_attrs
    if any(name in attributes and attributes[name].deferred for name in written):
        return _layout_of_table(mapper, classes, written)
    found: RowLayout | None = kept.get(_KEY)
    if found is None or len(found.classes) != len(classes):
        found = kept[_KEY] = _layout_of_table(mapper, classes, frozenset())
    return found


def _layout_of_table(
    mapper: Mapper[Any], classes: list[Mapper[Any]], names: AbstractSet[str]
) -> RowLayout | None:
    written: Any = mapper.local_table
    key = key_columns_in(mapper, written)
    if key is None:
        return None
    wanted: set[Any] = {
        column
        for each in classes
        for prop in each.column_attrs
        if not _is_left_out(prop, names)
        for column in prop.columns
    }
    wanted.update(key)
    if mapper.polymorphic_on is not None:
        wanted.add(mapper.polymorphic_on)
    columns = {column: column for column in written.c if column in wanted}
    return RowLayout(mapper, classes, columns, key, names)


def layout_of_class(mapper: Mapper[Any], written: AbstractSet[str]) -> RowLayout:
    """How rows of one class become instances whose columns are in several tables.

    Args:
        mapper: The mapper of the class.
        written: The attributes that the statement writes.
    """
    info = info_of(mapper)
    columns = {
        getattr(mapper.class_, name): column
        for name, column in info.columns.items()
        if not _is_left_out(mapper.column_attrs[name], written)
    }
    key = [info.columns[name] for name in info.key_names]
    return RowLayout(mapper, [mapper], columns, key, written)


def classes_of_rows(mapper: Mapper[Any]) -> list[Mapper[Any]]:
    """The mappers of the classes that rows of a mapper's table can be of.

    With concrete inheritance, the rows of a subclass aren't those of its base.
    """
    return [
        found
        for found in mapper.self_and_descendants
        if not any(
            each.concrete and each.isa(mapper) and each is not mapper
            for each in found.iterate_to_root()
        )
    ]

"""Find deletes that the database makes on its own, for which no receiver is called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ForeignKeyConstraint, Table, inspect
from sqlalchemy.orm import Mapper, RelationshipDirection, RelationshipProperty

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.receivers.identity import names_of
from aksara_signals.introspection.findings import Code, Finding, Severity
from aksara_signals.introspection.names import place_of_connection
from aksara_signals.orm.bridge.classes import mapped_classes
from aksara_signals.orm.mapping.registered import wired_classes
from aksara_signals.signals import post_delete, pre_delete

__all__ = ["find_silent_deletes"]

Watched = tuple[type, list[Connection]]
"""A class, and the connections that its deletes are sent to."""


def find_silent_deletes() -> Iterator[Finding]:
    """Find delete receivers of classes whose rows the database deletes with a parent's row."""
    mappers: list[Mapper[Any]] = [inspect(cls) for cls in mapped_classes()]
    watched = [
        (cls, connections) for cls in wired_classes() if (connections := _delete_receivers(cls))
    ]
    for mapper in mappers:
        for prop in mapper.relationships:
            # Subclasses have the relationships of their bases, which are reported once.
            if prop.parent is mapper and _is_left_to_the_database(prop):
                yield from _of_relationship(prop, watched)
    seen: set[ForeignKeyConstraint] = set()
    for cls, connections in watched:
        mapper = inspect(cls)
        for constraint in _constraints(mapper):
            if (
                constraint not in seen
                and _cascades(constraint)
                and not _is_inheritance(mapper, constraint)
            ):
                seen.add(constraint)
                yield from _of_constraint(cls, connections, constraint, mappers)


def _delete_receivers(cls: type) -> list[Connection]:
    return [
        connection
        for signal in (pre_delete, post_delete)
        for connection in signal.connections
        if connection.sender_key.matches(cls, connection.exact)
    ]


def _is_left_to_the_database(prop: RelationshipProperty[Any]) -> bool:
    if not (_leads_to_children(prop) and prop.passive_deletes):
        return False
    rules = {_rule(constraint) for constraint in _constraints_of(prop)}
    # If the metadata has no rule, the database may still have one. SET NULL deletes nothing.
    return not rules or bool(rules & {"CASCADE", ""})


def _leads_to_children(prop: RelationshipProperty[Any]) -> bool:
    return prop.direction is RelationshipDirection.ONETOMANY and not prop.viewonly


def _constraints_of(prop: RelationshipProperty[Any]) -> list[ForeignKeyConstraint]:
    columns = {remote for _, remote in prop.local_remote_pairs or ()}
    return [
        constraint
        for constraint in _constraints(prop.mapper)
        if columns.issuperset(constraint.columns)
    ]


def _constraints(mapper: Mapper[Any]) -> Iterator[ForeignKeyConstraint]:
    for table in mapper.tables:
        if isinstance(table, Table):
            yield from table.foreign_key_constraints


def _rule(constraint: ForeignKeyConstraint) -> str:
    return (constraint.ondelete or "").upper()


def _cascades(constraint: ForeignKeyConstraint) -> bool:
    return _rule(constraint) == "CASCADE"


def _is_inheritance(mapper: Mapper[Any], constraint: ForeignKeyConstraint) -> bool:
    """Whether a foreign key joins a subclass to its base: both rows belong to one object."""
    base = mapper.inherits
    return (
        base is not None
        and constraint.referred_table in base.tables
        and set(constraint.columns) == set(constraint.table.primary_key.columns)
    )


def _of_relationship(prop: RelationshipProperty[Any], watched: list[Watched]) -> Iterator[Finding]:
    children = {mapper.class_ for mapper in prop.mapper.self_and_descendants}
    connections = [each for cls, found in watched if cls in children for each in found]
    if connections:
        which = "children" if prop.passive_deletes == "all" else "children that are not loaded"
        yield _finding(
            f"{names_of(prop.parent.class_)[1]}.{prop.key} has "
            f"passive_deletes={prop.passive_deletes!r}: {which} ({names_of(prop.mapper.class_)[1]})"
            f" are left to the database, which deletes them without calling",
            connections,
            "let the session delete them (cascade='all, delete-orphan' without passive_deletes), "
            "or don't rely on these receivers",
        )


def _of_constraint(
    cls: type,
    connections: list[Connection],
    constraint: ForeignKeyConstraint,
    mappers: list[Mapper[Any]],
) -> Iterator[Finding]:
    for mapper in mappers:
        for prop in mapper.relationships:
            if _leads_to_children(prop) and constraint in _constraints_of(prop):
                return  # the session deletes the children, or the relationship has been reported
    columns = ", ".join(column.name for column in constraint.columns)
    yield _finding(
        f"{constraint.table.fullname}.{columns} is ON DELETE CASCADE to "
        f"{constraint.referred_table.fullname}, and no relationship from there leads to "
        f"{names_of(cls)[1]}: the database deletes its rows without calling",
        connections,
        "add a relationship with cascade='all, delete-orphan' to the parent's class, or don't "
        "rely on these receivers",
    )


def _finding(what: str, connections: list[Connection], remedy: str) -> Finding:
    receivers = list(dict.fromkeys(place_of_connection(each) for each in connections))
    others = len(receivers) - 1
    and_others = f" and {others} more" if others else ""
    return Finding(
        Code.SILENT_DELETE,
        Severity.WARNING,
        f"{what} {receivers[0].name}{and_others}",
        receivers[0],
        remedy,
    )

"""``save(update_fields=…)``: which changes are written, and which stay pending."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import (
    ColumnProperty,
    CompositeProperty,
    Mapper,
    RelationshipDirection,
    RelationshipProperty,
)
from sqlalchemy.orm.attributes import instance_state

from aksara_signals.dispatch.receivers.naming import describe_sender, nearest
from aksara_signals.exceptions import UnknownFieldError
from aksara_signals.orm.bridge.hidden_history import HiddenHistory
from aksara_signals.orm.bridge.states import State
from aksara_signals.orm.mapping.attributes import field_names, property_named, why_read_only


@contextmanager
def partial_save(instance: object, fields: frozenset[str]) -> Iterator[None]:
    """Keep pending changes of other fields out of the flushes inside, and pending.

    Args:
        instance: A persistent instance.
        fields: The names that :func:`writable_fields` has returned.
    """
    state: State = instance_state(instance)
    visible = frozenset(_expanded(state.mapper, fields))
    hidden = HiddenHistory(instance, fields, visible)
    try:
        yield
    finally:
        hidden.restore()


def writable_fields(cls: type, update_fields: Any) -> frozenset[str]:
    """The names of ``update_fields``, checked.

    Args:
        cls: A mapped class.
        update_fields: Names, or attributes of the class.

    Raises:
        UnknownFieldError: A name is not a column, composite or many-to-one relationship of the
            class, or can't be written, or the names come as one string.
        InvalidOptionError: ``update_fields`` doesn't hold names.
    """
    mapper: Mapper[Any] = inspect(cls)
    names = field_names(cls, update_fields, "update_fields")
    for name in names:
        prop = property_named(mapper, name)
        reason = why_read_only(mapper, name)
        if reason is not None:
            raise UnknownFieldError(
                f"update_fields names {name!r}, which {reason}; leave it out, or name what it is "
                f"made of"
            )
        if isinstance(prop, RelationshipProperty):
            if prop.direction is not RelationshipDirection.MANYTOONE:
                raise UnknownFieldError(
                    f"update_fields names {name!r}, which is not a column of "
                    f"{describe_sender(cls)}: this relationship is written in other rows; change "
                    f"it and flush, or use related({name!r})"
                )
        elif not isinstance(prop, (ColumnProperty, CompositeProperty)):
            known = [each.key for each in mapper.attrs]
            raise UnknownFieldError(
                f"update_fields names {describe_sender(name)}, which is neither a column nor a "
                f"many-to-one relationship of {describe_sender(cls)}{nearest(name, known)}"
            )
    return frozenset(names)


def _expanded(mapper: Mapper[Any], fields: frozenset[str]) -> Iterator[str]:
    """The attributes whose history the flush has to see in order to write the fields."""
    columns: set[str] = set()
    for name in fields:
        prop = property_named(mapper, name)
        if isinstance(prop, CompositeProperty):
            columns.update(each.key for each in prop.props)
        elif isinstance(prop, RelationshipProperty):
            columns.update(_foreign_keys(mapper, prop))
        else:
            columns.add(prop.key)
        yield prop.key
    yield from columns
    for relationship in mapper.relationships:
        if relationship.direction is RelationshipDirection.MANYTOONE and columns.intersection(
            _foreign_keys(mapper, relationship)
        ):
            yield relationship.key


def _foreign_keys(mapper: Mapper[Any], prop: RelationshipProperty[Any]) -> set[str]:
    return {mapper.get_property_by_column(column).key for column in prop.local_columns}

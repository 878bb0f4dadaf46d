"""``bulk_update()``: columns of many rows in few statements, with one signal before and after."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import inspect, update
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import instance_state, set_committed_value

from aksara_signals.dispatch.receivers.naming import describe_sender, nearest
from aksara_signals.exceptions import InstanceStateError, UnknownFieldError
from aksara_signals.orm.bridge.column_edits import changed_columns, is_expression
from aksara_signals.orm.bridge.history import has_net_change
from aksara_signals.orm.bridge.rows import read_rows, register_updated
from aksara_signals.orm.bridge.states import State, describe
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.mapping.attributes import field_names
from aksara_signals.orm.mapping.info import info_of
from aksara_signals.orm.objects.bulk import Row, batches, note_written, send_bulk
from aksara_signals.orm.session.current import user_session
from aksara_signals.orm.statements.statement import SILENT
from aksara_signals.signals import post_bulk_update, pre_bulk_update


def column_fields(model: type, fields: Any) -> frozenset[str]:
    """The names given to ``bulk_update``, checked.

    Raises:
        UnknownFieldError: There are none, they come as one string, or one is not a column of the
            model, is part of its primary key, or is computed by the database.
        InvalidOptionError: ``fields`` doesn't hold names.
    """
    mapper: Mapper[Any] = inspect(model)
    names = frozenset(field_names(model, fields, "fields"))
    if not names:
        raise UnknownFieldError("bulk_update() was given no fields; name at least one column")
    columns = info_of(mapper).columns
    keys = info_of(mapper).key_names
    for name in sorted(names):
        if name in keys:
            raise UnknownFieldError(
                f"bulk_update() can't change {name!r}, which is in the primary key of "
                f"{describe_sender(model)} and says which row is meant; change it and save()"
            )
        if name not in columns:
            raise UnknownFieldError(
                f"bulk_update() names {describe_sender(name)}, which is not a column of "
                f"{describe_sender(model)} (for a relationship, name its foreign key)"
                f"{nearest(name, columns)}"
            )
        if columns[name].computed is not None:
            raise UnknownFieldError(
                f"bulk_update() names {name!r}, which is computed by the database; name the "
                f"columns that it is computed from"
            )
    return names


def changed_fields(model: type, instances: list[Any]) -> frozenset[str]:
    """The columns that were changed on any of the instances, to be written without ``fields``.

    Raises:
        InstanceStateError: An instance has no row or is of another model, or something was changed
            that a bulk update can't write.
    """
    changed: set[str] = set()
    for instance in instances:
        _require_updatable(instance, model)
        state = instance_state(instance)
        own = _changed_columns(state)
        reason = _why_unwritable(state, own)
        if reason is not None:
            raise InstanceStateError(
                f"bulk_update() was given {describe(instance)}, of which {reason}; save() "
                f"it, or name the fields that are to be written"
            )
        changed |= own
    return frozenset(changed)


def _changed_columns(state: State) -> frozenset[str]:
    columns = info_of(state.mapper).columns
    return frozenset(key for key, _ in changed_columns(state) if key in columns)


def _why_unwritable(state: State, changed: frozenset[str]) -> str | None:
    """A change that an UPDATE by primary key can't write, in words; None if there is none."""
    mapper = state.mapper
    for key in sorted(changed):
        if key in info_of(mapper).key_names:
            return f"the primary key {key!r} was changed, which says what row is meant"
        if info_of(mapper).columns[key].computed is not None:
            return f"{key!r} was changed, which is computed by the database"
    for prop in info_of(mapper).many_to_one:
        if has_net_change(state, prop.key):
            return f"the relationship {prop.key!r} was changed, whose key a flush sets"
    return None


def bulk_update(
    session: Session,
    model: type,
    instances: list[Any],
    fields: frozenset[str],
    batch_size: int | None,
    *,
    only_changed: bool = False,
) -> int:
    """Update columns of existing rows, between ``pre_bulk_update`` and ``post_bulk_update``.

    Nothing is flushed. Other columns that pre receivers set are written, too. Pending values of all
    other columns stay pending.

    Args:
        session: The session that executes the statements. The instances may be in another session
            or in none.
        model: The sender.
        instances: Instances with rows; pre receivers may change the list and the instances.
        fields: The names that :func:`column_fields` has returned.
        batch_size: The maximum number of rows in one statement; None means all.
        only_changed: Whether to write, for each instance, only the fields that were changed.

    Returns:
        The number of instances that were written.

    Raises:
        InstanceStateError: An instance has no row yet or holds SQL.
    """
    payload = {"instances": instances, "fields": fields, "session": user_session(session)}
    for instance in instances:
        _require_updatable(instance, model)
        _require_values(instance, fields)
    pending = {id(each): _pending(each) for each in instances}  # alive: the caller holds them
    with session.no_autoflush:
        send_bulk(session, pre_bulk_update, model, payload)
        groups: dict[tuple[type, frozenset[str]], list[tuple[Any, Row]]] = {}
        for instance in instances:
            _require_updatable(instance, model)
            asked = fields & _changed_columns(instance_state(instance)) if only_changed else fields
            written = _to_write(instance, asked, pending.get(id(instance), {}))
            _require_values(instance, written)
            if written:
                row = _update_row(instance, written)
                groups.setdefault((type(instance), frozenset(written)), []).append((instance, row))
        for (cls, written), members in groups.items():
            for part in batches(members, batch_size):
                rows = [row for _, row in part]
                session.execute(update(cls), rows, execution_options=SILENT)
                names = _register_updated(session, cls, written, part)
                note_written(session, Kind.UPDATE, [instance for instance, _ in part], names)
        send_bulk(session, post_bulk_update, model, payload)
    return sum(len(members) for members in groups.values())


def _require_updatable(instance: object, model: type) -> None:
    if not isinstance(instance, model):
        raise InstanceStateError(
            f"bulk_update() of {describe_sender(model)} was given {describe(instance)}; "
            f"give instances of one model at a time"
        )
    if not instance_state(instance).has_identity:
        raise InstanceStateError(
            f"bulk_update() was given a {describe_sender(type(instance))} that has no row yet; "
            f"use bulk_create() for it"
        )


def _require_values(instance: object, fields: Iterable[str]) -> None:
    values = instance_state(instance).dict
    for key in fields:
        if is_expression(values.get(key)):
            raise InstanceStateError(
                f"bulk_update() was given {describe(instance)} with SQL for {key!r}, which "
                f"an UPDATE of many rows can't hold; use filter(…).update({key}=…) or save()"
            )


def _pending(instance: object) -> Row:
    state = instance_state(instance)
    return {key: state.dict[key] for key in state.committed_state if key in state.dict}


def _to_write(instance: object, fields: frozenset[str], pending: Row) -> frozenset[str]:
    """The fields and the columns that pre receivers have set, without those not loaded."""
    state = instance_state(instance)
    values = state.dict
    columns = info_of(state.mapper).columns
    set_since = {
        key
        for key in state.committed_state
        if key in columns
        and key in values
        and (key not in pending or pending[key] is not values[key])
    }
    return frozenset(key for key in fields | set_since if key in values)


def _update_row(instance: object, written: Collection[str]) -> Row:
    state = instance_state(instance)
    mapper = state.mapper
    row: Row = dict(zip(info_of(mapper).key_names, state.identity or (), strict=True))
    for key in written:
        row[key] = state.dict[key]
    version = mapper.version_id_col
    if version is not None:
        key = mapper.get_property_by_column(version).key
        row[key] = state.committed_state.get(key, state.dict.get(key))
    return row


def _register_updated(
    session: Session, cls: type, written: frozenset[str], part: Sequence[tuple[Any, Row]]
) -> frozenset[str]:
    """Mark the written columns as committed, and read the other ones that the database has set.

    Returns:
        The names of all these columns.
    """
    mapper: Mapper[Any] = inspect(cls)
    for instance, row in part:
        loaded = instance_state(instance).dict
        for key in written:
            if key not in loaded:  # the UPDATE has expired what was changed before it
                set_committed_value(instance, key, row[key])
        register_updated(session, instance_state(instance), written)
    columns = info_of(mapper).columns
    also_set = [
        key
        for key, column in columns.items()
        if key not in written
        and (
            column.onupdate is not None
            or column.server_onupdate is not None
            or column.computed is not None
            or column is mapper.version_id_col
        )
    ]
    if not also_set:
        return written
    by_identity = {instance_state(each).identity or (): each for each, _ in part}
    for identity, values in read_rows(session, mapper, also_set, by_identity).items():
        instance = by_identity[identity]
        for key, value in zip(also_set, values, strict=True):
            if key not in instance_state(instance).committed_state:
                set_committed_value(instance, key, value)
    return written.union(also_set)

"""Many new rows in few statements, told by two signals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Column, insert, inspect
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import instance_state

from aksara_signals.dispatch.identity import describe_sender
from aksara_signals.exceptions import InstanceStateError
from aksara_signals.orm import bridge
from aksara_signals.orm.bulk import Row, batches, send_bulk
from aksara_signals.orm.columns import columns_of, key_names
from aksara_signals.orm.sessions import user_session
from aksara_signals.signals import post_bulk_create, pre_bulk_create

__all__ = ["bulk_create"]


def bulk_create(
    session: Session, model: type, instances: list[Any], batch_size: int | None
) -> None:
    """Insert the rows of new instances, between ``pre_bulk_create`` and ``post_bulk_create``.

    Args:
        session: Takes the instances, as a flush does.
        model: The sender.
        instances: New ones; pre receivers may change the list and what is in it.
        batch_size: The most rows of one statement; None leaves it to SQLAlchemy.

    Raises:
        InstanceStateError: An instance has a row already, has relationships set, or holds SQL.
    """
    payload = {"instances": instances, "session": user_session(session)}
    for instance in instances:
        _require_new(instance, model)
    send_bulk(session, pre_bulk_create, model, payload)
    groups: dict[tuple[type, frozenset[str]], list[tuple[Any, Row]]] = {}
    for instance in instances:
        _require_new(instance, model)
        row = _insert_row(instance)
        groups.setdefault((type(instance), frozenset(row)), []).append((instance, row))
    for instance in instances:
        owner = instance_state(instance).session  # it is pending there
        if owner is not None:
            owner.expunge(instance)
    for (cls, given), members in groups.items():
        for part in batches(members, batch_size):
            _insert(session, cls, given, part, batch_size)
    bridge.register_inserted(session, instances)
    send_bulk(session, post_bulk_create, model, payload)


def _require_new(instance: object, model: type) -> None:
    if not isinstance(instance, model):
        raise InstanceStateError(
            f"bulk_create() of {describe_sender(model)} was given {bridge.describe(instance)}; "
            f"give instances of one model at a time"
        )
    state = instance_state(instance)
    if state.has_identity:
        raise InstanceStateError(
            f"bulk_create() was given {bridge.describe(instance)}, which has a row already; use "
            f"bulk_update() for it"
        )
    for prop in state.mapper.relationships:
        if bridge.has_members(state, prop.key):
            raise InstanceStateError(
                f"bulk_create() was given {bridge.describe(instance)} with its relationship "
                f"{prop.key!r} set, which an INSERT of many rows can't write; set the foreign key, "
                f"or add() the instances to the session"
            )


def _insert_row(instance: object) -> Row:
    """What is inserted for an instance; what isn't in it, the database or a default provides."""
    state = instance_state(instance)
    mapper = state.mapper
    values = state.dict
    keys = key_names(mapper)
    row: Row = {}
    for key, column in columns_of(mapper).items():
        value = values.get(key)
        if column.computed is not None:
            continue
        if bridge.is_expression(value):
            raise InstanceStateError(
                f"bulk_create() was given {bridge.describe(instance)} with SQL for {key!r}, which "
                f"an INSERT of many rows can't hold; give a value, or add() it to the session"
            )
        if value is None:
            if column is mapper.version_id_col and mapper.version_id_generator:
                row[key] = mapper.version_id_generator(None)
                continue
            evaluates_none = column.type.should_evaluate_none
            if key in values and evaluates_none:
                pass  # JSON's null is a value
            elif evaluates_none or key in keys or _is_provided(column, mapper):
                continue
        row[key] = value
    return row


def _is_provided(column: Column[Any], mapper: Mapper[Any]) -> bool:
    """Whether something is inserted although no value is given."""
    return (
        column.default is not None
        or column.server_default is not None
        or column.identity is not None
        or column is mapper.polymorphic_on
    )


def _insert(
    session: Session,
    cls: type,
    given: frozenset[str],
    part: Sequence[tuple[Any, Row]],
    batch_size: int | None,
) -> None:
    mapper: Mapper[Any] = inspect(cls)
    keys = key_names(mapper)
    wanted = [key for key in columns_of(mapper) if key not in given]
    rows = [row for _, row in part]
    # Every row of this call has the same keys: None is a value here, no gap.
    options: dict[str, Any] = {"render_nulls": True}
    if batch_size is not None:
        options["insertmanyvalues_page_size"] = batch_size
    if not wanted:
        session.execute(insert(cls), rows, execution_options=options)
        fetched: Iterable[Sequence[Any]] = [()] * len(part)
    elif given.issuperset(keys):
        # Keys that are known tell the rows apart, in whichever order they come back.
        by_key = {
            tuple(found[: len(keys)]): found[len(keys) :]
            for found in _returned(session, cls, [*keys, *wanted], rows, options)
        }
        fetched = [by_key[tuple(row[key] for key in keys)] for row in rows]
    elif bridge.counts_keys_up(session, mapper):
        place = wanted.index(keys[0])
        found = _returned(session, cls, wanted, rows, options)
        fetched = sorted(found, key=lambda each: each[place])
    else:
        fetched = _returned(session, cls, wanted, rows, options, is_ordered=True)
    for (instance, row), found in zip(part, fetched, strict=True):
        values = instance_state(instance).dict
        values.update(row)
        values.update(zip(wanted, found, strict=True))


def _returned(
    session: Session,
    cls: type,
    keys: Sequence[str],
    rows: list[Row],
    options: dict[str, Any],
    *,
    is_ordered: bool = False,
) -> Sequence[Sequence[Any]]:
    statement = insert(cls).returning(
        *(getattr(cls, key) for key in keys), sort_by_parameter_order=is_ordered
    )
    return session.execute(statement, rows, execution_options=options).all()

"""``bulk_create()``: many new rows in few statements, with one signal before and one after them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Column, insert, inspect
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import instance_state

from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import InstanceStateError
from aksara_signals.orm.bridge.column_edits import LITERALS, expressions_of_new, is_expression
from aksara_signals.orm.bridge.history import has_members
from aksara_signals.orm.bridge.rows import counts_keys_up, insert_rows, read_rows, register_inserted
from aksara_signals.orm.bridge.states import describe
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.mapping.info import info_of
from aksara_signals.orm.objects.bulk import Row, batches, note_written, send_bulk
from aksara_signals.orm.session.current import user_session
from aksara_signals.orm.statements.statement import SILENT
from aksara_signals.signals import post_bulk_create, pre_bulk_create


def bulk_create(
    session: Session, model: type, instances: list[Any], batch_size: int | None
) -> None:
    """Insert the rows of new instances, between ``pre_bulk_create`` and ``post_bulk_create``.

    Args:
        session: The session that the instances are added to.
        model: The sender.
        instances: New instances; pre receivers may change the list and the instances.
        batch_size: The maximum number of rows in one statement; None leaves it to SQLAlchemy.

    Raises:
        InstanceStateError: An instance has a row already, has relationships set, or holds SQL.
    """
    payload = {"instances": instances, "session": user_session(session)}
    _require_new(instances, model)
    if pre_bulk_create.plan_for(model):  # don't call receivers if this raises
        for instance in instances:
            for key in expressions_of_new(instance_state(instance)):
                raise _refusal_of_sql(instance, key)
    if send_bulk(session, pre_bulk_create, model, payload):
        _require_new(instances, model)
    groups = _grouped(instances)
    for instance in instances:
        state = instance_state(instance)
        if state.session_id is not None and (owner := state.session) is not None:
            owner.expunge(instance)  # it is pending in that session
    for (cls, given), pairs in groups.items():
        for part in batches(pairs, batch_size):
            _insert(session, cls, given, part, batch_size)
    register_inserted(session, instances)
    note_written(session, Kind.CREATE, instances)
    # Receivers get a list of their own: bulk_create() returns the other one.
    send_bulk(session, post_bulk_create, model, {**payload, "instances": list(instances)})


def _require_new(instances: list[Any], model: type) -> None:
    if len({*map(id, instances)}) < len(instances):
        raise _refusal_of_twins(instances)
    for cls, alike in groupby(instances, type):
        if not issubclass(cls, model):
            raise InstanceStateError(
                f"bulk_create() of {describe_sender(model)} was given {describe_sender(cls)}; "
                f"give instances of one model at a time"
            )
        mapper: Mapper[Any] = inspect(cls)
        relationships = [prop.key for prop in mapper.relationships]
        for instance in alike:
            state = instance_state(instance)
            if state.key is not None:
                raise InstanceStateError(
                    f"bulk_create() was given {describe(instance)}, which has a row "
                    f"already; use bulk_update() for it"
                )
            for key in relationships:
                if has_members(state, key):
                    raise InstanceStateError(
                        f"bulk_create() was given {describe(instance)} with its "
                        f"relationship {key!r} set, which an INSERT of many rows can't write; set "
                        f"the foreign key, or add() the instances to the session"
                    )


def _refusal_of_twins(instances: list[Any]) -> InstanceStateError:
    count = Counter(map(id, instances))
    twin = next(each for each in instances if count[id(each)] > 1)
    return InstanceStateError(
        f"bulk_create() was given one {describe_sender(type(twin))} twice, which would "
        f"be two rows; give each instance once"
    )


def _refusal_of_sql(instance: object, key: str) -> InstanceStateError:
    return InstanceStateError(
        f"bulk_create() was given {describe(instance)} with SQL for {key!r}, which "
        f"an INSERT of many rows can't hold; give a value, or add() it to the session"
    )


def _error_of_another_key(cls: type, identity: Any) -> InstanceStateError:
    return InstanceStateError(
        f"bulk_create() of {describe_sender(cls)} was given the primary key {identity}, and the "
        f"database has stored another, so nobody knows which values it has set for that row; roll "
        f"back, and give the key as it is stored, or add() the instances to the session"
    )


class Gap(Enum):
    """What is inserted for a column where an instance has None, or no value at all."""

    NULL = "null"
    NULL_IF_SET = "null if it was set"
    NOTHING = "nothing: the database or a default provides"
    VERSION = "the first version"


def _gaps_of(mapper: Mapper[Any]) -> list[tuple[str, Gap]]:
    """The columns that can be written, each with what is inserted for a gap."""
    return [
        (key, _gap(mapper, key, column))
        for key, column in info_of(mapper).columns.items()
        if column.computed is None
    ]


def _gap(mapper: Mapper[Any], key: str, column: Column[Any]) -> Gap:
    if column is mapper.version_id_col and mapper.version_id_generator:
        return Gap.VERSION
    if column.type.should_evaluate_none:
        return Gap.NULL_IF_SET  # for JSON, None is a value
    if key in info_of(mapper).key_names or _is_provided(column, mapper):
        return Gap.NOTHING
    return Gap.NULL


def _grouped(
    instances: list[Any],
) -> dict[tuple[type, tuple[str, ...]], list[tuple[Any, Row]]]:
    """The instances, each with the values to insert, by class and by the columns of these.

    Columns left out get their values from a default.
    """
    groups: dict[tuple[type, tuple[str, ...]], list[tuple[Any, Row]]] = {}
    for cls, members in groupby(instances, type):
        mapper: Mapper[Any] = inspect(cls)
        gaps = _gaps_of(mapper)
        first_version: Any = mapper.version_id_generator
        given, pairs = None, list[tuple[Any, Row]]()
        for instance in members:
            values = instance_state(instance).dict
            row: Row = {}
            for key, gap in gaps:
                value = values.get(key)
                if value is None:
                    if gap is Gap.NOTHING or (gap is Gap.NULL_IF_SET and key not in values):
                        continue
                    if gap is Gap.VERSION:
                        value = first_version(None)
                elif type(value) not in LITERALS and is_expression(value):
                    raise _refusal_of_sql(instance, key)
                row[key] = value
            columns = tuple(row)
            if columns != given:  # rows with the same columns mostly come together
                given, pairs = columns, groups.setdefault((cls, columns), [])
            pairs.append((instance, row))
    return groups


def _is_provided(column: Column[Any], mapper: Mapper[Any]) -> bool:
    """Whether a column gets a value if none is given."""
    return (
        column.default is not None
        or column.server_default is not None
        or column.identity is not None
        or column is mapper.polymorphic_on
    )


def _insert(
    session: Session,
    cls: type,
    given: tuple[str, ...],
    part: Sequence[tuple[Any, Row]],
    batch_size: int | None,
) -> None:
    mapper: Mapper[Any] = inspect(cls)
    keys = info_of(mapper).key_names
    wanted = [key for key in info_of(mapper).columns if key not in given]
    rows = [row for _, row in part]
    # All rows of this call have the same columns, so None is a value and not a gap.
    options: dict[str, Any] = {"render_nulls": True, **SILENT}
    if batch_size is not None:
        options["insertmanyvalues_page_size"] = batch_size
    if not wanted:
        session.execute(insert(cls), rows, execution_options=options)
        fetched: Iterable[Sequence[Any]] = [()] * len(part)
    elif not session.connection(bind_arguments={"mapper": mapper}).dialect.insert_returning:
        insert_rows(session, mapper, rows)
        fetched = _read(session, mapper, wanted, part)
    elif not set(keys).difference(given):
        # The rows that come back are in no order. Their keys are known, so they say which is which.
        by_key = {
            tuple(found[: len(keys)]): found[len(keys) :]
            for found in _returned(session, cls, [*keys, *wanted], rows, options)
        }
        try:
            fetched = [by_key[tuple(row[key] for key in keys)] for row in rows]
        except KeyError as error:
            raise _error_of_another_key(cls, *error.args) from None
    elif counts_keys_up(session, mapper):
        place = wanted.index(keys[0])
        found = _returned(session, cls, wanted, rows, options)
        fetched = sorted(found, key=itemgetter(place))
    else:
        fetched = _returned(session, cls, wanted, rows, options, is_ordered=True)
    only = wanted[0] if len(wanted) == 1 else None  # the key, most often
    for (instance, row), found in zip(part, fetched, strict=True):
        values = instance_state(instance).dict
        values.update(row)
        if only is None:
            values.update(zip(wanted, found))  # noqa: B905 - as many as requested
        else:
            values[only] = found[0]


def _read(
    session: Session, mapper: Mapper[Any], wanted: Sequence[str], part: Sequence[tuple[Any, Row]]
) -> list[list[Any]]:
    """The columns of rows that have just been inserted, and whose keys are known."""
    keys = info_of(mapper).key_names
    others = [key for key in wanted if key not in keys]
    identities = [tuple(row[key] for key in keys) for _, row in part]
    instances = dict(zip(identities, (instance for instance, _ in part), strict=True))
    found = read_rows(session, mapper, others, instances) if others else dict.fromkeys(identities)
    return [
        [*map({**row, **dict(zip(others, found[identity] or (), strict=True))}.get, wanted)]
        for (_, row), identity in zip(part, identities, strict=True)
    ]


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

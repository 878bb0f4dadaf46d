"""Rows that are read and written without the unit of work."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Integer, inspect, select
from sqlalchemy.orm import (
    InstanceState,
    Mapper,
    Session,
)
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.bulk_persistence import _bulk_insert

from aksara_signals.orm.bridge.loading import MAX_KEYS, key_attributes, key_is_in
from aksara_signals.orm.bridge.states import State


def counts_keys_up(session: Session, mapper: Mapper[Any]) -> bool:
    """Whether the rows of one INSERT get ascending keys, so that rows can be put in order by key.

    SQLite inserts the rows of VALUES one after another, and gives each the highest rowid plus one.
    With ``sort_by_parameter_order`` SQLAlchemy would insert them one by one there.
    """
    table = mapper.local_table
    column = getattr(table, "autoincrement_column", None)
    return (
        len(mapper.tables) == 1
        and column is not None
        and column.type._type_affinity is Integer
        and session.get_bind(mapper).dialect.name == "sqlite"
    )


def insert_rows(session: Session, mapper: Mapper[Any], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, and complete them with their primary keys, in databases without RETURNING.

    SQLAlchemy inserts rows that have no key one by one, to ask for each key.

    Args:
        session: The session that executes the statements; it isn't flushed.
        mapper: The mapper of the rows.
        rows: Values by attribute name; all have the same names.
    """
    transaction = session._autobegin_t()
    _bulk_insert(mapper, rows, transaction, isstates=False, return_defaults=True, render_nulls=True)


def read_rows(
    session: Session,
    mapper: Mapper[Any],
    keys: Iterable[str],
    instances: Mapping[tuple[Any, ...], object],
) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Read columns of rows as they are in the database, on the connection of a flush.

    Nothing is flushed, and no ``do_orm_execute`` listener is called. An application may use one to
    hide rows from queries (soft-deleted ones, those of other tenants), and still write them.

    Args:
        session: The session to read in.
        mapper: The mapper of the rows.
        keys: Names of column attributes.
        instances: Primary keys, each with its instance. A sharded session chooses the connection by
            the instance, so all of them must be of one shard.

    Returns:
        The values by primary key; without rows that don't exist.
    """
    columns = [mapper.column_attrs[key].columns[0] for key in keys]
    primary = [*mapper.primary_key]
    split = len(primary)
    statement = select(*primary, *columns).select_from(mapper.persist_selectable)
    identities = [*instances]
    connect = session.connection_callable
    connection: Any = (
        session.connection(bind_arguments={"mapper": mapper})
        if connect is None
        else connect(mapper, instances[identities[0]])
    )
    rows: dict[tuple[Any, ...], tuple[Any, ...]] = {}

    def read(wanted: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
        found: Sequence[Any] = connection.execute(statement.where(key_is_in(primary, wanted))).all()
        return found

    for start in range(0, len(identities), MAX_KEYS):
        for row in read(identities[start : start + MAX_KEYS]):
            rows[tuple(row[:split])] = tuple(row[split:])
    if rows.keys() <= instances.keys():
        return rows
    # The database takes different strings for the same, such as "a" and "A". Only a SELECT for each
    # key says which row it means.
    for identity in identities:
        for row in () if identity in rows else read([identity]):
            rows[identity] = tuple(row[split:])
    return {identity: rows[identity] for identity in identities if identity in rows}


def instances_with_keys(
    session: Session, mapper: Mapper[Any], identities: Sequence[tuple[Any, ...]]
) -> Iterator[object]:
    """Load the instances with these primary keys that the application's own criteria don't hide."""
    for start in range(0, len(identities), MAX_KEYS):
        criterion = key_is_in(key_attributes(mapper), identities[start : start + MAX_KEYS])
        yield from session.scalars(select(mapper).where(criterion)).unique()


def register_inserted(session: Session, instances: Sequence[object]) -> None:
    """Make transient instances persistent whose rows have just been inserted.

    ``add()`` and a flush would do the same, with the same events, one instance at a time. A
    rollback makes the instances transient again. They have no relationships set, so nothing
    cascades.
    """
    session._autobegin_t()
    transaction = session._transaction
    assert transaction is not None  # noqa: S101 - begun a line above
    listeners: Any = session.dispatch
    attach = listeners.before_attach or None
    attached = [each for each in (listeners.after_attach, listeners.transient_to_pending) if each]
    replace, session_id, new = session.identity_map.replace, session.hash_key, transaction._new
    written: list[tuple[State, dict[str, Any]]] = []
    for cls, alike in groupby(instances, type):
        mapper: Any = inspect(cls)
        keys = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
        key_of = itemgetter(*keys)
        for instance in alike:
            state = instance_state(instance)
            if attach is not None:
                attach(session, state)
            state.session_id = session_id
            for listener in attached:
                listener(session, state)
            values = state.dict
            key = key_of(values)
            primary = key if len(keys) > 1 else (key,)
            state.key = mapper._identity_class, primary, state.identity_token
            state._orphaned_outside_of_session = False
            replace(state)
            new[state] = True
            written.append((state, values))
    state_class: Any = InstanceState
    state_class._commit_all_states(written, session.identity_map)
    for state, _ in written if listeners.pending_to_persistent else ():
        listeners.pending_to_persistent(session, state)


def register_updated(session: Session, state: State, keys: Iterable[str]) -> None:
    """Mark columns as committed that have just been written; others stay pending.

    As after a flush, the rollback of a savepoint expires them.
    """
    state._commit(state.dict, keys)
    owner = state.session
    if owner is not None:
        if not state.committed_state and not state.__dict__.get("_pending_mutations"):
            state._commit_all(state.dict, owner.identity_map)
        if owner is session:
            owner._register_altered((state,))


def row_count(session: Session, statement: Any) -> int:
    """Execute one UPDATE or DELETE, and return the number of rows that it matched."""
    result: Any = session.execute(statement)
    return int(result.rowcount)

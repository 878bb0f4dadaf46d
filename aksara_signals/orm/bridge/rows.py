"""Rows that are written beside the unit of work."""

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

from aksara_signals.orm.bridge.loading import MAX_KEYS, key_attributes, key_is_in
from aksara_signals.orm.bridge.states import State


def counts_keys_up(session: Session, mapper: Mapper[Any]) -> bool:
    """Whether rows of one INSERT get their keys in ascending order, so that keys give the order.

    SQLite does: it inserts the rows of VALUES one after another, and each takes the highest rowid
    plus one. SQLAlchemy, asked for rows in order, would insert them one by one there.
    """
    table = mapper.local_table
    column = getattr(table, "autoincrement_column", None)
    return (
        len(mapper.tables) == 1
        and column is not None
        and column.type._type_affinity is Integer
        and session.get_bind(mapper).dialect.name == "sqlite"
    )


def read_rows(
    session: Session,
    mapper: Mapper[Any],
    keys: Iterable[str],
    instances: Mapping[tuple[Any, ...], object],
) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Read columns of rows as they stand in the database, from where a flush would write them.

    Nothing is flushed, and no ``do_orm_execute`` listener is asked: an application may hide rows
    there (deleted ones, those of others), and writes them all the same.

    Args:
        session: Whose transaction is read in.
        mapper: Of the rows.
        keys: Names of column attributes.
        instances: Primary keys, each with the instance that is written; a sharded session finds its
            connection by it, so they are all of one shard.

    Returns:
        The values by primary key, of the rows that there are.
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
    for start in range(0, len(identities), MAX_KEYS):
        criterion = key_is_in(primary, identities[start : start + MAX_KEYS])
        for row in connection.execute(statement.where(criterion)):
            rows[tuple(row[:split])] = tuple(row[split:])
    return rows


def instances_with_keys(
    session: Session, mapper: Mapper[Any], identities: Sequence[tuple[Any, ...]]
) -> Iterator[object]:
    """Load the instances with these primary keys, as far as the application's criteria let them."""
    for start in range(0, len(identities), MAX_KEYS):
        criterion = key_is_in(key_attributes(mapper), identities[start : start + MAX_KEYS])
        yield from session.scalars(select(mapper).where(criterion)).unique()


def register_inserted(session: Session, instances: Sequence[object]) -> None:
    """Make transient instances, whose rows have just been inserted, persistent in a session.

    As ``add()`` and a flush do it, with the same events, but for all at once: a rollback makes them
    transient again. They have no relationships set, so nothing cascades.
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
    """Take columns, which have just been written, for committed; others stay pending.

    As a flush does it: a rollback of a savepoint expires them.
    """
    state._commit(state.dict, keys)
    owner = state.session
    if owner is not None:
        if not state.committed_state and not state.__dict__.get("_pending_mutations"):
            state._commit_all(state.dict, owner.identity_map)
        if owner is session:
            owner._register_altered((state,))


def row_count(session: Session, statement: Any) -> int:
    """Execute one UPDATE or DELETE, and count the rows that it matched."""
    result: Any = session.execute(statement)
    return int(result.rowcount)

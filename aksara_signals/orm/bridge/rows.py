"""Rows that are written beside the unit of work."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Integer
from sqlalchemy.orm import (
    Mapper,
    Session,
)
from sqlalchemy.orm.attributes import instance_state

from aksara_signals.orm.bridge.states import State

__all__ = ["counts_keys_up", "register_inserted", "register_updated"]


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


def register_inserted(session: Session, instances: Iterable[object]) -> None:
    """Make transient instances, whose rows have just been inserted, persistent in a session.

    As a flush does it: a rollback makes them transient again.
    """
    session.add_all(instances)
    session._register_persistent({instance_state(each) for each in instances})


def register_updated(session: Session, state: State, keys: Iterable[str]) -> None:
    """Take columns, which have just been written, for committed; others stay pending.

    As a flush does it: a rollback of a savepoint expires them.
    """
    state._commit(state.dict, keys)
    owner = state.session
    if owner is not None:
        if not state.committed_state and "_pending_mutations" not in state.__dict__:
            state._commit_all(state.dict, owner.identity_map)
        if owner is session:
            owner._register_altered((state,))

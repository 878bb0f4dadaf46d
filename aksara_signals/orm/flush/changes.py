"""The changes of one flush, and the ``changes`` argument of receivers that request it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from sqlalchemy.ext.asyncio import async_session
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.base import NO_VALUE

from aksara_signals.orm.bridge.column_edits import Edit, changed_columns, is_same, is_unknown
from aksara_signals.orm.bridge.handover import in_greenlet
from aksara_signals.orm.bridge.rows import read_rows
from aksara_signals.orm.bridge.states import State
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.mapping.fields import (
    Inserted,
    MappedChanges,
    committed_value,
    unloaded_columns,
    value_to_insert,
)
from aksara_signals.types import Changes


@dataclass(slots=True, eq=False)
class Change:
    """One row that a flush writes.

    Not to be modified. A frozen dataclass would say so, and takes three times as long to make.
    """

    kind: Kind
    state: State
    instance: object
    """A strong reference from before the flush to after it: a state holds its instance weakly."""
    sender: type[object]
    """The class that sends the signals of this change."""
    edit: Edit | None = None
    """Of an UPDATE: one of the columns that were found changed, if any was."""


def deleted_before_created(changes: list[Change]) -> list[Change]:
    """Changes in the order of sending.

    A new object may have the primary key of a deleted one. SQLAlchemy makes one UPDATE of the two
    then, and receivers have to see the delete first. Before the flush this can't be recognised,
    because the key of the new object may not be known yet. So in every class hierarchy that has
    both, the deleted objects come first.

    Args:
        changes: In any order; apart from the deleted objects it stays as it is.
    """
    delete = Kind.DELETE  # on Python 3.11, finding it in its class takes longer than comparing it
    deletes = [each.kind is delete for each in changes]
    if all(deletes) or not any(deletes):
        return changes
    gone = {_hierarchy(each) for each in changes if each.kind is Kind.DELETE}
    mixed = gone & {_hierarchy(each) for each in changes if each.kind is Kind.CREATE}
    if not mixed:
        return changes
    first = [each for each in changes if each.kind is Kind.DELETE and _hierarchy(each) in mixed]
    moved = set(map(id, first))
    return [*first, *(each for each in changes if id(each) not in moved)]


def _hierarchy(change: Change) -> Mapper[Any]:
    return change.state.mapper.base_mapper


OldValues = dict[str, Any]


def changes_of(change: Change, old_values: Mapping[str, Any]) -> Changes:
    """The values that are written, attribute by attribute.

    Args:
        change: An insert or an update.
        old_values: Old values that take precedence over the instance's own history.

    Returns:
        Attribute name to ``(old, new)``; the old value is None for an INSERT.
    """
    state = change.state
    values = state.dict
    if change.kind is Kind.CREATE:
        found = {
            key: (None, values[key])
            for key in state.mapper.column_attrs.keys()  # noqa: SIM118 - not a dict
            if key in values
        }
    else:
        found = {
            key: (old_values.get(key, None if old is NO_VALUE else old), values[key])
            for key, old in changed_columns(state)
        }
        found = {key: pair for key, pair in found.items() if not is_same(state.manager, key, *pair)}
    return MappingProxyType(found)


class LiveChanges:
    """The on-demand arguments of a pre signal, computed when a receiver is called.

    So a receiver sees what earlier receivers have set.

    Args:
        session: The flushing session.
        change: An insert or an update.
        old_values: The old values read so far; those that are read later are added.
    """

    __slots__ = ("_change", "_old_values", "_session")

    def __init__(self, session: Session, change: Change, old_values: OldValues) -> None:
        self._session = session
        self._change = change
        self._old_values = old_values

    def get(self, name: str) -> Any:
        """The value of an on-demand argument: ``changes``; or ``inserted``, for filters."""
        if name == "inserted":
            state = self._change.state
            if self._change.kind is not Kind.CREATE:
                return None
            return Inserted(state.dict.keys(), partial(value_to_insert, state))
        if self._change.kind is Kind.UPDATE and self._may_have_unknown():
            read_old_values(self._session, {self._change: self._old_values})
        return changes_of(self._change, self._old_values)

    def _may_have_unknown(self) -> bool:
        """Whether a receiver may have assigned what wasn't loaded, and it can be read now.

        Between async receivers no query can be made.
        """
        return any(map(is_unknown, self._change.state.committed_state.values())) and (
            in_greenlet() or async_session(self._session) is None
        )


def row_changes(change: Change, extra: Mapping[str, Any] | LiveChanges) -> MappedChanges:
    """The changes of one row, as the filters of receivers judge them.

    Args:
        change: An insert or an update.
        extra: Its on-demand arguments: ``changes``, and for a new row ``inserted``, if more is
            known of it than its changes.
    """
    state = change.state
    changes, inserted = extra.get("changes") or {}, extra.get("inserted")
    if inserted is not None:
        return MappedChanges(state.mapper, changes, inserted.value_of, inserted.given)
    given = changes if change.kind is Kind.CREATE else None
    return MappedChanges(state.mapper, changes, partial(committed_value, state), given)


def read_old_values(
    session: Session, known: Mapping[Change, OldValues], ahead: Iterable[str] = ()
) -> None:
    """Read the old values from the database that the history of instances doesn't know.

    An attribute has no old value in memory if it was assigned while it was expired or deferred, or
    if its value was changed in place. There is one SELECT for each class and set of attributes.

    Args:
        session: The flushing session.
        known: The changes of updated rows, each with the old values read so far. Values that are
            read are added to these.
        ahead: Attributes of which the values are read as well, if they aren't loaded.
    """
    groups: dict[Any, dict[tuple[Any, ...], Change]] = {}
    for change, values in known.items():
        state = change.state
        unknown = tuple(
            key for key, old in changed_columns(state) if old is NO_VALUE and key not in values
        )
        if ahead:
            unknown += unloaded_columns(state, ahead, values)
        if unknown and state.identity is not None:
            group = state.mapper, state.identity_token, unknown
            groups.setdefault(group, {})[state.identity] = change
    for (mapper, _, unknown), members in groups.items():
        instances = {identity: change.instance for identity, change in members.items()}
        rows = read_rows(session, mapper, unknown, instances)
        for identity, change in members.items():
            if identity in rows:  # otherwise the row is gone, and the UPDATE will fail
                known[change].update(zip(unknown, rows[identity], strict=True))

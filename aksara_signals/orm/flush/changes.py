"""What one flush does: frozen values, and the ``changes`` of receivers that ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.base import NO_VALUE

from aksara_signals.orm.bridge.history import changed_columns, is_same
from aksara_signals.orm.bridge.rows import read_rows
from aksara_signals.orm.bridge.states import State
from aksara_signals.orm.kind import Kind
from aksara_signals.types import Changes


@dataclass(slots=True, eq=False)
class Change:
    """One row that a flush writes. Never changes; a frozen one takes thrice as long to make."""

    kind: Kind
    state: State
    instance: object
    """Held from before the flush to after it: a state alone would let its instance go."""
    sender: type[object]
    """The class that sends the signals of this change."""


def deleted_before_created(changes: list[Change]) -> list[Change]:
    """Changes in the order of sending.

    A new object may take over the row of a deleted one. SQLAlchemy makes one UPDATE of the two, and
    before the flush nobody can say so, because the key of the new one may not be known. Hence in
    every hierarchy of classes that has both, the deleted objects come first.

    Args:
        changes: In any order, which stays otherwise.
    """
    gone = {_hierarchy(each) for each in changes if each.kind is Kind.DELETE}
    if not gone:
        return changes
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
    """What is written, attribute by attribute.

    Args:
        change: Of a row that is inserted or updated.
        old_values: What is known better than by the instance's own history.

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
    """The on-demand arguments of a pre signal, worked out at the moment a receiver is called.

    A receiver sees what those before it have set.
    """

    __slots__ = ("_change", "_old_values")

    def __init__(self, change: Change, old_values: OldValues) -> None:
        self._change = change
        self._old_values = old_values

    def get(self, name: str) -> Changes:
        """The value of an on-demand argument; ``changes`` is the only one."""
        return changes_of(self._change, self._old_values)


def read_old_values(session: Session, known: Mapping[Change, OldValues]) -> None:
    """Read from the database what the history of instances doesn't know.

    That is the old value of an attribute which was assigned while expired or deferred, or changed
    in place. One SELECT for each class and set of attributes.

    Args:
        session: That flushes.
        known: Changes of rows that are updated, each with what was read before; added to.
    """
    groups: dict[Any, dict[tuple[Any, ...], Change]] = {}
    for change, values in known.items():
        state = change.state
        unknown = tuple(
            key for key, old in changed_columns(state) if old is NO_VALUE and key not in values
        )
        if unknown and state.identity is not None:
            group = state.mapper, state.identity_token, unknown
            groups.setdefault(group, {})[state.identity] = change
    for (mapper, _, unknown), members in groups.items():
        instances = {identity: change.instance for identity, change in members.items()}
        rows = read_rows(session, mapper, unknown, instances)
        for identity, change in members.items():
            if identity in rows:  # else it is gone, which is for the write to find
                known[change].update(zip(unknown, rows[identity], strict=True))

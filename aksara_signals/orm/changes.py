"""What one flush does: frozen values, and the ``changes`` of receivers that ask for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from sqlalchemy.orm import Session
from sqlalchemy.orm.base import NO_VALUE

from aksara_signals.orm import bridge
from aksara_signals.types import Changes

__all__ = [
    "Batch",
    "Change",
    "Kind",
    "LiveChanges",
    "batches",
    "changes_of",
    "read_old_values",
]


class Kind(Enum):
    """What happens to a row."""

    CREATE = "created"
    UPDATE = "updated"
    DELETE = "deleted"


class Change:
    """One row that a flush writes. Never changes."""

    __slots__ = ("instance", "kind", "sender", "state")

    def __init__(self, kind: Kind, state: bridge.State, instance: object) -> None:
        self.kind: Kind = kind
        self.state: bridge.State = state
        self.instance: object = instance
        """Held from before the flush to after it: a state alone would let its instance go."""
        self.sender: type[object] = type(instance)
        """The class that sends the signals of this change."""


Batch = tuple[Kind, type, list[Change]]
"""Changes of one kind and class."""


def batches(changes: Iterable[Change]) -> Iterator[Batch]:
    """Neighbours of one kind and class, in the same order."""
    for (kind, sender), group in groupby(changes, _kind_and_sender):
        yield kind, sender, list(group)


_kind_and_sender = attrgetter("kind", "sender")


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
            for key, old in bridge.changed_columns(state)
        }
        found = {key: pair for key, pair in found.items() if not _same(state, key, *pair)}
    return MappingProxyType(found)


def _same(state: bridge.State, key: str, old: Any, new: Any) -> bool:
    impl: Any = state.manager[key].impl
    return not bridge.is_expression(new) and impl.is_equal(new, old) is True


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


def read_old_values(session: Session, change: Change, known: OldValues) -> None:
    """Read from the database what an instance's history doesn't know.

    That is the old value of an attribute which was assigned while expired or deferred, or changed
    in place.

    Args:
        session: That flushes.
        change: Of a row that is updated.
        known: What was read before; added to.
    """
    state = change.state
    unknown = [
        key for key, old in bridge.changed_columns(state) if old is NO_VALUE and key not in known
    ]
    if not unknown or state.identity is None:
        return
    rows = bridge.read_rows(session, state.mapper, unknown, [state.identity], change.instance)
    for values in rows.values():
        known.update(zip(unknown, values, strict=True))

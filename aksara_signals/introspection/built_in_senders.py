"""The senders of every built-in signal: a receiver of another sender is never called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Mapper, RelationshipDirection, RelationshipProperty

from aksara_signals import signals as built_in
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.receivers.identity import SenderGroup
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm.bridge.history import reverse_keys
from aksara_signals.orm.mapping.registered import wired_classes
from aksara_signals.types import Sender

__all__ = ["MIGRATION_SIGNALS", "RELATION_SIGNALS", "BuiltInSenders"]

MIGRATION_SIGNALS = (built_in.pre_migrate, built_in.post_migrate)

RELATION_SIGNALS = (
    built_in.pre_relation_add,
    built_in.post_relation_add,
    built_in.pre_relation_remove,
    built_in.post_relation_remove,
)

_MIGRATION_SENDERS = ("upgrade", "downgrade", "revision")
"""The same as in ``contrib.alembic``, which can't be imported without Alembic."""


class BuiltInSenders:
    """The senders of every built-in signal, worked out from the classes that are mapped now."""

    def __init__(self) -> None:
        classes = wired_classes()
        owners = [cls for cls in classes if any(_owned_relationships(cls))]
        groups = [group for cls in classes for group in _many_to_many_groups(cls)]
        self._senders: dict[Signal, list[Sender]] = {}
        for name in built_in.__all__:
            self._senders[getattr(built_in, name)] = [*classes]
        self._senders.update((signal, [*owners]) for signal in RELATION_SIGNALS)
        self._senders.update((signal, [*_MIGRATION_SENDERS]) for signal in MIGRATION_SIGNALS)
        self._senders[built_in.m2m_changed] = [*groups]

    def senders_of(self, signal: Signal) -> list[Sender]:
        """The senders of a signal; those of a custom one are unknown, so there are none here."""
        return self._senders.get(signal, [])

    def is_built_in(self, signal: Signal) -> bool:
        """Whether a signal is built in, so that its senders are known."""
        return signal in self._senders

    def can_reach(self, signal: Signal, connection: Connection) -> bool:
        """Whether a connection to a built-in signal matches any of the signal's senders."""
        return any(
            connection.sender_key.matches(sender, connection.exact)
            for sender in self._senders[signal]
        )


def _relationships(cls: type) -> Iterator[RelationshipProperty[Any]]:
    mapper: Mapper[Any] = inspect(cls)
    return (each for each in mapper.relationships if not each.viewonly)


def _owned_relationships(cls: type) -> Iterator[RelationshipProperty[Any]]:
    """The relationships whose changes are sent as ``post_relation_add`` and its siblings."""
    return (
        each
        for each in _relationships(cls)
        if each.direction is not RelationshipDirection.MANYTOONE
    )


def _many_to_many_groups(cls: type) -> Iterator[SenderGroup]:
    """What receivers of ``m2m_changed`` may be connected to: the same as when it is sent."""
    for prop in _relationships(cls):
        if prop.secondary is None:
            continue
        reverse = [prop.mapper.relationships[key].class_attribute for key in reverse_keys(prop)]
        yield SenderGroup(
            prop.secondary,
            prop.class_attribute,
            getattr(cls, prop.key),
            *reverse,
            cls,
            *([prop.mapper.class_] if reverse else []),
        )

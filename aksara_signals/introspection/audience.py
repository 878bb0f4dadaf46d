"""Who sends which built-in signal: what a receiver has to be connected to, to be called at all."""

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

__all__ = ["MIGRATE", "RELATION", "Audiences"]

MIGRATE = (built_in.pre_migrate, built_in.post_migrate)

RELATION = (
    built_in.pre_relation_add,
    built_in.post_relation_add,
    built_in.pre_relation_remove,
    built_in.post_relation_remove,
)

_MIGRATE_SENDERS = ("upgrade", "downgrade", "revision")
# As in contrib.alembic, which can't be imported without Alembic.


class Audiences:
    """The senders of every built-in signal, as the classes are mapped now."""

    def __init__(self) -> None:
        classes = wired_classes()
        owners = [cls for cls in classes if any(_owned(cls))]
        groups = [group for cls in classes for group in _groups(cls)]
        self._senders: dict[Signal, list[Sender]] = {}
        for name in built_in.__all__:
            self._senders[getattr(built_in, name)] = [*classes]
        self._senders.update((signal, [*owners]) for signal in RELATION)
        self._senders.update((signal, [*_MIGRATE_SENDERS]) for signal in MIGRATE)
        self._senders[built_in.m2m_changed] = [*groups]

    def senders_of(self, signal: Signal) -> list[Sender]:
        """Whoever sends a signal; nobody is known for a custom one."""
        return self._senders.get(signal, [])

    def is_built_in(self, signal: Signal) -> bool:
        """Whether it is known who sends a signal."""
        return signal in self._senders

    def reach(self, signal: Signal, connection: Connection) -> bool:
        """Whether any sender of a built-in signal is one that a connection was made for."""
        return any(
            connection.sender_key.matches(sender, connection.exact)
            for sender in self._senders[signal]
        )


def _relationships(cls: type) -> Iterator[RelationshipProperty[Any]]:
    mapper: Mapper[Any] = inspect(cls)
    return (each for each in mapper.relationships if not each.viewonly)


def _owned(cls: type) -> Iterator[RelationshipProperty[Any]]:
    """The relationships whose members are told of as added and removed."""
    return (
        each
        for each in _relationships(cls)
        if each.direction is not RelationshipDirection.MANYTOONE
    )


def _groups(cls: type) -> Iterator[SenderGroup]:
    """Whom receivers of ``m2m_changed`` may name: the same as when it is sent."""
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

"""Why a :class:`SignalContext` would silence nothing, given a sender of the wrong kind."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, MetaData
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import (
    MappedColumn,
    Mapper,
    MapperProperty,
    QueryableAttribute,
    RelationshipProperty,
    Session,
    registry,
    scoped_session,
    sessionmaker,
)
from sqlalchemy.orm.interfaces import InspectionAttr
from sqlalchemy.orm.util import AliasedClass
from sqlalchemy.sql.expression import ClauseElement, FromClause

from aksara_signals.dispatch.receivers.identity import mro_of
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.orm.bridge.classes import (
    has_secondary,
    is_own_attribute,
    is_secondary,
    property_of,
)
from aksara_signals.orm.bridge.states import state_of
from aksara_signals.orm.objects.manager import Manager
from aksara_signals.orm.objects.meta import Meta
from aksara_signals.orm.objects.model_signals import BoundSignal, Emitter
from aksara_signals.orm.objects.queryset import QuerySet
from aksara_signals.signals import m2m_changed

_NO_SENDERS: dict[str, tuple[type, ...]] = {
    "a session": (Session, AsyncSession, scoped_session, async_scoped_session),
    "a factory of sessions": (sessionmaker, async_sessionmaker),
    "an engine or a connection": (Engine, AsyncEngine, Connection, AsyncConnection),
    "a collection of tables": (MetaData,),
    "a registry": (registry,),
    "the manager of a model": (Manager, QuerySet),
    "the signals of a model": (Emitter, Meta),
    "a signal of a model": (BoundSignal,),
    "a part of a mapping": (MapperProperty, MappedColumn, InspectionAttr),
}
"""Objects that stand close to a model and send no built-in signal, by their description."""


def problem_of(sender: Any, signals: tuple[Any, ...] | None) -> str | None:
    """What is wrong with a sender that is neither a class nor a name; None if nothing is.

    Args:
        sender: The sender whose signals are to be silenced.
        signals: Only these built-in signals; None for all signals, including custom ones.
    """
    kind = type(sender)  # isinstance() would trust its __class__
    sends_links = signals is None or any(each is m2m_changed for each in signals)
    if issubclass(kind, ClauseElement):
        if sends_links and is_secondary(sender):
            return None
        what = "a table" if issubclass(kind, FromClause) else "SQL"
        return f"is {what} and sends nothing: name the mapped class, or its relationship"
    if issubclass(kind, AliasedClass):
        return "is an alias and sends nothing: name the class itself"
    if issubclass(kind, Mapper):
        return f"is a mapper and sends nothing: name its class, {describe_sender(sender.class_)}"
    if issubclass(kind, QueryableAttribute):
        prop = property_of(sender)
        is_link = isinstance(prop, RelationshipProperty) and has_secondary(prop)
        if sends_links and is_link and is_own_attribute(sender):
            return None
        return (
            f"is the attribute {sender.key} and sends nothing: name its class, "
            f"{describe_sender(sender.class_)}"
        )
    if state_of(sender) is not None:
        return (
            f"is an instance; its class is what sends: name {describe_sender(kind)}, or, "
            f"where instances send a signal of your own, that signal in signals="
        )
    mro = mro_of(kind)  # not issubclass(): an abstract class would run code of the sender's type
    for what, kinds in _NO_SENDERS.items():
        if any(base is each for base in mro for each in kinds):
            return (
                f"is {what} and sends nothing: name the mapped class, or, where it sends a signal "
                f"of your own, that signal in signals="
            )
    if signals is not None:
        return "sends none of these signals: they are sent by mapped classes; name one"
    return None

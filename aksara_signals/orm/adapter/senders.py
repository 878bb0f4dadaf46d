"""Senders and receivers that are objects of SQLAlchemy or of ours, and why they won't do."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Table, inspect
from sqlalchemy.ext.asyncio import async_scoped_session, async_sessionmaker
from sqlalchemy.orm import (
    MappedColumn,
    Mapper,
    MapperProperty,
    QueryableAttribute,
    RelationshipProperty,
    scoped_session,
    sessionmaker,
)

from aksara_signals.dispatch.receivers.identity import names_of
from aksara_signals.orm.bridge.classes import (
    has_secondary,
    is_own_attribute,
    mapped_classes,
    place_of,
    property_of,
)
from aksara_signals.orm.bridge.states import state_of
from aksara_signals.orm.mapping.registered import is_model
from aksara_signals.orm.objects.meta import Meta
from aksara_signals.orm.objects.model_signals import BoundSignal


def sends_signals(cls: type) -> bool:
    """Whether a class is mapped, or is a base for mapped classes."""
    try:
        return is_model(cls)
    except Exception:  # noqa: BLE001 - its metaclass raises, so it is not a mapped class
        return False


def problem_of_receiver(thing: Any) -> str | None:
    """Why a callable object of ours or SQLAlchemy's is not a receiver; None if it may be one."""
    kind = type(thing)
    if issubclass(kind, (sessionmaker, async_sessionmaker, scoped_session, async_scoped_session)):
        return "makes sessions and is not a receiver; connect a function"
    if issubclass(kind, BoundSignal):
        return "is a model's signal and not a receiver; connect a function that sends it"
    if issubclass(kind, Meta):
        return f"is {thing!r} and not a receiver; to name a sender, give the class itself"
    return None


# -- senders that can never send -----------------------------------------------------------------


def explain(sender: Any, signal_name: str, is_of_links: bool) -> str | None:
    """Why an object can't send a built-in signal, and what to give instead; None if it can.

    Args:
        sender: Neither a class nor a string.
        signal_name: The name of the signal, for the message.
        is_of_links: Whether the signal is ``m2m_changed``, which tables and relationships send.
    """
    kind = type(sender)  # isinstance() would ask the object
    if issubclass(kind, Table):
        return None if is_of_links else _of_table(sender, signal_name)
    if issubclass(kind, Mapper):
        name = names_of(sender.class_)[0]
        return f"is the mapper of {name}: give the class, as in @{signal_name}({name})"
    if issubclass(kind, (QueryableAttribute, MapperProperty)):
        return _of_attribute(sender, signal_name, is_of_links)
    if issubclass(kind, (MappedColumn, Column)):
        return _of_column(signal_name, None, None)
    if state_of(sender) is not None:
        name = names_of(kind)[0]
        return f"is an instance of {name}: give the class, as in @{signal_name}({name})"
    if is_of_links:
        return (
            f"is not a relationship: give one with secondary=, its table or one of its classes, "
            f"as in @{signal_name}(Post.tags)"
        )
    return None


def _of_table(table: Table, signal_name: str) -> str:
    for cls in mapped_classes():
        mapper: Any = inspect(cls)
        if mapper.local_table is table:
            name = names_of(cls)[0]
            return f"is the table of {name}: give the class, as in @{signal_name}({name})"
    return (
        f"is a table: give a mapped class, as in @{signal_name}(Post), or connect to m2m_changed, "
        f"which the tables of many-to-many relationships send"
    )


def _of_attribute(attribute: Any, signal_name: str, is_of_links: bool) -> str | None:
    prop = property_of(attribute)
    owner, key = place_of(prop)
    if not isinstance(prop, RelationshipProperty):
        return _of_column(signal_name, owner, key)
    if not has_secondary(prop):
        return (
            "is a relationship without secondary=, and m2m_changed is for those that have it: "
            "connect to post_relation_add and post_relation_remove of the class whose "
            "collection it is, which pass relation_name"
        )
    is_attribute = issubclass(type(attribute), QueryableAttribute)
    if is_of_links and is_attribute and is_own_attribute(attribute):
        return None
    name = "Post.tags" if owner is None else f"{names_of(owner)[0]}.{key}"
    if is_of_links and is_attribute:
        return (
            f"is a relationship of an alias, or narrowed for a query: give the class's own, as in "
            f"@m2m_changed({name})"
        )
    return f"is a relationship: its links send m2m_changed, as in @m2m_changed({name})"


def _of_column(signal_name: str, owner: type | None, key: str | None) -> str:
    name = "Post" if owner is None else names_of(owner)[0]
    what = "its name" if key is None else repr(key)
    return (
        f"is an attribute: give the class, as in @{signal_name}({name}); save and update "
        f"signals are narrowed to changes of an attribute by fields=[{what}]"
    )

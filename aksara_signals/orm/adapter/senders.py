"""What only SQLAlchemy's side knows of senders: tables, mappers, attributes, classes not wired."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator
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

from aksara_signals.dispatch.receivers.identity import is_class, names_of
from aksara_signals.dispatch.receivers.naming import describe_receiver
from aksara_signals.dispatch.registry import all_signals
from aksara_signals.dispatch.senders import (
    classes_named,
    is_sent_by_classes,
)
from aksara_signals.exceptions import AksaraSignalsWarning
from aksara_signals.orm.bridge.classes import (
    has_secondary,
    is_own_attribute,
    mapped_classes,
    place_of,
    property_of,
)
from aksara_signals.orm.bridge.states import state_of
from aksara_signals.orm.mapping.registered import is_model, is_wired
from aksara_signals.orm.objects.meta import Meta
from aksara_signals.orm.objects.model_signals import BoundSignal

__all__ = [
    "check_unwired",
    "explain",
    "is_check_due",
    "note_connected",
    "problem_of_receiver",
    "sends_signals",
]


def sends_signals(cls: type) -> bool:
    """Whether a class is mapped, or there to be inherited by mapped classes."""
    try:
        return is_model(cls)
    except Exception:  # noqa: BLE001 - its metaclass doesn't like to be asked: no mapped class
        return False


def problem_of_receiver(thing: Any) -> str | None:
    """Why something of ours or SQLAlchemy's that can be called is no receiver."""
    kind = type(thing)
    if issubclass(kind, (sessionmaker, async_sessionmaker, scoped_session, async_scoped_session)):
        return "makes sessions and is no receiver; connect a function"
    if issubclass(kind, BoundSignal):
        return "is a model's signal and no receiver; connect a function that sends it"
    if issubclass(kind, Meta):
        return f"is {thing!r} and no receiver; to name a sender, give the class itself"
    return None


# -- senders that can never send -----------------------------------------------------------------


def explain(sender: Any, signal_name: str, is_of_links: bool) -> str | None:
    """Why an object can't send a built-in signal, and what was meant; None if it may.

    Args:
        sender: Neither a class nor a string.
        signal_name: The signal's, for the words.
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
        f"is an attribute: give the class, as in @{signal_name}({name}), and look for {what} in "
        f"the changes that save signals pass (there is no fields= to narrow a connection yet)"
    )


# -- classes that don't send yet -----------------------------------------------------------------

_classes: weakref.WeakValueDictionary[int, type] = weakref.WeakValueDictionary()
_names: dict[str, None] = {}
"""What receivers were connected to since the last check, and classes that weren't mapped then."""

_warned: weakref.WeakSet[type] = weakref.WeakSet()

_is_due = False


def is_check_due() -> bool:
    """Whether receivers were connected since the last check."""
    return _is_due


def note_connected(sender: Any) -> None:
    """Note a class, or the name of one, to be looked at by :func:`check_unwired`."""
    global _is_due  # noqa: PLW0603 - one flag, read at every flush
    if is_class(sender):
        _classes[id(sender)] = sender
    else:
        _names[sender] = None
    _is_due = True


def check_unwired() -> None:
    """Warn of receivers that are connected to mapped classes which send no signals.

    That is known no sooner than the classes are used: ``register()`` may come after the receivers.
    """
    global _is_due  # noqa: PLW0603 - the same flag
    _is_due = False
    for cls in _candidates():
        if cls not in _warned and (receivers := list(_receivers_of(cls))):
            _warned.add(cls)
            name, path = names_of(cls)
            warnings.warn(
                f"{path} is mapped and sends no signals, but {' and '.join(receivers)}; "
                f"inherit SignalMixin, or call aksara_signals.orm.register({name})",
                AksaraSignalsWarning,
                stacklevel=2,
            )


def _candidates() -> Iterator[type]:
    """Mapped classes that a receiver may be connected to, and of which no mapper sends signals."""
    mapped: list[type] = []
    for reference in _classes.valuerefs():
        cls = reference()
        if cls is not None and inspect(cls, raiseerr=False) is not None:
            _classes.pop(id(cls), None)
            mapped.append(cls)
    for name in list(_names):
        classes = classes_named(name)
        if classes:
            _names.pop(name, None)
            mapped.extend(classes)
    for cls in mapped:
        mapper: Any = inspect(cls)
        if not any(is_wired(each.class_) for each in mapper.self_and_descendants):
            yield cls


def _receivers_of(cls: type) -> Iterator[str]:
    for signal in all_signals():
        for connection in signal.connections:
            sender = connection.sender
            is_name = connection.sender_key.is_name and sender in names_of(cls)
            if (sender is cls or is_name) and is_sent_by_classes(signal.payload):
                receiver = describe_receiver(connection.receiver)
                yield f"{receiver} is connected to its {signal.display_name}"

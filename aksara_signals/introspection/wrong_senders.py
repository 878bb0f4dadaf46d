"""Find receivers whose sender doesn't exist, is ambiguous, or never sends the signal."""

from __future__ import annotations

from collections.abc import Iterator

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.receivers.identity import mro_of, names_of
from aksara_signals.dispatch.receivers.naming import nearest
from aksara_signals.dispatch.registry import all_signals
from aksara_signals.dispatch.senders import classes_named
from aksara_signals.dispatch.signal import Signal
from aksara_signals.introspection.built_in_senders import (
    MIGRATION_SIGNALS,
    RELATION_SIGNALS,
    BuiltInSenders,
)
from aksara_signals.introspection.findings import Code, Finding, Severity
from aksara_signals.introspection.names import place_of_connection, sender_name
from aksara_signals.orm.bridge.classes import mapped_classes
from aksara_signals.orm.mapping.registered import is_wired
from aksara_signals.signals import m2m_changed
from aksara_signals.types import Sender

__all__ = ["find_wrong_senders"]


def find_wrong_senders(built_in: BuiltInSenders) -> Iterator[Finding]:
    """Find senders that are misspelt, ambiguous, or never send the signal."""
    mapped = list(mapped_classes())
    known = {name for cls in mapped for base in mro_of(cls) for name in names_of(base)}
    for signal in all_signals():
        for connection in signal.connections:
            if connection.sender_key.is_name:
                yield from _check_name(signal, connection, built_in, sorted(known))
            elif (
                connection.sender is not None
                and built_in.is_built_in(signal)
                and not built_in.can_reach(signal, connection)
            ):
                yield _never_sent(signal, connection, connection.sender)


def _check_name(
    signal: Signal, connection: Connection, built_in: BuiltInSenders, known: list[str]
) -> Iterator[Finding]:
    name: str = connection.sender
    classes = classes_named(name)
    if len(classes) > 1:
        paths = ", ".join(sorted(names_of(cls)[1] for cls in classes))
        yield Finding(
            Code.AMBIGUOUS_SENDER,
            Severity.ERROR,
            f"sender={name!r} of {signal.display_name} is the name of {len(classes)} mapped "
            f"classes: {paths}; sending to its receiver fails",
            place_of_connection(connection),
            "give the dotted path, or the class itself",
        )
    elif not built_in.is_built_in(signal):
        # A custom signal may be sent by this very string: only what looks misspelt is reported.
        if name not in known and nearest(name, known):
            yield _unresolved(signal, connection, known, Severity.WARNING)
    elif built_in.can_reach(signal, connection):
        return
    elif name in known and signal not in MIGRATION_SIGNALS:
        yield _never_sent(signal, connection, classes[0] if classes else name)
    else:
        senders = built_in.senders_of(signal) if signal in MIGRATION_SIGNALS else known
        yield _unresolved(signal, connection, senders, Severity.ERROR)


def _unresolved(
    signal: Signal, connection: Connection, known: list[str], severity: Severity
) -> Finding:
    name: str = connection.sender
    what = "command of Alembic" if signal in MIGRATION_SIGNALS else "mapped class"
    return Finding(
        Code.UNRESOLVED_SENDER,
        severity,
        f"sender={name!r} of {signal.display_name} names no {what}{nearest(name, known)}",
        place_of_connection(connection),
        "fix the name, or also name the module that defines the class on the command line",
    )


def _never_sent(signal: Signal, connection: Connection, sender: Sender) -> Finding:
    what, remedy = _reason(signal, connection, sender)
    return Finding(
        Code.NEVER_SENT,
        Severity.ERROR,
        f"{signal.display_name} is never sent for {sender_name(connection.sender).title}: {what}",
        place_of_connection(connection),
        remedy,
    )


def _reason(signal: Signal, connection: Connection, sender: Sender) -> tuple[str, str]:
    """Why a signal is never sent for a sender, and what to do."""
    if signal in MIGRATION_SIGNALS:
        return "its senders are commands of Alembic", "give 'upgrade', 'downgrade' or 'revision'"
    if not isinstance(sender, (type, str)):  # of m2m_changed: other signals raise when connecting
        return (
            "no many-to-many relationship of a class that sends signals belongs to it",
            "give a relationship with secondary=, its table, or one of its classes",
        )
    if isinstance(sender, type) and not _sends(sender, connection.exact):
        if connection.exact and _sends(sender, exact=False):
            return "only its subclasses are mapped", "remove exact=True"
        if any(sender in mro_of(cls) for cls in mapped_classes()):
            return (
                "it is mapped, but without SignalMixin",
                "inherit SignalMixin, or give the class to aksara_signals.orm.register()",
            )
        return (
            "neither it nor a subclass is mapped",
            "map it, or also name the module of its mapped subclasses on the command line",
        )
    if signal is m2m_changed:
        return "it has no many-to-many relationship", "give a class that has one"
    if signal in RELATION_SIGNALS:
        return (
            "it has no relationship to many objects, nor to one object that has the foreign key",
            "give the class on the other side of the relationship",
        )
    return "no class of this name sends signals", "inherit SignalMixin, or remove exact=True"


def _sends(cls: type, exact: bool) -> bool:
    """Whether a class, or a subclass of it, is mapped and sends signals."""
    return any(
        is_wired(each) and (each is cls or (not exact and cls in mro_of(each)))
        for each in mapped_classes()
    )

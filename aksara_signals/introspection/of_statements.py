"""Find receivers that statements call in part, and classes whose statements are refused."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from sqlalchemy import Table, inspect
from sqlalchemy.orm import Mapper

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.receivers.identity import names_of, receiver_address, same_receiver
from aksara_signals.dispatch.signal import Signal
from aksara_signals.introspection.findings import Code, Finding, Severity
from aksara_signals.introspection.names import place_of_connection
from aksara_signals.orm.mapping.registered import wired_classes
from aksara_signals.signals import post_delete, post_save, post_update

__all__ = ["find_of_statements"]

Connected = list[tuple[Signal, Connection]]
"""The connections to a class, each with its signal."""


def find_of_statements() -> Iterator[Finding]:
    """Find receivers and classes with ``statements=True`` on a part of their connections.

    Before them, the classes whose statements are refused, because somebody asks for their rows.
    """
    connected = {cls: _connections_of(cls) for cls in wired_classes()}
    for cls, connections in connected.items():
        asking = [(signal, each) for signal, each in connections if each.statements]
        if asking:
            yield from _of_refused(cls, asking)
    seen: set[frozenset[Connection]] = set()
    for cls, connections in connected.items():
        for receiver in _by_receiver(connections):
            key = frozenset(each for _, each in receiver)
            if _is_mixed(receiver) and key not in seen:
                seen.add(key)
                yield _of_receiver(cls, receiver)
    for cls, connections in connected.items():
        alike = [each for each in _by_receiver(connections) if not _is_mixed(each)]
        rest = [pair for each in alike for pair in each]
        base: Mapper[Any] | None = inspect(cls).inherits
        of_base = None if base is None else connected.get(base.class_)
        # A subclass with the receivers of its base is no news.
        if _is_mixed(rest) and connections != of_base:
            yield _of_class(cls, rest)


def _connections_of(cls: type) -> Connected:
    return [
        (signal, connection)
        for signal in (post_save, post_update, post_delete)
        for connection in signal.connections
        if connection.sender_key.matches(cls, connection.exact)
    ]


def _by_receiver(connections: Connected) -> Iterator[Connected]:
    """The connections of each receiver."""
    groups: dict[Hashable, list[Connected]] = {}
    for pair in connections:
        receiver = pair[1].receiver
        alike = groups.setdefault(receiver_address(receiver), [])
        for group in alike:
            if same_receiver(group[0][1].receiver, receiver):
                group.append(pair)
                break
        else:
            alike.append([pair])
    for alike in groups.values():
        yield from alike


def _is_mixed(connections: Connected) -> bool:
    return len({each.statements for _, each in connections}) > 1


def _of_refused(cls: type, asking: Connected) -> Iterator[Finding]:
    table: Any = inspect(cls).local_table
    if not isinstance(table, Table):
        why, refused = "it is not mapped to a table", "statements on it"
        remedy = "name the classes of its tables in statements"
    elif not table.implicit_returning:
        why = f"table {table.fullname} has implicit_returning=False"
        refused, remedy = "upserts, and INSERTs of several rows or from a SELECT,", "remove it"
        asking = [
            (signal, each)
            for signal, each in asking
            if signal is post_save and each.created is not False
        ]
    else:
        return
    for _, connection in asking[:1]:
        place = place_of_connection(connection)
        yield Finding(
            Code.REFUSED_STATEMENTS,
            Severity.WARNING,
            f"{place.name} is connected to {names_of(cls)[1]} with statements=True, and {why}: "
            f"{refused} raise StatementSignalError, because their rows can't be known",
            place,
            f"{remedy}, or connect without statements=True",
        )


def _of_receiver(cls: type, connections: Connected) -> Finding:
    called, others = (
        " and ".join(
            dict.fromkeys(
                signal.display_name for signal, each in connections if each.statements is wanted
            )
        )
        for wanted in (True, False)
    )
    first = next(each for _, each in connections if not each.statements)
    place = place_of_connection(first)
    return Finding(
        Code.PARTLY_CALLED,
        Severity.WARNING,
        f"{place.name} is connected to {called} of {names_of(cls)[1]} with statements=True, and to "
        f"{others} without: a part of the statements doesn't call it",
        place,
        "give statements=True to all of its connections, or to none",
    )


def _of_class(cls: type, connections: Connected) -> Finding:
    called, others = (
        list(
            dict.fromkeys(
                place_of_connection(each) for _, each in connections if each.statements is wanted
            )
        )
        for wanted in (True, False)
    )
    one, other = (
        f"{places[0].name}{f' and {len(places) - 1} more' if places[1:] else ''}"
        for places in (called, others)
    )
    return Finding(
        Code.MIXED_RECEIVERS,
        Severity.NOTE,
        f"statements on {names_of(cls)[1]} call {one}, and not {other}",
        others[0],
        "if these have to follow statements as well, give them statements=True; pytest's option "
        "--signals-statements names the statements that don't call them",
    )

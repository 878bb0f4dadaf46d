"""Find receivers that are connected twice: as two objects, or by two connections."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from itertools import combinations
from types import FunctionType

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.receivers.identity import receiver_address, same_receiver
from aksara_signals.dispatch.registry import all_signals
from aksara_signals.dispatch.signal import Signal
from aksara_signals.introspection.built_in_senders import BuiltInSenders
from aksara_signals.introspection.findings import Code, Finding, Severity
from aksara_signals.introspection.names import place_of_connection, sender_name
from aksara_signals.types import Sender

__all__ = ["find_duplicates"]


def find_duplicates(built_in: BuiltInSenders) -> Iterator[Finding]:
    """Find functions that exist twice, and receivers that two connections lead to."""
    for signal in all_signals():
        yield from _copies(signal)
        yield from _reached_twice(signal, built_in)


# -- two objects ----------------------------------------------------------------------------------


def _copies(signal: Signal) -> Iterator[Finding]:
    named: dict[Hashable, list[tuple[Connection, FunctionType]]] = {}
    for connection in signal.connections:
        receiver = connection.receiver
        if isinstance(receiver, FunctionType):
            key = receiver.__qualname__, connection.sender_key.address, connection.phase
            named.setdefault(key, []).append((connection, receiver))
    for functions in named.values():
        first, one = functions[0]
        copies = [each for _, each in functions[1:] if _is_copy(one, each)]
        if copies:
            modules = sorted({str(each.__module__) for each in (one, *copies)})
            yield Finding(
                Code.DUPLICATE_RECEIVER,
                Severity.ERROR,
                f"{len(copies) + 1} functions named {one.__qualname__} of {' and '.join(modules)} "
                f"are connected to {signal.display_name} for "
                f"{sender_name(first.sender).title}: each send calls all of them",
                place_of_connection(first),
                "import the module once and under one name, connect where it is imported, and give "
                "the connection a dispatch_uid",
            )


def _is_copy(one: FunctionType, other: FunctionType) -> bool:
    """Whether two functions come from the same source, executed twice, and do the same."""
    if one is other:
        return False
    if "<locals>" in one.__qualname__ or "<lambda>" in one.__qualname__:
        # Made by a function or in a loop on purpose, unless the two are exactly the same.
        return (
            one.__code__ is other.__code__
            and one.__closure__ is None
            and one.__defaults__ is None
            and one.__kwdefaults__ is None
        )
    return _written_at(one) == _written_at(other)


def _written_at(function: FunctionType) -> tuple[str, int]:
    return function.__code__.co_filename, function.__code__.co_firstlineno


# -- two connections ------------------------------------------------------------------------------


def _reached_twice(signal: Signal, built_in: BuiltInSenders) -> Iterator[Finding]:
    groups: dict[Hashable, list[Connection]] = {}
    for connection in signal.connections:
        key = receiver_address(connection.receiver), connection.phase
        groups.setdefault(key, []).append(connection)
    for connections in groups.values():
        for first, second in combinations(connections, 2):
            if same_receiver(first.receiver, second.receiver) and _overlap(
                first, second, built_in.senders_of(signal)
            ):
                place = place_of_connection(first)
                one, other = (sender_name(each.sender).title for each in (first, second))
                yield Finding(
                    Code.REACHED_TWICE,
                    Severity.WARNING,
                    f"{place.name} is connected to {signal.display_name} for {one} and for "
                    f"{other}, and some senders match both: it is called once for them, with the "
                    f"options of the connection that comes first",
                    place,
                    "remove one of the connections, or narrow the wider one with exact=True",
                )


def _overlap(first: Connection, second: Connection, senders: list[Sender]) -> bool:
    """Whether one send can reach both connections."""
    if None not in (first.created, second.created) and first.created != second.created:
        return False
    if first.watches and second.watches:
        return False  # one receiver for any of several changes
    return any(
        first.sender_key.matches(sender, first.exact)
        and second.sender_key.matches(sender, second.exact)
        for sender in (*senders, first.sender, second.sender)
    )

"""Find receivers that are narrowed to attributes that no row changes, or to impossible changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.connections.matching import accepts
from aksara_signals.dispatch.connections.narrowing import CHANGE_FILTERS
from aksara_signals.dispatch.registry import all_signals
from aksara_signals.dispatch.signal import Signal
from aksara_signals.introspection.built_in_senders import BuiltInSenders
from aksara_signals.introspection.findings import Code, Finding, Severity
from aksara_signals.introspection.names import place_of_connection, sender_name
from aksara_signals.orm.mapping.fields import problem_of_field

__all__ = ["find_wrong_fields"]


def find_wrong_fields(built_in: BuiltInSenders) -> Iterator[Finding]:
    """Find ``fields`` and ``transition`` that let no change through."""
    for signal in all_signals():
        for connection in signal.connections:
            if connection.watches:
                yield from _unknown(signal, connection, built_in)
                yield from _impossible(signal, connection)


def _unknown(signal: Signal, connection: Connection, built_in: BuiltInSenders) -> Iterator[Finding]:
    classes = [
        each
        for each in built_in.senders_of(signal)
        if connection.sender_key.matches(each, connection.exact)
    ]
    for option in CHANGE_FILTERS:
        for name in sorted(getattr(connection, option) or ()):
            problems = ((cls, problem_of_field(cls, name)) for cls in classes)
            for cls, problem in problems:
                if problem is not None:
                    title = sender_name(cls).title
                    yield Finding(
                        Code.UNKNOWN_FIELD,
                        Severity.ERROR,
                        f"{option}= of {signal.display_name} names {name!r}, and of {title} it "
                        f"{problem}: each flush of {title} fails",
                        place_of_connection(connection),
                        "fix the name, or name as senders the classes that have the attribute",
                    )
                    break


def _impossible(signal: Signal, connection: Connection) -> Iterator[Finding]:
    for name, (old, new) in (connection.transition or {}).items():
        reason = _reason(connection, old, new)
        if reason is not None:
            yield Finding(
                Code.IMPOSSIBLE_TRANSITION,
                Severity.WARNING,
                f"transition= of {signal.display_name} is never made by {name!r}: {reason}",
                place_of_connection(connection),
                "correct its values; each side is a value, a set of values, or ... for any",
            )


def _reason(connection: Connection, old: Any, new: Any) -> str | None:
    """Why no row makes a transition, as far as that shows; None if one may."""
    if connection.created and not accepts(old, lambda each: each is None):
        return "the old value of a new row is None (created=True)"
    if old is not None and type(old) is type(new) and isinstance(old, (str, int)) and old == new:
        return "its old and its new value are the same"
    return None

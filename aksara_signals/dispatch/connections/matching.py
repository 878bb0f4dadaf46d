"""Whether the changes of a row let a receiver through that has ``fields=`` or ``transition=``.

What has changed is often known only shortly before a receiver is called, because receivers before
it may change further attributes. So a plan can't be narrowed in advance, as it is for ``created=``:
each row is judged just before its delivery.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from types import EllipsisType
from typing import Any, Protocol

from aksara_signals.dispatch.adapter import get_adapter
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import SignalPayloadError
from aksara_signals.types import Sender


class JudgedChanges(Protocol):
    """What has changed about one row, as filters need to know it."""

    def has(self, name: str) -> bool:
        """Whether an attribute has changed; of a new row, whether it was set."""
        ...

    def fits(self, name: str, old: Any, new: Any) -> bool:
        """Whether an attribute has changed from one of the old values to one of the new ones."""
        ...


class PlainChanges:
    """The changes that a class sends by hand of which the adapter knows nothing.

    Args:
        changes: Attribute name to ``(old, new)``.
    """

    __slots__ = ("_changes",)

    def __init__(self, changes: Mapping[str, Any]) -> None:
        self._changes = changes

    def has(self, name: str) -> bool:
        """Whether an attribute has changed."""
        return name in self._changes

    def fits(self, name: str, old: Any, new: Any) -> bool:
        """Whether an attribute has changed from one of the old values to one of the new ones."""
        if name not in self._changes:
            return False
        before, after = self._changes[name]
        return accepts(old, lambda each: each == before) and accepts(
            new, lambda each: each == after
        )


def accepts(expected: Any, is_value: Callable[[Any], object]) -> bool:
    """Whether one side of a transition accepts a value.

    Args:
        expected: A value, a set of values of which each is compared, or ``...`` for any.
        is_value: Compares one value with the one that was found.
    """
    if isinstance(expected, EllipsisType):
        return True
    if isinstance(expected, (set, frozenset)):
        return any(is_value(each) for each in expected)
    return bool(is_value(expected))


def passes(connection: Connection, row: JudgedChanges | None) -> bool:
    """Whether the changes of a row let a connection through.

    Args:
        connection: Any; one without ``fields=`` and ``transition=`` is always let through.
        row: None if nothing is known of what has changed.
    """
    if not connection.watches:
        return True
    if row is None:
        return False
    fields, transition = connection.fields, connection.transition
    return (fields is None or any(map(row.has, fields))) and (
        transition is None
        or all(row.fits(name, old, new) for name, (old, new) in transition.items())
    )


def let_through(
    connections: Iterable[Connection],
    row: JudgedChanges | None,
    repeated: Mapping[Connection, Hashable],
    called: set[Hashable],
) -> tuple[Connection, ...]:
    """The connections that the changes of a row let through, each receiver once.

    Args:
        connections: In call order.
        row: What has changed.
        repeated: The connections whose receiver has several in the plan, each with a key that they
            have in common.
        called: The keys of the receivers that have been chosen for this send; more are added.
    """
    chosen: list[Connection] = []
    for each in connections:
        key = repeated.get(each)
        if (key is None or key not in called) and passes(each, row):
            chosen.append(each)
            if key is not None:
                called.add(key)
    return tuple(chosen)


def changes_sent(sender: Sender, arguments: Mapping[str, Any]) -> JudgedChanges | None:
    """What has changed, according to the arguments of a send by hand or of a bulk update.

    Raises:
        SignalPayloadError: ``changes`` was sent, and is no mapping of names to ``(old, new)``.
    """
    fields = arguments.get("fields")
    if fields is not None:
        changes: Any = dict.fromkeys(fields, (None, None))
    else:
        changes = arguments.get("changes")
        if changes is None:
            return None
        if not isinstance(changes, Mapping) or not all(
            isinstance(pair, tuple) and len(pair) == 2 for pair in changes.values()
        ):
            raise SignalPayloadError(
                f"changes={describe_sender(changes)} was sent, and a receiver is narrowed to "
                f"certain changes; send a dict of attribute names, each with a tuple (old, new)"
            )
    found = get_adapter().row_changes(sender, changes, arguments.get("instance"))
    return PlainChanges(changes) if found is None else found

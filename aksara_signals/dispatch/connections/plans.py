"""The plans of a signal's senders, each worked out once and kept until a change concerns it.

A receiver may be connected at any moment, in another thread, and a send must not use an outdated
plan. So a plan is kept only if no connection has changed while it was worked out, and every change
removes the plans that it concerns before it ends: those of its sender, and of the sender's
subclasses. The plans of other senders stay. A send that finds its plan takes no lock.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.connections.index import ConnectionIndex
from aksara_signals.dispatch.connections.lock import undisturbed
from aksara_signals.dispatch.connections.narrowing import require_fields
from aksara_signals.dispatch.connections.options import FILTERS
from aksara_signals.dispatch.connections.routing import NO_RECEIVERS, Plan, once
from aksara_signals.dispatch.receivers.identity import (
    SenderGroup,
    is_class,
    is_number,
    is_plain_value,
)
from aksara_signals.dispatch.senders import require_unambiguous
from aksara_signals.types import Sender

MAX_VALUES = 1_000
"""For how many strings and numbers plans are kept. An application may send by as many as it has
customers."""

MAX_TRIES = 10
"""How often a plan is worked out if connections change each time meanwhile."""

MAX_SUBCLASSES = 1_000
"""How many subclasses of a sender are looked for; beyond it, the plans of all senders are removed.
"""


class PlanCache:
    """The plans of the senders of one signal.

    Args:
        index: The signal's connections.
    """

    __slots__ = ("_changes", "_groups", "_index", "of_objects", "of_values")

    def __init__(self, index: ConnectionIndex) -> None:
        self._index = index
        self._changes = 0
        self.of_objects: dict[int, tuple[Callable[[], Any], Plan]] = {}
        """By the address of a sender: a reference to the sender, and its plan. An address is reused
        after its object has died, so a look-up has to compare the sender as well."""
        self.of_values: dict[Any, Plan] = {}
        """By a sender that is a string or a number, of one of the built-in types."""
        self._groups: set[int] = set()
        """The addresses of the senders that are groups."""

    # -- reading -------------------------------------------------------------------------------

    def make(self, sender: Sender) -> Plan:
        """Work out the plan of a sender, and keep it for as long as it holds and the sender lives.

        Raises:
            AmbiguousSenderError: A name that a receiver is connected to is that of two classes.
            UnknownFieldError: The sender has no attribute that a receiver is narrowed to.
        """
        seen = self._changes
        # Without the lock: this may call code of users, and SQLAlchemy, which has locks itself.
        plan = self._worked_out(sender)
        tries = 1
        while not self._cache(sender, plan, seen) and tries < MAX_TRIES:
            seen, tries = self._changes, tries + 1
            plan = self._worked_out(sender)
        return plan

    def _cache(self, sender: Sender, plan: Plan, seen: int) -> bool:
        """Keep a plan for the next send, unless connections have changed; False if they have."""
        reference = _reference_to(sender, self.of_objects)
        with undisturbed() as is_complete:
            if not is_complete:
                return True  # it may be of half a change, and so may the next one
            if seen != self._changes:
                return False
            self._put(sender, reference, plan)
            return True

    def _put(self, sender: Sender, reference: Callable[[], Any] | None, plan: Plan) -> None:
        if reference is not None:
            if type(sender) is SenderGroup:
                self._groups.add(id(sender))
            self.of_objects[id(sender)] = (reference, plan)
        elif is_plain_value(sender):
            if len(self.of_values) >= MAX_VALUES:
                self.of_values.clear()
            self.of_values[sender] = plan

    def _worked_out(self, sender: Sender) -> Plan:
        matching = self._index.matching(sender)
        if not matching:
            return NO_RECEIVERS
        if not issubclass(type(sender), str):
            for connection in matching:
                if connection.sender_key.is_name:
                    require_unambiguous(connection.sender_key.get())
        matching.sort(key=lambda each: -each.priority)  # stable: equal ones keep their order
        for connection in matching:
            if connection.watches:
                require_fields(connection, sender)
        chosen = once(matching, FILTERS)
        asking = [each for each in matching if each.statements]
        if not asking:
            return Plan(chosen) if chosen else NO_RECEIVERS
        return Plan(chosen, once(asking, FILTERS))

    # -- changing, under the lock --------------------------------------------------------------

    def replace_index(self, index: ConnectionIndex) -> None:
        """Take the connections of another index from now on."""
        self._index = index
        self.clear()

    def clear(self) -> None:
        """Remove all plans."""
        self._changes += 1
        self.of_objects.clear()
        self.of_values.clear()
        self._groups.clear()

    def remove_concerned(self, changed: Iterable[Connection]) -> None:
        """Remove the plans that these connections are part of, or are to be part of."""
        self._changes += 1
        while self._groups:
            self.of_objects.pop(self._groups.pop(), None)
        for connection in changed:
            self._remove_concerned(connection)

    def _remove_concerned(self, connection: Connection) -> None:
        key = connection.sender_key
        sender = key.get()
        if key.address is None or key.is_name:
            self.clear()  # any sender may be concerned
        elif is_class(sender) and not connection.exact:
            self._remove_subclasses(sender)
        elif is_number(sender):
            self.of_values.clear()
        else:
            self.of_objects.pop(id(sender), None)

    def _remove_subclasses(self, cls: type) -> None:
        found = [cls]
        for each in found:
            self.of_objects.pop(id(each), None)
            found += type.__subclasses__(each)
            if len(found) > MAX_SUBCLASSES:
                self.clear()
                return


def _reference_to(
    sender: Sender, plans: dict[int, tuple[Callable[[], Any], Plan]]
) -> Callable[[], Any] | None:
    """A reference to a sender, which removes its plan when it dies; None if there can't be one."""
    if sender is None:
        return _nothing
    address = id(sender)
    try:
        # The finaliser needs no lock: dict.pop() is atomic.
        return weakref.ref(sender, lambda _: plans.pop(address, None))
    except TypeError:
        return None  # a number, string or tuple


def _nothing() -> None:
    """A reference to None, as a sender."""

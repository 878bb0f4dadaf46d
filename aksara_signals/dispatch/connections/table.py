"""The connections of one signal, and how they change.

Threads may connect, disconnect and send at the same time, and a send must not wait for a lock. So
every change is made under a lock, and ends by removing the plans that it concerns; a send uses the
plan that it finds.

Receivers and senders that are referenced weakly may die at any moment, also while their thread
holds the lock. Their finalisers therefore take no lock and change nothing: they leave a note of the
connections concerned, and the next change removes these.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from aksara_signals.dispatch.adapter import get_adapter
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.connections.durable import durable_shape, require_own_name
from aksara_signals.dispatch.connections.index import ConnectionIndex, address_of
from aksara_signals.dispatch.connections.lock import HasConnections, Mutation, serialized
from aksara_signals.dispatch.connections.narrowing import Target, named, targets_of, with_names
from aksara_signals.dispatch.connections.options import (
    checked,
    covers,
    different_settings,
    has_filters,
)
from aksara_signals.dispatch.connections.plans import PlanCache
from aksara_signals.dispatch.connections.redefinition import origin_of
from aksara_signals.dispatch.connections.routing import Plan
from aksara_signals.dispatch.receivers.identity import sender_key, weak_receiver
from aksara_signals.dispatch.receivers.naming import describe_receiver, describe_sender, printable
from aksara_signals.dispatch.receivers.patching import patch_place_of
from aksara_signals.dispatch.receivers.payload import Payload, call_shape
from aksara_signals.dispatch.receivers.signature import is_async_receiver
from aksara_signals.dispatch.senders import (
    require_no_model,
    require_possible,
    require_unambiguous,
    senders_connected,
    senders_of,
)
from aksara_signals.exceptions import InvalidOptionError, InvalidReceiverError
from aksara_signals.types import DURABLE, IMMEDIATE, PHASES, Receiver, Senders


class ConnectionTable:
    """The connections of one signal.

    Args:
        payload: The signal's payload.
        name: The signal's name, for messages. The table has no reference to the signal itself: the
            cycle would keep an unused signal alive until the next garbage collection.
    """

    __slots__ = (
        "_dead",
        "_payload",
        "display_name",
        "index",
        "is_idle",
        "name",
        "of_objects",
        "of_values",
        "plans",
    )

    def __init__(self, payload: Payload, name: str | None) -> None:
        self.name: str | None = name
        """The signal's name, if it has one."""
        self.display_name: str = printable(name) if name else "an unnamed signal"
        """The name for messages; an unnamed signal has one as well."""
        self._payload = payload
        self._dead: deque[list[int]] = deque()
        """For each weakly referenced receiver or sender that has died, the numbers of its
        connections."""
        self.index: ConnectionIndex = ConnectionIndex()
        """The connections."""
        self.plans: PlanCache = PlanCache(self.index)
        """The plans of senders."""
        self.of_objects: dict[int, tuple[Callable[[], Any], Plan]] = self.plans.of_objects
        self.of_values: dict[Any, Plan] = self.plans.of_values
        """The plans of senders that are objects and values, here as well: a send finds them sooner.
        """
        self.is_idle: bool = not payload.required
        """Whether a send has nothing to do: no receivers to call, and no payload to check."""

    def targets(
        self, sender: Senders, senders: Senders, operation: str, options: Mapping[str, Any]
    ) -> tuple[Target, ...]:
        """The senders named by ``sender=`` or ``senders=``, to connect a receiver to.

        Raises:
            InvalidSenderError: There are none, or one of them can never send the signal.
            InvalidOptionError: Both are given, or attributes are given in addition to ``fields``.
        """
        found = self.known_targets(sender, senders, operation, options)
        require_possible((each.sender for each in found), self._payload, self.display_name)
        return found

    def known_targets(
        self, sender: Senders, senders: Senders, operation: str, options: Mapping[str, Any]
    ) -> tuple[Target, ...]:
        """As :meth:`targets`, to disconnect a receiver from them."""
        where = f"{self.display_name}{operation}"
        found = senders_of(sender, senders, where)
        if "fields" not in self._payload.filters:
            return tuple(Target(each) for each in found)
        return targets_of(found, options, where)

    def add(
        self,
        receiver: Receiver,
        targets: tuple[Target, ...],
        options: dict[str, Any],
        is_temporary: bool = False,
    ) -> list[Connection]:
        """Connect a receiver to each sender.

        Args:
            receiver: Replaces the receivers that an earlier execution of its module has connected
                under its name.
            targets: The senders, at least one.
            options: The options of the connections.
            is_temporary: Whether it neither replaces other receivers nor is replaced itself.

        Returns:
            The new connections: none for a sender to which the receiver is connected already.

        Raises:
            InvalidReceiverError: The receiver can't be called with the payload.
            AmbiguousSenderError: Two live mapped classes have the name that is given as a sender.
            InvalidOptionError: An option is unknown, doesn't fit the signal, or contradicts an
                earlier connection of the receiver to the sender.
            InvalidPhaseError: The phase is unknown, or the signal has no outcome to defer until.
            UnknownFieldError: A sender has no attribute that the receiver is narrowed to.
        """
        if options:
            options = self.checked(options)
        require_no_model(receiver, self.display_name)
        weak = bool(options.get("weak"))
        dispatch_uid = options.get("dispatch_uid")
        phase = options.get("phase", IMMEDIATE)
        narrows_session = bool(options.get("concurrent")) and "session" in self._payload.optional
        durable = options.get("durable")
        if durable is None:
            shape = call_shape(receiver, self._payload, self.display_name)
        else:
            shape = durable_shape(receiver, self._payload, self.display_name)
            phase = DURABLE
            options = {**options, "phase": phase}
        reference: Callable[[], Any] = lambda: receiver  # noqa: E731 - held by the connection
        numbers: list[int] = []
        note_death = _noter(self._dead, numbers)
        if weak:
            try:
                reference = weak_receiver(receiver, note_death)
            except TypeError as error:
                raise InvalidReceiverError(
                    f"receiver {describe_receiver(receiver)} of {self.display_name} supports no "
                    f"weak references; connect it with weak=False"
                ) from error
        chosen = [named(each.options(options), each.sender, self.display_name) for each in targets]
        keys = [sender_key(each.sender, note_death) for each in targets]
        for key in keys:
            if key.is_name:
                require_unambiguous(key.get())
        is_async, patch_place = is_async_receiver(receiver), patch_place_of(receiver)
        origin = None if is_temporary else origin_of(receiver)
        if durable is not None:
            require_own_name(receiver, durable, origin, self.display_name)
        added: list[Connection] = []

        def add() -> bool:
            defined, replaced = self.index.redefined(origin)
            for key, own in zip(keys, chosen, strict=True):
                if added and any(each.sender_key.same(key) for each in added):
                    continue  # one sender, given twice
                connection = Connection(
                    address=address_of(receiver, key, dispatch_uid, phase),
                    reference=reference,
                    strong=None if weak else receiver,
                    sender_key=key,
                    shape=shape,
                    is_async=is_async,
                    patch_place=patch_place,
                    origin=defined,
                    narrows_session=narrows_session,
                    **own,
                )
                if self._is_new(connection, receiver, replaced):
                    added.append(connection)
            # Only now: a comparison above may raise, and must not leave half of them connected.
            self._remove(replaced)
            for connection in added:
                self.index.add(connection)
                numbers.append(connection.number)
            if added:
                self._changed(added)
            return bool(added or replaced)

        serialized(self, add)
        senders_connected((each.sender for each in targets), self._payload)
        return added

    def discard(
        self,
        receiver: Receiver | None,
        targets: tuple[Target, ...],
        dispatch_uid: Hashable,
        filters: dict[str, Any],
    ) -> bool:
        """Remove what was connected with exactly these arguments.

        Returns:
            Whether there was anything to remove.
        """
        wanted = [(sender_key(each.sender), with_names(each.options(filters))) for each in targets]
        phases = (*PHASES, DURABLE) if dispatch_uid is None else (IMMEDIATE,)
        gone: list[Connection] = []

        def find() -> list[Connection]:
            return [
                found
                for key, own in wanted
                for phase in phases
                for found in self.index.find(receiver, key, dispatch_uid, phase)
                if has_filters(found, own)
            ]

        def discard() -> bool:
            gone.extend(find())
            self._remove(gone)
            return bool(gone)

        return bool(gone if serialized(self, discard) else find())

    def remove(self, connections: list[Connection]) -> None:
        """Remove these connections, as far as they are still there."""

        def remove() -> bool:
            gone = [each for each in connections if each.number in self.index.all]
            self._remove(gone)
            return bool(gone)

        serialized(self, remove)

    def restore(self, connections: list[Connection]) -> None:
        """Replace all connections by these, in this order."""

        def restore() -> bool:
            before = self.index
            self.index = ConnectionIndex(each for each in connections if each.is_alive)
            self.plans.replace_index(self.index)
            self._changed(())
            return bool(before.all or self.index.all)

        serialized(self, restore)

    def forget_names(self) -> None:
        """Discard the plans if any of them may depend on what a string sender was resolved to."""

        def forget() -> bool:
            if self.index.named:
                self.plans.clear()
            return False  # no connection was added or removed

        serialized(self, forget)

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options, which can be read again and again.

        Raises:
            InvalidOptionError: One doesn't exist or doesn't fit this signal.
            InvalidPhaseError: The phase is unknown, or the signal has no outcome to defer until.
        """
        return checked(options, self._payload, self.display_name)

    def changed(self) -> None:
        """Inform the adapter that connections were added or removed."""
        get_adapter().connections_changed(self._payload)

    def make(self, change: Mutation, changed: list[HasConnections]) -> None:
        """Remove what has died, then make a change; called under the lock."""
        is_changed = self._sweep()
        try:
            is_changed |= change()
        finally:
            if is_changed and self not in changed:
                changed.append(self)

    # -- all below: under the lock -------------------------------------------------------------

    def _is_new(
        self, connection: Connection, receiver: Receiver, replaced: list[Connection]
    ) -> bool:
        """Whether no existing connection is equal, except for those that are about to be replaced.

        Raises:
            InvalidOptionError: The connection contradicts an existing one.
        """
        dispatch_uid = connection.dispatch_uid
        found = self.index.find(receiver, connection.sender_key, dispatch_uid, connection.phase)
        if replaced:
            found = [each for each in found if each not in replaced]
        if dispatch_uid is not None:
            return not found  # whatever the receiver and its options
        for each in found:
            different = different_settings(each, connection)
            if different:
                one, other = (
                    " and ".join(
                        f"{name}={describe_sender(getattr(it, name))}" for name in different
                    )
                    for it in (each, connection)
                )
                raise InvalidOptionError(
                    f"receiver {describe_receiver(receiver)} is connected to {self.display_name} "
                    f"for {describe_sender(each.sender)} with {one}, and can't be connected with "
                    f"{other} as well; disconnect it first, or give the second connection a "
                    f"dispatch_uid"
                )
        return not any(covers(each, connection) and covers(connection, each) for each in found)

    def _remove(self, gone: list[Connection]) -> None:
        if gone:
            for each in gone:
                self.index.remove(each)
            self._changed(gone)

    def _sweep(self) -> bool:
        """Remove connections whose receiver or sender has died; return whether there were any."""
        gone: dict[int, Connection] = {}
        while self._dead:
            for number in self._dead.popleft():
                connection = self.index.all.get(number)
                if connection is not None and not connection.is_alive:
                    gone[number] = connection
        self._remove(list(gone.values()))
        return bool(gone)

    def _changed(self, connections: Iterable[Connection]) -> None:
        self.plans.remove_concerned(connections)
        self.is_idle = not (self.index.all or self._payload.required)


def _noter(dead: deque[list[int]], numbers: list[int]) -> Callable[[Any], None]:
    # Called by finalisers, possibly while this thread holds the lock. It refers to numbers only:
    # with the table or a connection, it would be part of a reference cycle.
    return lambda _: dead.append(numbers)

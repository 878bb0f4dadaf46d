"""The connections of one signal, and how they change.

Connecting and disconnecting happen under a lock and end with a new routing table, which is
published in one assignment; sending reads the table that stands there. Finalisers of receivers and
senders take no lock: they note the death, and the next change sweeps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from aksara_signals.dispatch.adapter import get_adapter
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.connections.lock import HasConnections, Mutation, serialized
from aksara_signals.dispatch.connections.options import (
    check_options,
    covers,
    different_settings,
    has_filters,
)
from aksara_signals.dispatch.connections.redefinition import Origin, origin_of
from aksara_signals.dispatch.connections.routing import Routes
from aksara_signals.dispatch.receivers.identity import (
    SenderKey,
    receiver_address,
    same_receiver,
    sender_key,
    weak_receiver,
)
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
from aksara_signals.types import IMMEDIATE, PHASES, Receiver, Sender, Senders


class ConnectionTable:
    """The connections of one signal.

    Args:
        payload: The signal's.
        name: The signal's, for messages. The table doesn't know the signal itself: a cycle would
            keep a forgotten signal until the next collection.
    """

    __slots__ = (
        "_by_place",
        "_dead",
        "_entries",
        "_index",
        "_payload",
        "is_idle",
        "name",
        "routes",
    )

    def __init__(self, payload: Payload, name: str | None) -> None:
        self.name: str | None = name
        """The signal's name, if it has one."""
        self._payload = payload
        self._entries: list[Connection] = []
        self._index: dict[Hashable, list[Connection]] = {}
        self._by_place: dict[Hashable, dict[Connection, None]] = {}
        self._dead: deque[None] = deque()
        self.routes: Routes = Routes(self._entries, 0)
        """What a send reads."""
        self.is_idle: bool = not payload.required
        """Whether a send has nothing to do: neither receivers to call nor a payload to check."""

    @property
    def display_name(self) -> str:
        """The name for messages, also of a signal without one."""
        return printable(self.name) if self.name else "an unnamed signal"

    def senders(self, sender: Senders, senders: Senders, operation: str) -> tuple[Sender, ...]:
        """The senders named by ``sender=`` or ``senders=``, to connect a receiver to.

        Raises:
            InvalidSenderError: There are none, or one of them can never send the signal.
            InvalidOptionError: Both are given.
        """
        found = senders_of(sender, senders, f"{self.display_name}{operation}")
        require_possible(found, self._payload, self.display_name)
        return found

    def add(
        self,
        receiver: Receiver,
        senders: tuple[Sender, ...],
        options: dict[str, Any],
        is_temporary: bool = False,
    ) -> list[Connection]:
        """Connect a receiver to each sender.

        Args:
            receiver: Takes the place of receivers that an earlier execution of its module has
                connected under its name.
            senders: At least one.
            options: Those of the connections.
            is_temporary: Whether it takes nobody's place, and nobody takes its own.

        Returns:
            The connections that are new: none for a sender it is connected to already.

        Raises:
            InvalidReceiverError: The receiver can't be called as the payload demands.
            AmbiguousSenderError: Two live mapped classes answer to a string.
            InvalidOptionError: An option is unknown, doesn't fit the signal, or contradicts an
                earlier connection of the receiver to the sender.
            InvalidPhaseError: The phase is unknown, or the signal has no outcome to wait for.
        """
        if options:
            self.check_options(options)
        require_no_model(receiver, self.display_name)
        weak = bool(options.get("weak"))
        dispatch_uid = options.get("dispatch_uid")
        phase = options.get("phase", IMMEDIATE)
        narrows_session = bool(options.get("concurrent")) and "session" in self._payload.optional
        shape = call_shape(receiver, self._payload, self.display_name)
        reference: Callable[[], Any] = lambda: receiver  # noqa: E731 - held by the connection
        note_death = _marker(self._dead)
        if weak:
            try:
                reference = weak_receiver(receiver, note_death)
            except TypeError as error:
                raise InvalidReceiverError(
                    f"receiver {describe_receiver(receiver)} of {self.display_name} supports no "
                    f"weak references; connect it with weak=False"
                ) from error
        keys = [sender_key(sender, note_death) for sender in senders]
        for key in keys:
            if key.is_name:
                require_unambiguous(key.get())
        is_async, module_name = is_async_receiver(receiver), patch_place_of(receiver)
        origin = None if is_temporary else origin_of(receiver)
        added: list[Connection] = []

        def add() -> bool:
            defined, replaced = self._redefined(origin)
            for key in keys:
                if added and any(each.sender_key.same(key) for each in added):
                    continue  # one sender, given twice
                connection = Connection(
                    address=_address(receiver, key, dispatch_uid, phase),
                    reference=reference,
                    strong=None if weak else receiver,
                    sender_key=key,
                    shape=shape,
                    is_async=is_async,
                    module_name=module_name,
                    origin=defined,
                    narrows_session=narrows_session,
                    **options,
                )
                if self._is_new(connection, receiver, replaced):
                    added.append(connection)
            # Only now: comparing may have raised, and half would be connected.
            self._remove(replaced)
            for connection in added:
                self._enter(connection)
            self._entries += added
            if added:
                self._publish()
            return bool(added or replaced)

        serialized(self, add)
        senders_connected(senders, self._payload)
        return added

    def discard(
        self,
        receiver: Receiver | None,
        senders: tuple[Sender, ...],
        dispatch_uid: Hashable,
        filters: dict[str, Any],
    ) -> bool:
        """Take out what was connected with these very arguments; whether there was anything."""
        keys = [sender_key(sender) for sender in senders]
        phases = PHASES if dispatch_uid is None else (IMMEDIATE,)
        gone: list[Connection] = []

        def find() -> list[Connection]:
            return [
                found
                for key in keys
                for phase in phases
                for found in self._find(receiver, key, dispatch_uid, phase)
                if has_filters(found, filters)
            ]

        def discard() -> bool:
            gone.extend(find())
            self._remove(gone)
            return bool(gone)

        return bool(gone if serialized(self, discard) else find())

    def remove(self, connections: list[Connection]) -> None:
        """Take out these connections, as far as they are still there."""

        def remove() -> bool:
            gone = [each for each in connections if each in self._entries]
            self._remove(gone)
            return bool(gone)

        serialized(self, remove)

    def restore(self, connections: list[Connection]) -> None:
        """Have these connections again, in this order, and no others."""

        def restore() -> bool:
            before = self._entries
            self._entries = [each for each in connections if each.is_alive]
            self._index, self._by_place = {}, {}
            for each in self._entries:
                self._enter(each)
            self._publish()
            return bool(before or self._entries)

        serialized(self, restore)

    def forget_names(self) -> None:
        """Work out anew who hears whom, where string senders are involved."""

        def forget() -> bool:
            if any(each.sender_key.is_name for each in self._entries):
                self._publish()
            return False  # nobody has come or gone

        serialized(self, forget)

    def check_options(self, options: dict[str, Any]) -> None:
        """Refuse options that no connection has, or this signal's can't have.

        Raises:
            InvalidOptionError: Names the option and what it may be.
            InvalidPhaseError: The phase is unknown, or the signal has no outcome to wait for.
        """
        check_options(options, self._payload, self.display_name)

    def changed(self) -> None:
        """Pass on that connections came or went."""
        get_adapter().connections_changed(self._payload)

    def make(self, change: Mutation, changed: list[HasConnections]) -> None:
        """Sweep, and make a change, in one's turn."""
        is_changed = self._sweep()
        try:
            is_changed |= change()
        finally:
            if is_changed and self not in changed:
                changed.append(self)

    # -- all below: under the lock -------------------------------------------------------------

    def _find(
        self, receiver: Receiver | None, key: SenderKey, dispatch_uid: Hashable, phase: str
    ) -> list[Connection]:
        """The connections of a receiver to a sender, or those of a name: they differ in filters."""
        return [
            each
            for each in self._index.get(_address(receiver, key, dispatch_uid, phase), ())
            if each.sender_key.same(key)
            and (dispatch_uid is not None or same_receiver(each.receiver, receiver))
        ]

    def _is_new(
        self, connection: Connection, receiver: Receiver, replaced: list[Connection]
    ) -> bool:
        """Whether a connection is another one than all that there are.

        Raises:
            InvalidOptionError: It contradicts one that there is.
        """
        dispatch_uid = connection.dispatch_uid
        found = self._find(receiver, connection.sender_key, dispatch_uid, connection.phase)
        if replaced:
            found = [each for each in found if each not in replaced]
        if dispatch_uid is not None:
            return not found  # a name is a name, whatever the receiver and its options
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
                    f"{other} besides; disconnect it first, or give the second connection a "
                    f"dispatch_uid"
                )
        return not any(covers(each, connection) and covers(connection, each) for each in found)

    def _redefined(self, origin: Origin | None) -> tuple[Origin | None, list[Connection]]:
        """What takes the place of connections that an earlier execution of its module has made.

        Returns:
            Where the new receiver was defined, and those connections.
        """
        bucket = None if origin is None else self._by_place.get(origin.place)
        if not bucket or origin is None:
            return origin, []
        # All in a bucket are of one execution: looking at one is enough.
        known = next(iter(bucket)).origin
        if known is None or known.execution is origin.execution:
            return origin, []
        for each in bucket:
            # A function that was there before its module was loaded again, connected once more.
            if each.origin is not None and each.origin.code is origin.code:
                return origin._replace(execution=known.execution), []
        return origin, list(bucket)

    def _enter(self, connection: Connection) -> None:
        self._index.setdefault(connection.address, []).append(connection)
        if connection.origin is not None:
            self._by_place.setdefault(connection.origin.place, {})[connection] = None

    def _remove(self, gone: list[Connection]) -> None:
        if not gone:
            return
        doomed = {id(each) for each in gone}  # addresses of objects that are held here
        for each in gone:
            bucket = self._index[each.address]
            bucket.remove(each)
            if not bucket:
                del self._index[each.address]
            if each.origin is not None:
                others = self._by_place[each.origin.place]
                del others[each]
                if not others:
                    del self._by_place[each.origin.place]
        # A new list: routes that are in use still read the old one.
        self._entries = [each for each in self._entries if id(each) not in doomed]
        self._publish()

    def _sweep(self) -> bool:
        """Take out what has died; whether there was anything."""
        if not self._dead:
            return False
        self._dead.clear()
        gone = [each for each in self._entries if not each.is_alive]
        self._remove(gone)
        return bool(gone)

    def _publish(self) -> None:
        self.routes = Routes(self._entries, len(self._entries))
        self.is_idle = not (self._entries or self._payload.required)


def _marker(dead: deque[None]) -> Callable[[Any], None]:
    # Runs in a finaliser, at any moment, also while this very thread holds the lock.
    return lambda _: dead.append(None)


def _address(
    receiver: Receiver | None, key: SenderKey, dispatch_uid: Hashable, phase: str
) -> Hashable:
    if dispatch_uid is not None:
        return "uid", dispatch_uid, key.address  # a name is a name, whatever the phase
    return receiver_address(receiver), key.address, phase

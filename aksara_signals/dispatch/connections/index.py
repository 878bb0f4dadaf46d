"""Finds connections of one signal: by what was connected, or by where its receiver was defined."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.connections.redefinition import Origin
from aksara_signals.dispatch.receivers.identity import SenderKey, receiver_address, same_receiver
from aksara_signals.types import Receiver


class ConnectionIndex:
    """The connections of a signal by address, and by the place where a receiver was defined.

    Args:
        connections: The first ones.
    """

    __slots__ = ("_by_address", "_by_place")

    def __init__(self, connections: Iterable[Connection] = ()) -> None:
        self._by_address: dict[Hashable, list[Connection]] = {}
        self._by_place: dict[Hashable, dict[Connection, None]] = {}
        for each in connections:
            self.add(each)

    def add(self, connection: Connection) -> None:
        """Add a connection."""
        self._by_address.setdefault(connection.address, []).append(connection)
        if connection.origin is not None:
            self._by_place.setdefault(connection.origin.place, {})[connection] = None

    def remove(self, connection: Connection) -> None:
        """Remove a connection that was added."""
        bucket = self._by_address[connection.address]
        bucket.remove(connection)
        if not bucket:
            del self._by_address[connection.address]
        if connection.origin is not None:
            others = self._by_place[connection.origin.place]
            del others[connection]
            if not others:
                del self._by_place[connection.origin.place]

    def find(
        self, receiver: Receiver | None, key: SenderKey, dispatch_uid: Hashable, phase: str
    ) -> list[Connection]:
        """The connections to a sender, of a receiver or with a ``dispatch_uid``.

        Those of one receiver differ in their filters.
        """
        return [
            each
            for each in self._by_address.get(address_of(receiver, key, dispatch_uid, phase), ())
            if each.sender_key.same(key)
            and (dispatch_uid is not None or same_receiver(each.receiver, receiver))
        ]

    def redefined(self, origin: Origin | None) -> tuple[Origin | None, list[Connection]]:
        """Find the connections that a new receiver replaces; :mod:`.redefinition` explains why.

        Args:
            origin: Where the new receiver was defined.

        Returns:
            The origin to store with the new connection, and the connections to replace.
        """
        bucket = None if origin is None else self._by_place.get(origin.place)
        if not bucket or origin is None:
            return origin, []
        # All in a bucket are of one execution: looking at one is enough.
        known = next(iter(bucket)).origin
        if known is None or known.execution is origin.execution:
            return origin, []
        for each in bucket:
            # The same code object: this is no new definition, but a function from before the module
            # was loaded again, connected once more. It counts as one of its own execution.
            if each.origin is not None and each.origin.code is origin.code:
                return origin._replace(execution=known.execution), []
        return origin, list(bucket)


def address_of(
    receiver: Receiver | None, key: SenderKey, dispatch_uid: Hashable, phase: str
) -> Hashable:
    """Where the index keeps a connection."""
    if dispatch_uid is not None:
        return "uid", dispatch_uid, key.address  # a dispatch_uid counts for all phases
    return receiver_address(receiver), key.address, phase

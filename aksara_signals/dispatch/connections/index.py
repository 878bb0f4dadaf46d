"""Finds connections of one signal: by what was connected, by sender, or by place of definition.

Each look-up takes the same time however many connections there are, and so does each change.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.connections.redefinition import Origin
from aksara_signals.dispatch.receivers.identity import (
    SenderKey,
    places_of,
    receiver_address,
    same_receiver,
)
from aksara_signals.types import Receiver, Sender


class ConnectionIndex:
    """The connections of one signal, by number, by sender, by address, and by place of definition.

    It is changed under the lock, and may be read without it.

    Args:
        connections: The first ones, in order of connection.
    """

    __slots__ = ("_by_address", "_by_place", "_by_sender", "all", "asking", "durable", "named")

    def __init__(self, connections: Iterable[Connection] = ()) -> None:
        self.all: dict[int, Connection] = {}
        """By their numbers, in the order they were made, including those of dead receivers."""
        self.named: int = 0
        """How many connections are to the name of a class."""
        self.asking: int = 0
        """How many connections ask for the rows of ORM statements."""
        self.durable: dict[str, dict[int, Connection]] = {}
        """The connections of durable receivers, by the names of these."""
        self._by_sender: dict[Hashable, dict[int, Connection]] = {}
        self._by_address: dict[Hashable, list[Connection]] = {}
        self._by_place: dict[Hashable, dict[Connection, None]] = {}
        for each in connections:
            self.add(each)

    def add(self, connection: Connection) -> None:
        """Add a connection."""
        number, key = connection.number, connection.sender_key
        self.all[number] = connection
        self.named += key.is_name
        self.asking += connection.statements
        self._by_sender.setdefault(key.place, {})[number] = connection
        self._by_address.setdefault(connection.address, []).append(connection)
        if connection.durable_name is not None:
            self.durable.setdefault(connection.durable_name, {})[number] = connection
        if connection.origin is not None:
            self._by_place.setdefault(connection.origin.place, {})[connection] = None

    def remove(self, connection: Connection) -> None:
        """Remove a connection that was added."""
        number, key = connection.number, connection.sender_key
        del self.all[number]
        self.named -= key.is_name
        self.asking -= connection.statements
        of_sender = self._by_sender[key.place]
        del of_sender[number]
        if not of_sender:
            del self._by_sender[key.place]
        bucket = self._by_address[connection.address]
        bucket.remove(connection)
        if not bucket:
            del self._by_address[connection.address]
        if connection.durable_name is not None:
            of_receiver = self.durable[connection.durable_name]
            del of_receiver[number]
            if not of_receiver:
                del self.durable[connection.durable_name]
        if connection.origin is not None:
            others = self._by_place[connection.origin.place]
            del others[connection]
            if not others:
                del self._by_place[connection.origin.place]

    def matching(self, sender: Sender) -> list[Connection]:
        """The connections that a send by ``sender`` matches, in the order they were made."""
        places = places_of(sender, bool(self.named))
        if places is None:
            candidates = tuple(self.all.values())
        else:
            found: dict[int, Connection] = {}
            for place in places:
                bucket = self._by_sender.get(place)
                if bucket is not None:
                    found.update(bucket)
            candidates = tuple(found[number] for number in sorted(found))
        return [each for each in candidates if each.sender_key.matches(sender, each.exact)]

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

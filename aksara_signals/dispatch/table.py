"""The connections of one signal, and how they change.

Connecting and disconnecting happen under a lock and end with a new snapshot, which is published in
one assignment; sending reads whatever snapshot stands there. Finalisers of receivers and senders
take no lock: they leave a mark, and the next one who holds the lock sweeps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from aksara_signals.dispatch.connection import Connection
from aksara_signals.dispatch.describing import describe_receiver, printable
from aksara_signals.dispatch.identity import (
    SenderKey,
    receiver_address,
    same_receiver,
    sender_key,
    weak_receiver,
)
from aksara_signals.dispatch.options import check_options
from aksara_signals.dispatch.parameters import is_async_receiver
from aksara_signals.dispatch.patching import patch_place_of
from aksara_signals.dispatch.payload import Payload, call_shape
from aksara_signals.dispatch.phases import IMMEDIATE, PHASES
from aksara_signals.dispatch.plan import Snapshot
from aksara_signals.dispatch.registry import require_unambiguous
from aksara_signals.dispatch.turns import Change, Changing, take_turn
from aksara_signals.exceptions import (
    InvalidReceiverError,
    InvalidSenderError,
)
from aksara_signals.types import Receiver, Sender

__all__ = ["ConnectionTable"]


class ConnectionTable:
    """The connections of one signal.

    Args:
        payload: The signal's.
        name: The signal's, for messages. The table doesn't know the signal itself: a cycle would
            keep a forgotten signal until the next collection.
    """

    __slots__ = (
        "_dead",
        "_entries",
        "_index",
        "_payload",
        "is_idle",
        "name",
        "snapshot",
        "watchers",
    )

    def __init__(self, payload: Payload, name: str | None) -> None:
        self.name: str | None = name
        """The signal's name, if it has one."""
        self._payload = payload
        self._entries: list[Connection] = []
        self._index: dict[Hashable, list[Connection]] = {}
        self._dead: deque[None] = deque()
        self.snapshot: Snapshot = Snapshot(self._entries, 0)
        """What a send reads."""
        self.is_idle: bool = not payload.required
        """Whether a send has nothing to do: neither receivers to call nor a payload to check."""
        self.watchers: list[Callable[[], object]] = []
        """Called after connections came or went."""

    @property
    def display_name(self) -> str:
        """The name for messages, also of a signal without one."""
        return printable(self.name) if self.name else "an unnamed signal"

    def add(
        self,
        receiver: Receiver,
        senders: tuple[Sender, ...],
        options: dict[str, Any],
    ) -> list[Connection]:
        """Connect a receiver to each sender.

        Returns:
            The connections that are new: none for a sender it is connected to already.

        Raises:
            InvalidReceiverError: The receiver can't be called as the payload demands.
            InvalidSenderError: There are no senders.
            AmbiguousSenderError: Two live mapped classes answer to a string.
            InvalidOptionError: An option is unknown or doesn't fit the signal.
            InvalidPhaseError: The phase is unknown, or the signal has no outcome to wait for.
        """
        if options:
            self.check_options(options)
        weak = bool(options.get("weak"))
        dispatch_uid = options.get("dispatch_uid")
        phase = options.get("phase", IMMEDIATE)
        narrows_session = bool(options.get("concurrent")) and "session" in self._payload.optional
        shape = call_shape(receiver, self._payload, self.display_name)
        if not senders:
            raise InvalidSenderError(
                f"{self.display_name} was given an empty list of senders for receiver "
                f"{describe_receiver(receiver)}; give at least one, or None for all"
            )
        reference: Callable[[], Any] = lambda: receiver  # noqa: E731 - held by the connection
        mark = _marker(self._dead)
        if weak:
            try:
                reference = weak_receiver(receiver, mark)
            except TypeError as error:
                raise InvalidReceiverError(
                    f"receiver {describe_receiver(receiver)} of {self.display_name} supports no "
                    f"weak references; connect it with weak=False"
                ) from error
        keys = [sender_key(sender, mark) for sender in senders]
        for key in keys:
            if key.is_name:
                require_unambiguous(key.get())
        is_async, module_name = is_async_receiver(receiver), patch_place_of(receiver)
        added: list[Connection] = []

        def add() -> bool:
            for key in keys:
                if added and any(each.sender_key.same(key) for each in added):
                    continue  # one sender, given twice
                if self._find(receiver, key, dispatch_uid, phase) is None:
                    connection = Connection(
                        address=_address(receiver, key, dispatch_uid, phase),
                        reference=reference,
                        strong=None if weak else receiver,
                        sender_key=key,
                        shape=shape,
                        is_async=is_async,
                        module_name=module_name,
                        narrows_session=narrows_session,
                        **options,
                    )
                    added.append(connection)
            # Only now: comparing a dispatch_uid may have raised, and half would be connected.
            for connection in added:
                self._index.setdefault(connection.address, []).append(connection)
            self._entries += added
            if added:
                self._publish()
            return bool(added)

        take_turn(self, add)
        return added

    def discard(
        self, receiver: Receiver | None, senders: tuple[Sender, ...], dispatch_uid: Hashable
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
                if (found := self._find(receiver, key, dispatch_uid, phase)) is not None
            ]

        def discard() -> bool:
            gone.extend(find())
            self._remove(gone)
            return bool(gone)

        return bool(gone if take_turn(self, discard) else find())

    def remove(self, connections: list[Connection]) -> None:
        """Take out these connections, as far as they are still there."""

        def remove() -> bool:
            gone = [each for each in connections if each in self._entries]
            self._remove(gone)
            return bool(gone)

        take_turn(self, remove)

    def restore(self, connections: list[Connection]) -> None:
        """Have these connections again, in this order, and no others."""

        def restore() -> bool:
            before = self._entries
            self._entries = [each for each in connections if each.is_alive]
            self._index = {}
            for each in self._entries:
                self._index.setdefault(each.address, []).append(each)
            self._publish()
            return bool(before or self._entries)

        take_turn(self, restore)

    def forget_names(self) -> None:
        """Work out anew who hears whom, where string senders are involved."""

        def forget() -> bool:
            if any(each.sender_key.is_name for each in self._entries):
                self._publish()
            return False  # nobody has come or gone

        take_turn(self, forget)

    def check_options(self, options: dict[str, Any]) -> None:
        """Refuse options that no connection has, or this signal's can't have.

        Raises:
            InvalidOptionError: Names the option and what it may be.
            InvalidPhaseError: The phase is unknown, or the signal has no outcome to wait for.
        """
        check_options(options, self._payload, self.display_name)

    def make(self, change: Change, changed: list[Changing]) -> None:
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
    ) -> Connection | None:
        for each in self._index.get(_address(receiver, key, dispatch_uid, phase), ()):
            if each.sender_key.same(key) and (
                dispatch_uid is not None or same_receiver(each.receiver, receiver)
            ):
                return each
        return None

    def _remove(self, gone: list[Connection]) -> None:
        if not gone:
            return
        doomed = {id(each) for each in gone}  # addresses of objects that are held here
        for each in gone:
            bucket = self._index[each.address]
            bucket.remove(each)
            if not bucket:
                del self._index[each.address]
        # A new list: snapshots that are in use still read the old one.
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
        self.snapshot = Snapshot(self._entries, len(self._entries))
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

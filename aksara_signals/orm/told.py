"""What waits: something that was sent, for one receiver, to be told as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aksara_signals.dispatch.connection import Connection
from aksara_signals.dispatch.envelope import (
    NO_EXTRAS,
    Delivery,
    FailedDelivery,
    Origin,
    delivery_of,
)
from aksara_signals.dispatch.phases import AFTER_COMMIT, AFTER_ROLLBACK
from aksara_signals.dispatch.signal import Signal
from aksara_signals.orm.copies import Passed, Snapshot, freeze, is_frozen, kept_extras, thaw
from aksara_signals.types import Sender

__all__ = ["Told", "Waiting", "coalesced"]


class Told:
    """Something that was sent, as it will be delivered."""

    __slots__ = ("arguments", "extras", "origin", "sender")

    def __init__(
        self,
        origin: Origin,
        sender: Sender,
        arguments: Mapping[str, Any],
        extras: Mapping[str, Any] = NO_EXTRAS,
    ) -> None:
        self.origin: Origin = origin
        self.sender: Sender = sender
        self.arguments: Mapping[str, Any] = arguments
        """With snapshots for instances."""
        self.extras: Mapping[str, Any] = extras

    @classmethod
    def now(cls, signal: Signal, sender: Sender, payload: Mapping[str, Any]) -> Told:
        """What is sent at this moment, with its instances as they are."""
        arguments = {name: freeze(value) for name, value in payload.items()}
        passed = arguments.get("passed_args")
        if type(passed) is dict:
            arguments["passed_args"] = Passed(passed)
        return cls(signal, sender, {**arguments, "signal": signal, "sender": sender})

    @property
    def row(self) -> Any:
        """The identity key of the row that was told of, or None."""
        instance = self.arguments.get("instance")
        return instance.key if isinstance(instance, Snapshot) else None

    def delivery(self, connection: Connection) -> Delivery:
        """For one receiver, with copies of its own.

        Copies run the user's code (``@reconstructor``). What it raises is this receiver's failure,
        and no other's.
        """
        try:
            arguments = {name: thaw(value) for name, value in self.arguments.items()}
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises
            failed = FailedDelivery()
            failed.signal, failed.sender, failed.sequential = (
                self.origin,
                self.sender,
                (connection,),
            )
            failed.error = error
            failed.arguments = {
                name: value for name, value in self.arguments.items() if not is_frozen(value)
            }
            return failed
        return delivery_of(
            self.origin,
            self.sender,
            (connection,),
            arguments,
            extras=kept_extras(self.extras) if self.extras else self.extras,
        )

    def followed_by(self, other: Told) -> Told:
        """This and something later about the same row, told as one."""
        arguments = dict(other.arguments)
        if "created" in arguments:
            arguments["created"] = self.arguments["created"] or arguments["created"]
        before, after = self.arguments.get("update_fields"), arguments.get("update_fields")
        if "update_fields" in arguments:
            together = None if before is None or after is None else before | after
            arguments["update_fields"] = together
        extras = dict(other.extras)
        changes = dict(self.extras.get("changes") or {})
        for name, (old, new) in (extras.get("changes") or {}).items():
            changes[name] = changes[name][0] if name in changes else old, new
        if changes:
            extras["changes"] = changes
        return Told(self.origin, self.sender, arguments, extras)


class Waiting:
    """One receiver of something that was told."""

    __slots__ = ("connection", "is_undone", "told")

    def __init__(self, told: Told, connection: Connection) -> None:
        self.told: Told = told
        self.connection: Connection = connection
        self.is_undone: bool = False
        """Whether a savepoint around it has been rolled back."""

    def is_due(self, is_committed: bool) -> bool:
        """Whether this is what the receiver has waited for."""
        outcome = AFTER_COMMIT if is_committed and not self.is_undone else AFTER_ROLLBACK
        return self.connection.phase == outcome


def coalesced(due: list[Waiting]) -> Iterator[tuple[Told, Connection]]:
    """One of each row for connections that coalesce, in the place of the last one."""
    together: dict[Any, Told] = {}
    left: dict[Any, int] = {}
    for each in due:
        row = each.told.row if each.connection.coalesce else None
        if row is not None:
            key = each.connection, row
            before = together.get(key)
            together[key] = each.told if before is None else before.followed_by(each.told)
            left[key] = left.get(key, 0) + 1
    for each in due:
        row = each.told.row if each.connection.coalesce else None
        if row is None:
            yield each.told, each.connection
            continue
        key = each.connection, row
        left[key] -= 1
        if not left[key]:
            yield together[key], each.connection

"""What an entry remembers of a receiver, and how it is shown."""

from __future__ import annotations

from types import CodeType
from typing import Any, NamedTuple

from aksara_signals.contrib.inspector.views import ReceiverState, ReceiverView
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.receivers.naming import printable, receiver_place


class Callback(NamedTuple):
    """What is remembered of a callback of ``on_commit``, in place of its connection.

    The connection holds the function, and with it whatever that refers to, such as a request.
    """

    phase: str
    place: tuple[str, CodeType | None]

    @property
    def durable_name(self) -> None:
        """It is no durable receiver."""


Remembered = Connection | Callback


def remembered(connection: Connection) -> Remembered:
    """What an entry may hold of a connection."""
    if connection.address is not None:
        return connection
    receiver = connection.receiver
    place = ("a receiver that is gone", None) if receiver is None else receiver_place(receiver)
    return Callback(connection.phase, place)


def receiver_view(connection: Remembered, state: ReceiverState, **more: Any) -> ReceiverView:
    """A receiver as plain values."""
    if isinstance(connection, Callback):
        name, code = connection.place
    elif (receiver := connection.receiver) is None:
        return ReceiverView("a receiver that is gone", None, None, state, **more)
    else:
        name, code = receiver_place(receiver)
    if code is None:
        return ReceiverView(name, None, None, state, **more)
    return ReceiverView(name, printable(code.co_filename), code.co_firstlineno, state, **more)

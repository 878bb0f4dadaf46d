"""The calls of one receiver, as they are recorded."""

from __future__ import annotations

from typing import Any

from aksara_signals.contrib.inspector.remembered import Remembered, receiver_view
from aksara_signals.contrib.inspector.views import ReceiverState, ReceiverView


class Call:
    """The calls of one receiver for the rows of an entry.

    Args:
        connection: The connection of the receiver.
    """

    __slots__ = (
        "connection",
        "error",
        "error_text",
        "notes",
        "receiver",
        "seconds",
        "started",
        "timed",
    )

    def __init__(self, connection: Remembered) -> None:
        self.connection: Remembered = connection
        self.error: str | None = None
        """The class of its exception."""
        self.error_text: str | None = None
        self.notes: tuple[str, ...] = ()
        self.seconds: list[float] = []
        """How long it took for each row."""
        self.started: float = 0.0
        """The clock when the call began that is under way; 0 if none is."""
        self.receiver: Any = None
        """What is called, while the send is under way: the receiver, or a mock in its place."""
        self.timed: Any = None
        """The same with a look at the clock before and after."""

    def view(self, is_over: bool) -> ReceiverView:
        """The call as plain values.

        Args:
            is_over: Whether the send is over. A receiver that was not called then has failed: its
                arguments could not be made.
        """
        state: ReceiverState = "ok"
        if self.error is not None or (is_over and not self.seconds):
            state = "failed"
        elif self.started:
            state = "running"
        return receiver_view(
            self.connection,
            state,
            milliseconds=sum(self.seconds) * 1000 if self.seconds else None,
            slowest=max(self.seconds) * 1000 if self.seconds else None,
            error=self.error,
            error_text=self.error_text,
            notes=self.notes,
        )

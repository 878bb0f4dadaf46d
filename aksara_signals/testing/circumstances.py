"""Reasons why a receiver may not have been called, for the messages of failed assertions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.context import silence_observers
from aksara_signals.dispatch.receivers.naming import describe_sender, receiver_place
from aksara_signals.types import Receiver, Sender

__all__ = ["Circumstances"]


class Circumstances:
    """What keeps receivers from being called in a block: silence, and a commit still to come.

    Args:
        concerns: Whether it matters that a receiver is silenced.
        concerns_queued: Whether it matters that a delivery to a receiver is queued for a commit.
    """

    def __init__(
        self, concerns: Callable[[Receiver], bool], concerns_queued: Callable[[Receiver], bool]
    ) -> None:
        self._concerns = concerns
        self._concerns_queued = concerns_queued
        self._silenced: dict[str, None] = {}
        self._queued_at_end: list[str] = []

    def begin(self) -> None:
        """Start to observe, at the beginning of the block."""
        silence_observers.append(self._note_silence)

    def end(self) -> None:
        """Stop observing, and note what is queued: a rollback may come before the assertions."""
        silence_observers.remove(self._note_silence)
        self._queued_at_end = self._queued()

    def explain(self) -> list[str]:
        """The reasons that apply, as sentences without a full stop."""
        explanations: list[str] = []
        if self._silenced:
            explanations.append(f"a SignalContext silenced signals of {', '.join(self._silenced)}")
        if queued := self._queued():
            verb = "is queued for a commit" if len(queued) == 1 else "are queued for a commit"
        elif queued := self._queued_at_end:
            was = "was" if len(queued) == 1 else "were"
            verb = f"{was} queued for a commit when the block ended"
        else:
            return explanations
        deliveries = "1 delivery" if len(queued) == 1 else f"{len(queued)} deliveries"
        explanations.append(
            f"{deliveries} to {', '.join(dict.fromkeys(queued))} {verb}: commit the session, or "
            f"write inside 'async with as_if_committed(session)'"
        )
        return explanations

    def _note_silence(
        self, signal: Any, sender: Sender, silenced: Sequence[Connection], context: Any
    ) -> None:
        receivers = (each.receiver for each in silenced)
        if any(receiver is not None and self._concerns(receiver) for receiver in receivers):
            self._silenced[describe_sender(sender)] = None

    def _queued(self) -> list[str]:
        queue_module: Any = sys.modules.get("aksara_signals.orm.outcome.queue")
        if queue_module is None:  # nothing has been written yet
            return []
        return [
            receiver_place(receiver)[0]
            for receiver in queue_module.queued_for_commit()
            if self._concerns_queued(receiver)
        ]

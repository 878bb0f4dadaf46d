"""Where the events of receivers go: names of subjects, queues, streams and topics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aksara_signals.contrib.outbox.events import DurableEvent
from aksara_signals.contrib.outbox.registry import ReceiverEntry, durable_receivers, matches
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import InvalidOptionError, OutboxError


class Destinations:
    """Where the events of receivers go.

    Args:
        template: A name, in which ``{receiver}`` stands for that of a receiver.
        partitions: Into how many parts the events of each receiver are divided, by object.

    Raises:
        InvalidOptionError: One of them can't be used.
    """

    def __init__(self, template: str, partitions: int = 1) -> None:
        given: Any = template
        try:
            is_template = isinstance(given, str) and "x-0" in given.format(receiver="x-0")
        except (IndexError, KeyError, ValueError):
            is_template = False
        if not is_template:
            raise InvalidOptionError(
                f"events can't be published to {describe_sender(given)}; give a name in which "
                f"{{receiver}} stands for that of the receiver, as in 'aksara.{{receiver}}'"
            )
        if type(partitions) is not int or partitions < 1:
            raise InvalidOptionError(
                f"events can't be divided into {describe_sender(partitions)} partitions; give a "
                f"number from 1"
            )
        self._template = template
        self._partitions = partitions

    def of(self, event: DurableEvent) -> str:
        """Where an event goes; all events of one object go to one partition."""
        name = self._template.format(receiver=event.receiver)
        if self._partitions == 1:
            return name
        lane = event.id.int if event.lane is None else event.lane
        return f"{name}.{lane % self._partitions}"

    def received(self, receivers: Iterable[str]) -> Iterator[tuple[ReceiverEntry, str]]:
        """The durable receivers of this process, each with all names where its events may be.

        Args:
            receivers: Names or patterns of the receivers.

        Raises:
            OutboxError: There is no such receiver: nothing would ever be delivered.
        """
        patterns = tuple(receivers)
        entries = [entry for entry in durable_receivers().values() if matches(entry.name, patterns)]
        if not entries:
            raise OutboxError(
                f"no durable receiver is connected that {' or '.join(patterns) or 'nothing'} "
                f"matches; call outbox.install() first, which imports Outbox(modules=…)"
            )
        for entry in entries:
            for name in entry.names:  # also what was published before a rename
                start = self._template.format(receiver=name)
                if self._partitions == 1:
                    yield entry, start
                else:
                    yield from ((entry, f"{start}.{part}") for part in range(self._partitions))

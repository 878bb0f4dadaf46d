"""NATS JetStream, whose client needs some help to come back after a long outage."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from aksara_signals.contrib.outbox.events import DurableEvent
from aksara_signals.contrib.outbox.transports.engine import Engine


class JetStream(Engine):
    """A durable pull consumer for each subject, shared by all processes."""

    destination = "subject"

    def __init__(self, broker: Any) -> None:
        super().__init__(broker)
        self._streams: dict[str, str] = {}
        self._was_running = False

    async def connect(self) -> None:
        """As in the base class; a client that has given up to reconnect is replaced."""
        if (await self.broker.connect()).is_closed:
            self._was_running |= self.broker.running
            await self.stop()
            await self.broker.connect()
        if self._was_running:
            await self.broker.start()
            self._was_running = False

    async def stop(self) -> None:
        """As in the base class; FastStream can't drain a closed client, and would keep it."""
        from nats.errors import ConnectionClosedError

        with suppress(ConnectionClosedError):
            await self.broker.stop()
        self.broker._connection = None  # noqa: SLF001 - no public name

    async def publish(self, event: DurableEvent, destination: str, options: dict[str, Any]) -> None:
        """To the stream that has the subject; without one, NATS confirms nothing."""
        stream = options.get("stream") or self._streams.get(destination)
        if stream is None:
            jetstream = self.broker.connection.jetstream()
            stream = await jetstream.find_stream_name_by_subject(destination)
            self._streams[destination] = stream
        try:
            await super().publish(
                event, destination, {"timeout": 10.0, **options, "stream": stream}
            )
        except BaseException:
            self._streams.pop(destination, None)  # perhaps another stream has the subject by now
            raise

    def subscriptions(
        self, destination: str, concurrency: int, options: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """In order: no message is delivered before the one before is acknowledged."""
        from faststream.nats import JStream, PullSub
        from nats.js.api import ConsumerConfig

        # With a client that has given up, FastStream's loop of a subscriber never awaits anything
        # again, and nothing else runs in this process.
        self.broker._connection_kwargs["max_reconnect_attempts"] = -1  # noqa: SLF001 - as above
        first = destination.partition(".")[0]
        # One of each subscription: it is changed when the subscription begins.
        config = replace(options.get("config") or ConsumerConfig(), max_ack_pending=concurrency)
        found = {
            "subject": destination,
            "stream": JStream(first, subjects=[f"{first}.>"]),
            "durable": destination.replace(".", "="),  # no receiver's name has one
            "pull_sub": PullSub(batch_size=1, timeout=5.0),
            "max_workers": concurrency,
        }
        return [{**found, **options, "config": config}]

    async def extend(self, message: Any) -> None:
        """NATS waits for 30 seconds, or as long as the consumer's ``ack_wait`` says."""
        await message.in_progress()

"""Redis streams, which need some help to keep an order and to lose nothing."""

from __future__ import annotations

import asyncio
import socket
from os import getpid
from typing import Any

from aksara_signals.contrib.outbox.events import DurableEvent
from aksara_signals.contrib.outbox.transports.engine import GROUP, Engine

IDLE_MILLISECONDS = 60_000
"""After this time, a message of a consumer that has died is given to another one."""

CLAIM_MILLISECONDS = 1_000
"""How often a consumer looks for such messages."""

PLACE_SECONDS = 0.02
"""How often a message looks whether those before it are done."""


class RedisStreams(Engine):
    """A stream with a group of consumers.

    A group gives messages to whichever consumer asks, also while the ones before are being worked
    on, and forgets nothing that isn't acknowledged. So a message waits here until it is the oldest
    one of those; the one of a consumer that has died holds up the others until it is taken over.
    """

    destination = "stream"
    can_reject = False  # it would be taken over, again and again

    async def publish(self, event: DurableEvent, destination: str, options: dict[str, Any]) -> None:
        """To a stream that has the group already, so that a later consumer gets the event."""
        client = await self.broker.connect()
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.xgroup_create(destination, GROUP, id="0", mkstream=True)
            await super().publish(event, destination, {**options, "pipeline": pipeline})
            _, added = await pipeline.execute(raise_on_error=False)  # mostly, it has the group
        if isinstance(added, Exception):
            raise added

    def subscriptions(
        self, destination: str, concurrency: int, options: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """One that takes over what dead consumers had, and one that reads what is new."""
        from faststream.redis import StreamSub

        shared: Any = {"group": GROUP, "consumer": _consumer_name(), "max_records": 1}
        first = StreamSub(destination, last_id="0", min_idle_time=IDLE_MILLISECONDS, **shared)
        first.polling_interval = CLAIM_MILLISECONDS
        second = StreamSub(destination, last_id=">", **shared)
        return [{"stream": each, "max_workers": concurrency, **options} for each in (first, second)]

    async def take_place(self, message: Any) -> None:
        """Return when this is the oldest message of the group that isn't acknowledged."""
        name, place = message.raw_message["channel"], _place(message.raw_message["message_ids"][0])
        while True:
            oldest = await message.consumer.xpending_range(name, GROUP, min="-", max="+", count=1)
            if not oldest or _place(oldest[0]["message_id"]) >= place:
                return
            await asyncio.sleep(PLACE_SECONDS)

    async def extend(self, message: Any) -> None:
        """Claim the message once more, so that nobody takes it over."""
        name, ids = message.raw_message["channel"], message.raw_message["message_ids"]
        await message.consumer.xclaim(name, GROUP, _consumer_name(), 0, ids, justid=True)


def _consumer_name() -> str:
    return f"{socket.gethostname()}-{getpid()}"


def _place(message_id: bytes | str) -> tuple[int, ...]:
    text = message_id.decode() if isinstance(message_id, bytes) else message_id
    return tuple(int(part) for part in text.split("-"))

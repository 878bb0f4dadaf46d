"""Relays: they publish the rows of an outbox to a broker, which delivers them elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from aksara_signals.contrib.outbox.events import DurableEvent
from aksara_signals.contrib.outbox.relay.publishing import Publishing
from aksara_signals.contrib.outbox.worker.desk import Desk
from aksara_signals.contrib.outbox.worker.gateway import Sessions
from aksara_signals.contrib.outbox.worker.running import RowHandler
from aksara_signals.contrib.outbox.worker.service import Service
from aksara_signals.contrib.outbox.worker.settings import Settings
from aksara_signals.contrib.outbox.worker.source import Source
from aksara_signals.contrib.outbox.worker.station import Station
from aksara_signals.contrib.outbox.worker.threads import Threads
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.dispatch.receivers.signature import is_async_receiver
from aksara_signals.exceptions import InvalidOptionError

Publish = Callable[[DurableEvent], Any]
"""Publishes an event, and returns, or what it returns is awaited, once the broker has it."""


class Relay(Service):
    """Publishes the rows of an outbox to a broker, which delivers them to :func:`receive`.

    A row is done when ``publish`` has returned: it must wait for the broker's confirmation.
    Whatever it raises, the row is published again, as often as it takes, and no failure is counted;
    an outage of the broker makes no dead letters. So an event may be published several times, and
    :func:`receive` refuses repeats. Of one object's changes, each is published only after the one
    before is confirmed, also if several relays run side by side.

    Run one by the command ``aksara-signals relay``, or inside an application::

        async with outbox.relay(publish, Sessions):
            ...

    Args:
        publish: A function, async or not, of an event. One that is not async is called in a thread.
            If it is an async context manager as well, it is entered while the relay runs.
        outbox: The outbox.
        sessions: An ``async_sessionmaker`` or a ``sessionmaker``.
        concurrency: How many events are being published at a time, each of another object.
        receivers: Names or patterns of the receivers whose rows are published, as ``"search.*"``;
            the others are left to workers.
        timeout_seconds: How long ``publish`` may take, before it is cancelled and tried again.
        lease_seconds: How long a row is reserved for this relay. Afterwards, if the relay hasn't
            extended that, another one takes the row over.
        batch_size: How many rows the relay has at a time.
        grace_seconds: How long it may go on publishing after :meth:`stop`.
        shortest_poll_seconds: How soon the relay looks for rows again while there are some.
        longest_poll_seconds: How soon it does when there were none for a while.
        health_file: A file that is touched after each claim, and after each extension of leases.
        listen: Whether to let PostgreSQL notify the relay of new rows, as in :class:`Worker`.

    Raises:
        InvalidOptionError: An option is of the wrong kind, or out of range.

    Source: the message relay of the transactional outbox pattern, here by polling.
    """

    def __init__(
        self,
        publish: Publish,
        outbox: Source,
        sessions: Sessions,
        *,
        concurrency: int = 64,
        receivers: Any = ("*",),
        timeout_seconds: float = 30.0,
        lease_seconds: float = 60.0,
        batch_size: int = 200,
        grace_seconds: float = 25.0,
        shortest_poll_seconds: float = 0.02,
        longest_poll_seconds: float = 0.5,
        health_file: Any = None,
        listen: bool = False,
    ) -> None:
        given: Any = publish
        if not callable(given):
            raise InvalidOptionError(
                f"a relay can't publish by {describe_sender(publish)}; give a function of an event"
            )
        settings = Settings(
            concurrency=concurrency,
            receivers=receivers,
            timeout_seconds=timeout_seconds,
            lease_seconds=lease_seconds,
            batch_size=batch_size,
            grace_seconds=grace_seconds,
            shortest_poll_seconds=shortest_poll_seconds,
            longest_poll_seconds=longest_poll_seconds,
            health_file=health_file,
            listen=listen,
            is_relay=True,
        )
        super().__init__(outbox, sessions, settings)
        self._publish = publish
        self._threads = Threads("aksara-signals relay")

    async def _run(self, *, until_idle: bool) -> None:
        publish: Any = self._publish
        async with AsyncExitStack() as entered:
            entered.callback(self._threads.close)
            if isinstance(publish, AbstractAsyncContextManager):
                await entered.enter_async_context(publish)
            await super()._run(until_idle=until_idle)

    def _handler(
        self, station: Station, desk: Desk, turn: AbstractAsyncContextManager[Any]
    ) -> RowHandler:
        return Publishing(station, desk, self._publisher())

    def _publisher(self) -> Callable[[DurableEvent], Awaitable[Any]]:
        publish = self._publish
        if is_async_receiver(publish):
            return publish

        async def publish_in_thread(event: DurableEvent) -> None:
            found = await self._threads.run(publish, event)
            if isinstance(found, Awaitable):
                await found

        return publish_in_thread

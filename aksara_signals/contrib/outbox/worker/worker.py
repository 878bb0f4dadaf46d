"""Workers: they call durable receivers for the rows of an outbox, until these have succeeded."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from aksara_signals.contrib.outbox.worker.attempts import Attempts
from aksara_signals.contrib.outbox.worker.desk import Desk
from aksara_signals.contrib.outbox.worker.gateway import Sessions
from aksara_signals.contrib.outbox.worker.running import RowHandler
from aksara_signals.contrib.outbox.worker.service import Service
from aksara_signals.contrib.outbox.worker.settings import Settings
from aksara_signals.contrib.outbox.worker.source import Source
from aksara_signals.contrib.outbox.worker.station import Station


class Worker(Service):
    """Calls durable receivers for the rows of an outbox, until these have succeeded.

    Any number of workers, in any number of processes, may share one outbox. Run one by the command
    ``aksara-signals worker``, or inside an application::

        async with outbox.worker(Sessions, concurrency=4):
            ...

    A receiver that names ``session`` runs in a transaction that also marks its row as done: exactly
    once. Its pool should have ``concurrency + 1`` connections.

    Args:
        outbox: The outbox.
        sessions: An ``async_sessionmaker``; or a ``sessionmaker``, and then receivers are called in
            threads, unless they are async and name no session.
        concurrency: How many receivers run at a time, each for another lane. On SQLite, those that
            name ``session`` run one at a time.
        receivers: Names or patterns of the receivers to call, as ``"search.*"``.
        lease_seconds: How long a row is reserved for this worker. Afterwards, if the worker hasn't
            extended that, another one takes the row over.
        batch_size: How many rows the worker has at a time.
        grace_seconds: How long receivers may go on after :meth:`stop`, before they are cancelled.
        shortest_poll_seconds: How soon the worker looks for rows again while there are some.
        longest_poll_seconds: How soon it does when there were none for a while.
        health_file: A file that is touched after each claim, and after each extension of leases.
        listen: Whether to let PostgreSQL notify the worker of new rows, on a connection beside the
            pool. The writing processes send it with ``Outbox(notify=True)``.
        heartbeat: Whether leases are extended while receivers run.

    Raises:
        InvalidOptionError: An option is of the wrong kind, or out of range.
    """

    def __init__(
        self,
        outbox: Source,
        sessions: Sessions,
        *,
        concurrency: int = 8,
        receivers: Any = ("*",),
        lease_seconds: float = 60.0,
        batch_size: int = 200,
        grace_seconds: float = 25.0,
        shortest_poll_seconds: float = 0.02,
        longest_poll_seconds: float = 0.5,
        health_file: Any = None,
        listen: bool = False,
        heartbeat: bool = True,
    ) -> None:
        settings = Settings(
            concurrency=concurrency,
            receivers=receivers,
            lease_seconds=lease_seconds,
            batch_size=batch_size,
            grace_seconds=grace_seconds,
            shortest_poll_seconds=shortest_poll_seconds,
            longest_poll_seconds=longest_poll_seconds,
            health_file=health_file,
            listen=listen,
            heartbeat=heartbeat,
        )
        super().__init__(outbox, sessions, settings)

    def _handler(
        self, station: Station, desk: Desk, turn: AbstractAsyncContextManager[Any]
    ) -> RowHandler:
        return Attempts(station, desk, turn)

"""How a worker learns that there are new rows, sooner than by polling.

Everything here may fail without a row being lost: polling finds it. On PostgreSQL, a process that
has written rows may notify the workers of other ones. It never does that in the application's own
transaction: PostgreSQL commits transactions with a NOTIFY one after another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import closing, suppress
from contextvars import Context
from hashlib import blake2b
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from aksara_signals.contrib.outbox.rows.locking import beside_pool
from aksara_signals.contrib.outbox.rows.tables import Tables
from aksara_signals.contrib.outbox.worker.error_texts import error_text
from aksara_signals.contrib.outbox.worker.reports import log
from aksara_signals.contrib.outbox.worker.threads import Threads

LONGEST_PAUSE_SECONDS = 30.0
"""How long a listener waits before it connects once more, at most."""


class Wake:
    """An event for one task, which clears it before it looks for something to do.

    It waits afterwards. So what comes up while it looks is not missed.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Set it, in the thread of the event loop."""
        self._event.set()

    def clear(self) -> None:
        """Reset it."""
        self._event.clear()

    async def pause(self, seconds: float) -> None:
        """Wait until it is set, or until the time is over."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()


def channel_of(tables: Tables) -> str:
    """The channel of PostgreSQL on which rows in a table are announced; needs no quotes."""
    return f"aksara_{blake2b(tables.outbox.fullname.encode(), digest_size=8).hexdigest()}"


class Listener:
    """Wakes a worker whenever PostgreSQL announces new rows, on a connection beside the pool.

    Args:
        engine: That of the worker.
        tables: The tables of the outbox.
        wake: Called by any thread.
    """

    def __init__(self, engine: Engine, tables: Tables, wake: Callable[[], object]) -> None:
        self._engine = engine
        self._statement = f"LISTEN {channel_of(tables)}"
        self._channel = channel_of(tables)
        self._wake = wake
        self._threads = Threads("aksara-signals listener")
        self._is_stopped = False
        self._pause = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen from now on."""
        driver = self._engine.dialect.driver
        if driver not in ("asyncpg", "psycopg", "psycopg_async"):
            text = (
                "a worker can't listen with the driver %s, and polls instead: listen=True needs %s"
            )
            log(logging.WARNING, text, driver, "asyncpg or psycopg on PostgreSQL")
            return
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._listen_always(), context=Context())

    async def stop(self) -> None:
        """Listen no more."""
        self._is_stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        self._threads.close()

    async def _listen_always(self) -> None:
        while not self._is_stopped:
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001 - polling goes on, whatever it is
                log(logging.WARNING, "a worker polls, as it can't listen: %s", error_text(error))
            self._pause = min(max(1.0, self._pause * 2), LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(self._pause)

    async def _listen(self) -> None:
        """Listen until the connection is lost."""
        engine = beside_pool(self._engine)
        if not engine.dialect.is_async:
            try:
                await self._threads.run(self._listen_in_thread, engine)
            except asyncio.CancelledError:
                self._is_stopped = True  # a thread can't be cancelled
                raise
            return
        own = AsyncEngine(engine)
        try:
            async with own.connect() as pooled:
                # The pool closes the driver's connection as soon as nobody refers to its own.
                connection: Any = (await pooled.get_raw_connection()).driver_connection
                try:
                    if engine.dialect.driver == "asyncpg":
                        await self._listen_by_asyncpg(connection)
                    else:
                        await self._listen_by_psycopg(connection)
                finally:
                    await pooled.invalidate()  # a pool would roll back on it, and log that it can't
        finally:
            await own.dispose()

    async def _listen_by_asyncpg(self, connection: Any) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda *_: lost.set())
        await connection.add_listener(self._channel, lambda *_: self._wake())
        self._note_start()
        await lost.wait()

    async def _listen_by_psycopg(self, connection: Any) -> None:
        await connection.set_autocommit(True)
        await connection.execute(self._statement)
        self._note_start()
        async for _ in connection.notifies():
            self._wake()

    def _listen_in_thread(self, engine: Engine) -> None:
        try:
            with closing(engine.raw_connection()) as pooled:
                connection: Any = pooled.driver_connection
                try:
                    connection.autocommit = True
                    connection.execute(self._statement)
                    self._note_start()
                    while not self._is_stopped:
                        for _ in connection.notifies(timeout=1.0):
                            self._wake()
                finally:
                    pooled.invalidate()
        finally:
            engine.dispose()

    def _note_start(self) -> None:
        self._pause = 0.0
        self._wake()  # something may have been written since the last look

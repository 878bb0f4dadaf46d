"""Announcing rows to the workers of other processes, by NOTIFY of PostgreSQL.

The first commit is announced at once, and then one NOTIFY stands for all commits of ten
milliseconds. It is sent on a connection of its own. The application's transactions don't contain
it: PostgreSQL commits those that do one after another.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from contextvars import Context
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from aksara_signals.contrib.outbox.rows.locking import beside_pool
from aksara_signals.contrib.outbox.rows.tables import Tables
from aksara_signals.contrib.outbox.worker.error_texts import error_text
from aksara_signals.contrib.outbox.worker.reports import log
from aksara_signals.contrib.outbox.worker.waking import channel_of

DEBOUNCE_SECONDS = 0.01
"""How long commits are gathered after a NOTIFY."""

IDLE_SECONDS = 1.0
"""How long the connection stays open for the next ones."""


class Notifier:
    """Announces rows after commits. For any number of engines, threads and event loops.

    Args:
        tables: The tables of the outbox.
    """

    def __init__(self, tables: Tables) -> None:
        self._statement = f"NOTIFY {channel_of(tables)}"
        self._tasks: weakref.WeakKeyDictionary[Any, dict[Engine, _Announcer]] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.Lock()
        self._threads: dict[Engine, _ThreadAnnouncer] = {}

    def notify(self, bind: Engine | Connection) -> None:
        """Announce that rows were committed; returns at once.

        Args:
            bind: What the session of the rows is bound to. Nothing is done unless it is PostgreSQL.
        """
        engine = bind.engine
        if engine.dialect.name != "postgresql":
            return
        if not engine.dialect.is_async:
            with self._lock:
                found = self._threads.get(engine)
                if found is None or not found.announce():
                    self._threads = {
                        each: one for each, one in self._threads.items() if one.is_alive
                    }
                    self._threads[engine] = _ThreadAnnouncer(engine, self._statement)
            return
        loop = asyncio.get_running_loop()
        announcers = self._tasks.setdefault(loop, {})
        announcer = announcers.get(engine)
        if announcer is None or not announcer.announce():
            announcers[engine] = _Announcer(engine, self._statement, loop)


class _Announcer:
    """Sends for an async engine, in a task that ends when there is nothing to send for a while."""

    def __init__(self, engine: Engine, statement: str, loop: asyncio.AbstractEventLoop) -> None:
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._is_over = False
        self._statement = statement
        self._task = loop.create_task(self._run(engine), context=Context())

    def announce(self) -> bool:
        """Send soon; False if the task has ended."""
        self._wanted.set()
        return not (self._is_over or self._task.done())

    async def _run(self, engine: Engine) -> None:
        own = AsyncEngine(beside_pool(engine)).execution_options(isolation_level="AUTOCOMMIT")
        try:
            async with own.connect() as connection:
                while self._wanted.is_set():
                    self._wanted.clear()
                    await connection.exec_driver_sql(self._statement)
                    await asyncio.sleep(DEBOUNCE_SECONDS)
                    try:
                        async with asyncio.timeout(IDLE_SECONDS):
                            await self._wanted.wait()
                    except TimeoutError:
                        break
        except Exception as error:  # noqa: BLE001 - the workers find the rows by polling
            _complain(error)
        finally:
            self._is_over = True
            await own.dispose()


class _ThreadAnnouncer:
    """Sends for a plain engine, in a daemon thread that ends likewise."""

    def __init__(self, engine: Engine, statement: str) -> None:
        self._wanted = threading.Event()
        self._wanted.set()
        self._statement = statement
        self._is_over = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(
            target=self._run, args=(engine,), name="aksara-signals notifier", daemon=True
        )
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs; not in a process that was forked."""
        return self._thread.is_alive()

    def announce(self) -> bool:
        """Send soon; False if the thread has ended."""
        with self._lock:
            self._wanted.set()
            return not self._is_over and self.is_alive

    def _run(self, engine: Engine) -> None:
        own = beside_pool(engine).execution_options(isolation_level="AUTOCOMMIT")
        try:
            with own.connect() as connection:
                while True:
                    self._wanted.clear()
                    connection.exec_driver_sql(self._statement)
                    time.sleep(DEBOUNCE_SECONDS)
                    self._wanted.wait(IDLE_SECONDS)
                    with self._lock:
                        if not self._wanted.is_set():
                            self._is_over = True
                            return
        except Exception as error:  # noqa: BLE001 - the workers find the rows by polling
            _complain(error)
        finally:
            with self._lock:
                self._is_over = True
            own.dispose()


def _complain(error: Exception) -> None:
    text = "new rows of the outbox can't be announced, and are found by polling: %s"
    log(logging.WARNING, text, error_text(error))

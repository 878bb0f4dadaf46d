"""One event loop for each process, in a thread, for engines that call functions and await nothing.

Connections of async engines belong to the loop in which they were made, so all receivers of a
process share one.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from typing import Any

from aksara_signals.contrib.outbox.outbox import Outbox
from aksara_signals.contrib.outbox.receiving import Outcome, attempt_once
from aksara_signals.contrib.outbox.worker.gateway import Sessions, gateway_for


class Background:
    """Calls receivers in the event loop of the process, which is started when it is needed.

    The loop ends with this object.

    Args:
        sessions: Makes sessions.
        outbox: The outbox.
    """

    def __init__(self, sessions: Sessions, outbox: Outbox) -> None:
        self._sessions = sessions
        self._outbox = outbox
        self._made_in = os.getpid()
        self._loops: dict[int, asyncio.AbstractEventLoop] = {}
        self._lock = threading.Lock()

    def attempt(self, event: Any, attempt: int) -> Outcome:
        """Call the receiver of a message, and make known if it fails.

        Raises:
            OutboxError: The message isn't one of a relay.
            InvalidOptionError: ``sessions`` makes no sessions.
            BaseException: What has interrupted the current thread; the receiver is cancelled.
        """
        loop = self._loop()
        future = asyncio.run_coroutine_threadsafe(self._attempt(event, attempt), loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _attempt(self, event: Any, attempt: int) -> Outcome:
        outcome = await attempt_once(event, self._sessions, self._outbox, attempt)
        await outcome.report()
        return outcome

    def _loop(self) -> asyncio.AbstractEventLoop:
        pid = os.getpid()  # a fork has no threads, so it doesn't have the loop of its parent
        with self._lock:
            if pid not in self._loops:
                if pid != self._made_in:  # connections in the pool are the parent's
                    gateway = gateway_for(self._sessions, self._outbox.tables)
                    gateway.engine.dispose(close=False)
                loop = self._loops[pid] = asyncio.new_event_loop()
                name = "aksara-signals receivers"
                threading.Thread(target=_serve, args=(loop,), name=name, daemon=True).start()
                weakref.finalize(self, _stop, loop, pid).atexit = False
            return self._loops[pid]


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            loop.run_forever()
        except (KeyboardInterrupt, SystemExit):  # of a receiver; its caller is given it, too
            continue
        loop.close()
        return


def _stop(loop: asyncio.AbstractEventLoop, pid: int) -> None:
    if pid == os.getpid():  # a fork shares the socket by which its parent's loop is woken
        loop.call_soon_threadsafe(loop.stop)

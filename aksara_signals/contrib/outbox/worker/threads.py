"""Threads for the calls of plain sessions, which must not block the event loop.

The threads of an executor would be joined when the process ends: a receiver that hangs would keep
it alive for ever. These are daemon threads, of which there are as many as there are calls at a
time.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")

_Job = tuple[
    contextvars.Context,
    Callable[..., Any],
    tuple[Any, ...],
    asyncio.AbstractEventLoop,
    "asyncio.Future[Any]",
]
_Jobs = SimpleQueue[_Job | None]


class Threads:
    """Runs functions in threads, which are started as needed and used again."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._idle: list[_Jobs] = []
        self._is_closed = False

    async def run(self, function: Callable[..., ResultT], *arguments: Any) -> ResultT:
        """Call a function in a thread, with a copy of the current context.

        If this is cancelled, the function goes on, and its result is dropped.
        """
        self._is_closed = False
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResultT] = loop.create_future()
        try:
            jobs = self._idle.pop()
        except IndexError:
            jobs = SimpleQueue()
            threading.Thread(target=self._work, args=(jobs,), name=self._name, daemon=True).start()
        jobs.put((contextvars.copy_context(), function, arguments, loop, future))
        return await future

    def close(self) -> None:
        """End the threads that are idle, and each other one when its call returns.

        The next call starts threads again.
        """
        self._is_closed = True
        while self._idle:
            self._idle.pop().put(None)

    def _work(self, jobs: _Jobs) -> None:
        while (job := jobs.get()) is not None:
            self._do(job)
            del job  # its arguments must not live until the next job
            self._idle.append(jobs)
            if self._is_closed:
                self.close()

    def _do(self, job: _Job) -> None:
        context, function, arguments, loop, future = job
        result = error = None
        try:
            result = context.run(function, *arguments)
        except BaseException as raised:  # noqa: BLE001 - it is raised where the result is awaited
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody awaits the result
            loop.call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():  # cancelled
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):  # a future can't hold one
        future.set_exception(RuntimeError("StopIteration was raised in a thread"))
    else:
        future.set_exception(error)

"""The process of ``aksara-signals worker``: it runs a worker until a signal ends it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from aksara_signals.contrib.outbox.commands.database import Store
from aksara_signals.contrib.outbox.outbox import Outbox
from aksara_signals.contrib.outbox.worker.worker import Worker

_OPTIONS = (
    "concurrency",
    "batch_size",
    "lease_seconds",
    "grace_seconds",
    "health_file",
    "listen",
)
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_worker(outbox: Outbox, sessions: Callable[[], Any], options: argparse.Namespace) -> int:
    """Install an outbox, and run a worker until SIGINT or SIGTERM.

    Returns:
        The exit status, 0.

    Raises:
        OutboxError: The worker can't start.
        InvalidOptionError: An option is out of range.
    """
    outbox.install()
    given = {name: getattr(options, name) for name in _OPTIONS if hasattr(options, name)}
    worker = outbox.worker(sessions, receivers=tuple(options.receivers or ("*",)), **given)
    _show_log()
    with asyncio.Runner() as runner:
        try:
            runner.run(_run(worker))
        finally:
            Store(outbox, sessions, runner).dispose()
    return 0


async def _run(worker: Worker) -> None:
    with _stopped_by_signals(worker, asyncio.get_running_loop()):
        await worker.run()


@contextmanager
def _stopped_by_signals(worker: Worker, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Stop the worker at the first signal, and at once at the second."""
    received = 0

    def stop() -> None:
        nonlocal received
        received += 1
        worker.stop(now=received > 1)

    # Not loop.add_signal_handler(), which Windows doesn't have; this one works everywhere.
    def receive(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop)

    before = {number: signal.signal(number, receive) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_log() -> None:
    """Show what the worker logs, if the application has not set up its logging."""
    if logging.getLogger().handlers:
        return
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("aksara_signals").setLevel(logging.INFO)

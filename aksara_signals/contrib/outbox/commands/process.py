"""The process of ``aksara-signals worker``: it runs a worker until a signal ends it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any

from aksara_signals.contrib.outbox.commands.database import Store
from aksara_signals.contrib.outbox.commands.stopping import stopped_by_signals
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
    with stopped_by_signals(worker):
        await worker.run()


def _show_log() -> None:
    """Show what the worker logs, if the application has not set up its logging."""
    if logging.getLogger().handlers:
        return
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("aksara_signals").setLevel(logging.INFO)

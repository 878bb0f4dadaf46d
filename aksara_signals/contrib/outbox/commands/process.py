"""The process of ``aksara-signals worker`` or ``relay``: it runs one until a signal ends it."""

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
from aksara_signals.contrib.outbox.worker.service import Service
from aksara_signals.introspection.load import find

_OPTIONS = (
    "concurrency",
    "batch_size",
    "lease_seconds",
    "grace_seconds",
    "timeout_seconds",
    "health_file",
    "listen",
)


def run_service(outbox: Outbox, sessions: Callable[[], Any], options: argparse.Namespace) -> int:
    """Install an outbox, and run a worker or a relay until SIGINT or SIGTERM.

    Returns:
        The exit status, 0.

    Raises:
        OutboxError: It can't start.
        InvalidOptionError: An option is out of range.
        LoadError: What ``--to`` names can't be found.
    """
    outbox.install()
    given = {name: getattr(options, name) for name in _OPTIONS if hasattr(options, name)}
    given["receivers"] = tuple(options.receivers or ("*",))
    _show_log()
    with asyncio.Runner() as runner:
        try:
            if hasattr(options, "to"):
                service: Service = outbox.relay(find(options.to, "--to"), sessions, **given)
            else:
                service = outbox.worker(sessions, **given)
            runner.run(_run(service))
        finally:
            Store(outbox, sessions, runner).dispose()
    return 0


async def _run(service: Service) -> None:
    with stopped_by_signals(service):
        await service.run()


def _show_log() -> None:
    """Show what is logged, if the application has not set up its logging."""
    if logging.getLogger().handlers:
        return
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("aksara_signals").setLevel(logging.INFO)

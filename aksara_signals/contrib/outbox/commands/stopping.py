"""What SIGTERM and SIGINT do to a process whose business is a worker or a relay."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aksara_signals.contrib.outbox.worker.service import Service


@contextmanager
def stopped_by_signals(service: Service) -> Iterator[None]:
    """Stop a worker or a relay by SIGTERM or SIGINT, inside the block; for the main thread only.

    The first signal lets receivers finish, the second one cancels them. The third one ends the
    process: a receiver may block the event loop, which could do neither.
    """
    loop = asyncio.get_running_loop()
    count = 0

    def note(number: int, _frame: Any) -> None:
        nonlocal count
        count += 1
        if count == 3:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        is_second = count == 2
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(lambda: service.stop(now=is_second))

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

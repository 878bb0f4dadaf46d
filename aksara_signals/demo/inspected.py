"""The demonstration again and again, while the inspector shows it in a browser."""

from __future__ import annotations

import asyncio
import signal
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from threading import Thread
from typing import TextIO

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import async_sessionmaker

from aksara_signals.contrib.inspector import Inspector
from aksara_signals.demo.blog import AuditEntry, Base, connected_receivers
from aksara_signals.demo.database import EMBEDDED, create_tables, make_engine
from aksara_signals.demo.story import run_chapters
from aksara_signals.demo.timeline import Timeline

PAUSE_SECONDS: float = 3.0
"""After each chapter."""


async def run_inspected(url: str = EMBEDDED, out: TextIO | None = None) -> None:
    """Write to the blog, again and again, until Ctrl-C, or until the task is cancelled.

    The last chapter, with its processes, is left out. On a terminal, the page of the inspector is
    opened in a browser.

    Args:
        url: Any async SQLAlchemy URL. Tables named ``aksara_demo_…`` are created there, and
            dropped at the end.
        out: Where the timeline is printed; by default, standard output.

    Raises:
        SystemExit: The database can't be used; one line says why, and what to install.
    """
    stream = sys.stdout if out is None else out
    timeline = Timeline(stream)
    engine = make_engine(url)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    try:
        await create_tables(engine, Base.metadata)
        # These values are made up, so they may be shown.
        inspector = Inspector(debug=True, show=("title", "slug", "text"), show_errors=True)
        try:
            with inspector.in_thread(port=0) as served, connected_receivers(timeline, {}):
                print(f"inspector: {served.address}", file=stream, flush=True)
                if stream.isatty():
                    open_page(served.address)
                with stopped_by_ctrl_c() as stop, suppress(Stopped):
                    while True:
                        await run_chapters(timeline, sessions, partial(pause, stop))
                        async with engine.begin() as connection:
                            await connection.execute(delete(AuditEntry))
        finally:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.drop_all)
    finally:
        await engine.dispose()


class Stopped(Exception):  # noqa: N818 - it is no error
    """Ctrl-C was pressed."""


@contextmanager
def stopped_by_ctrl_c() -> Iterator[asyncio.Event]:
    """Yield what Ctrl-C sets, where the event loop can be asked to do that.

    Otherwise Ctrl-C cancels the task in the middle of whatever it does: a query whose connection
    is lost then, or the rollback after a receiver's error, which the story catches.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGINT, stop.set)
    except (NotImplementedError, RuntimeError, ValueError):  # on Windows; not in the main thread
        yield stop
        return
    try:
        yield stop
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def pause(stop: asyncio.Event) -> None:
    """Wait for a while.

    Raises:
        Stopped: Ctrl-C was pressed.
        CancelledError: The task was cancelled, perhaps in the middle of a chapter that has caught
            it.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), PAUSE_SECONDS)
    if stop.is_set():
        raise Stopped


def open_page(address: str) -> None:
    """Open an address in a browser, if there is one, without waiting for it."""

    def attempt() -> None:
        # Who has no browser here, or a broken one, has the address that was printed.
        with suppress(webbrowser.Error, OSError):
            webbrowser.open(address)

    Thread(target=attempt, daemon=True).start()

"""A consumer in a process of its own: a FastStream application in the ordinary way.

Run as ``python -m kit.consuming kind url prefix folder dies``, with ``dies`` one of ``never``,
``before`` (the commit of its first receiver) and ``after`` (it, but before the acknowledgement).
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from faststream import FastStream
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.orm import Session

from aksara_signals.contrib.outbox import Durable
from aksara_signals.contrib.outbox.transports.faststream import faststream_receiver
from kit.carriers import CARRIERS
from kit.databases import sqlite_database
from kit.outbox_workers import Effect, World, connect, outbox

IMPATIENT_SECONDS = 1.5
DIED = 9


def connect_copy() -> None:
    """Connect a receiver that writes down the text of a note."""
    connect(copy, Durable("test.notes", include=("text",)))


def copy(session: Any, event: Any, **_: Any) -> None:
    session.add(Effect(note_id=event.key[0], by=event.values["text"]))


def die(*_: Any, **__: Any) -> None:
    os._exit(DIED)


async def main(kind: str, url: str, prefix: str, folder: str, dies: str) -> None:
    carrier = CARRIERS[kind](url, prefix)
    outbox.install()
    connect_copy()
    if dies != "never":
        sqlalchemy_event.listen(Session, f"{dies}_commit", die)
    world = World(sqlite_database(Path(folder)), is_async=True)
    broker = carrier.broker()
    options = carrier.impatient(IMPATIENT_SECONDS)
    faststream_receiver(broker, world.sessions, carrier.template, **options)
    await FastStream(broker).run()
    await world.dispose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

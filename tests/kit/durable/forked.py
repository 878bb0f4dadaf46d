"""A server that makes a worker, is used, and forks: python -m kit.durable.forked OPTIONS FILE.

As servers do that load the application before they start their processes.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from sqlalchemy import select

from aksara_signals.contrib.outbox import Worker
from kit.durable import shop
from kit.durable.shop import Ware


async def run(worker: Worker) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    try:
        await worker.run()
    finally:
        await shop.engine.dispose()


def main() -> None:
    worker = shop.outbox.worker(shop.Sessions, **json.loads(sys.argv[1]))
    with shop.SyncSessions() as session:  # a connection is in the pool now
        session.scalars(select(Ware)).all()
    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            shop.sync_engine.dispose(close=False)  # the connection is the parent's
            asyncio.run(run(worker))
            print("worker", worker.name, flush=True)
            return
        children.append(child)
    shop.sync_engine.dispose()
    Path(sys.argv[2]).touch()
    signal.signal(signal.SIGTERM, lambda *_: [os.kill(child, signal.SIGTERM) for child in children])
    for child in children:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


if __name__ == "__main__":
    main()

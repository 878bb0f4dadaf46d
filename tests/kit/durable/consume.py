"""A program that consumes what relays publish, until it is ended: python -m kit.durable.consume FILE."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

from faststream import FastStream
from nats.js.api import ConsumerConfig

from aksara_signals.contrib.outbox.transports.faststream import faststream_receiver
from kit.durable import shop
from kit.durable.broker import PARTITIONS, broker
from kit.durable.programs import REDELIVERY_SECONDS


async def main() -> None:
    logging.basicConfig(stream=sys.stderr)
    sessions = shop.SyncSessions if os.environ.get(shop.SYNC) else shop.Sessions
    config = ConsumerConfig(max_ack_pending=1, ack_wait=REDELIVERY_SECONDS)
    faststream_receiver(broker, sessions, partitions=PARTITIONS, config=config)
    app = FastStream(broker)
    app.after_startup(Path(sys.argv[1]).touch)
    await app.run()
    await shop.engine.dispose()
    shop.sync_engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())

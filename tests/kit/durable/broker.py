"""The shop's broker, which its relays publish to and its consumers take from."""

from __future__ import annotations

import os

from faststream.nats import NatsBroker

from aksara_signals.contrib.outbox.transports.faststream import faststream_publisher
from kit.durable.shop import NATS

PARTITIONS = 4

broker = NatsBroker(
    os.environ[NATS],
    connect_timeout=2,
    reconnect_time_wait=0.1,
    max_reconnect_attempts=-1,
    # A server that was cut off is noticed soon.
    ping_interval=2,
    max_outstanding_pings=2,
)
publish = faststream_publisher(broker, partitions=PARTITIONS)

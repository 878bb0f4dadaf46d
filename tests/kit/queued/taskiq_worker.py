"""The broker of a taskiq worker: python -m taskiq worker kit.queued.taskiq_worker:broker."""

from __future__ import annotations

import os

from nats.js.api import ConsumerConfig
from taskiq_nats import PullBasedJetStreamBroker

from aksara_signals.contrib.outbox.transports.taskiq import taskiq_receiver
from kit.queued import places, receivers

ACK_SECONDS = 5.0
"""After this time, NATS gives an event of a killed worker to another one."""


def make_broker(url: str, prefix: str) -> PullBasedJetStreamBroker:
    """A broker with a stream of its own."""
    return PullBasedJetStreamBroker(
        url,
        subject=f"{prefix}.events",
        stream_name=f"{prefix}-stream",
        durable=f"{prefix}-workers",
        consumer_config=ConsumerConfig(
            durable_name=f"{prefix}-workers", ack_wait=ACK_SECONDS, max_ack_pending=8
        ),
        pull_consume_timeout=1.0,
    )


if places.BROKER in os.environ:
    receivers.connect_here()
    broker = make_broker(os.environ[places.BROKER], os.environ[places.PREFIX])
    taskiq_receiver(broker, places.sessions_here())

"""What the parts of a running worker share."""

from __future__ import annotations

from dataclasses import dataclass

from aksara_signals.contrib.outbox.worker.gateway import Gateway
from aksara_signals.contrib.outbox.worker.health import Health
from aksara_signals.contrib.outbox.worker.known import KnownReceivers
from aksara_signals.contrib.outbox.worker.lanes import Lanes
from aksara_signals.contrib.outbox.worker.settings import Settings
from aksara_signals.contrib.outbox.worker.source import Source


@dataclass(frozen=True, slots=True, eq=False)
class Station:
    """What the parts of a running worker share."""

    name: str
    """The name of the worker, in the table and in messages."""
    outbox: Source
    settings: Settings
    gateway: Gateway
    """Opens sessions."""
    known: KnownReceivers
    lanes: Lanes
    """The rows that are to be run, and those that run."""
    health: Health
    """Takes the figures."""

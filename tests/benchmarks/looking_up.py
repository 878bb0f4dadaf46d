"""How the receivers of a send are found: many connections, senders of any kind, silenced ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from time import process_time
from typing import Any

from by_hand import PAYLOAD
from harness import Comparison, Figure, Job, compare
from receivers import receivers
from sending import BATCH, Sender, repeated

from aksara_signals import Signal, SignalContext

CROWDS = (300, 3_000, 30_000)
"""Connections, each of another sender."""

BUNDLE = 20
"""Senders between two looks at the clock."""

LIMIT_MICROSECONDS = 50


def rows(loop: asyncio.AbstractEventLoop) -> Iterator[Comparison | Figure]:
    """The comparisons, and the figures of single operations."""
    for count in CROWDS:
        yield _figure(
            f"the first send of a sender among {count:,} connections", first_send_seconds(count)
        )
    yield _figure(
        f"``disconnect`` among {CROWDS[-1]:,} connections", disconnect_seconds(CROWDS[-1])
    )
    yield _other_senders(loop)
    for kind, sender in (("string", "orders"), ("number", 42)):
        yield _any_sender(loop, kind, sender)
    for count in (1, 10):
        yield _silenced(loop, count)


def _figure(what: str, seconds: float) -> Figure:
    return Figure(what, seconds * 1e6, LIMIT_MICROSECONDS, "µs")


def crowded(count: int) -> tuple[Signal, list[type], Callable[..., Any]]:
    """A signal with as many connections, the sender of each, and the receiver."""
    [receiver] = receivers(1, is_async=False)
    senders = [type(f"Sender{n}", (), {}) for n in range(count)]
    signal = Signal()
    for sender in senders:
        signal.connect(receiver, sender=sender)
    return signal, senders, receiver


def first_send_seconds(count: int) -> float:
    """Seconds of the first send of a sender; the minimum over bundles of senders."""
    signal, senders, _ = crowded(count)
    instance = PAYLOAD["instance"]
    # A connection that is new removes what is known of its sender, and of no other.
    return _least(senders, lambda sender: signal.send_sync(sender, instance=instance))


def disconnect_seconds(count: int) -> float:
    """Seconds to disconnect one of the receivers; the minimum over bundles of senders."""
    signal, senders, receiver = crowded(count)
    for sender in senders[: BUNDLE * 10]:
        signal.send_sync(sender, instance=None)  # what is known of them has to go as well
    return _least(senders, lambda sender: signal.disconnect(receiver, sender=sender))


def _least(senders: list[type], action: Callable[[type], object]) -> float:
    bundle = min(BUNDLE, len(senders))
    taken = []
    for start in range(0, min(len(senders), bundle * 10), bundle):
        chosen = senders[start : start + bundle]
        began = process_time()
        for sender in chosen:
            action(sender)
        taken.append((process_time() - began) / len(chosen))
    return min(taken)


def _send(loop: asyncio.AbstractEventLoop, signal: Signal, sender: Any, count: int = 1) -> Job:
    instance = PAYLOAD["instance"]
    return repeated(
        loop,
        lambda: signal.send(sender, instance=instance, created=True, session=None),
        BATCH // count,
    )


def _other_senders(loop: asyncio.AbstractEventLoop) -> Comparison:
    [function] = receivers(1)
    alone, crowd = Signal(), Signal()
    for signal in (alone, crowd):
        signal.connect(function, sender=Sender)
    others = [type(f"Sender{n}", (), {}) for n in range(10_000)]
    crowd.connect(function, sender=others)
    return compare(
        "a send among 10,000 connections of other senders, against one without them",
        1.03,
        ours=_send(loop, crowd, Sender),
        reference=_send(loop, alone, Sender),
        rounds=60,
    )


def _any_sender(loop: asyncio.AbstractEventLoop, kind: str, sender: Any) -> Comparison:
    [function] = receivers(1)
    signal = Signal()
    for each in (Sender, sender):
        signal.connect(function, sender=each)
    return compare(
        f"a send of a sender that is a {kind}, against one of a class",
        1.2,
        ours=_send(loop, signal, sender),
        reference=_send(loop, signal, Sender),
        rounds=60,
    )


def _silenced(loop: asyncio.AbstractEventLoop, count: int) -> Comparison:
    functions, [somebody_else] = receivers(count), receivers(1)
    signal = Signal()
    for function in functions:
        signal.connect(function, sender=Sender)
    usual = _send(loop, signal, Sender, count)

    def silenced() -> None:
        with SignalContext.disable_for(receivers=[somebody_else]):
            usual()

    return compare(
        f"a send to {count} receiver{'s' * (count > 1)} inside ``disable_for(receivers=[…])`` "
        "of another, against outside",
        1.3,
        ours=silenced,
        reference=usual,
        rounds=60,
    )

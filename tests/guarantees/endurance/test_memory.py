"""Sending over and over again leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from kit.crowd import Entry, new_base, new_class
from kit.effort import times
from kit.memory import async_growth_of, growth_of

from aksara_signals import Signal, SignalContext, post_save

pytestmark = pytest.mark.slow


class ReceiverError(Exception):
    """What receivers under test raise."""


async def _async(**kwargs: Any) -> None:
    await asyncio.sleep(0)


def _fail(**kwargs: Any) -> None:
    raise ReceiverError


async def _fail_later(**kwargs: Any) -> None:
    await asyncio.sleep(0)
    raise ReceiverError


def _receive(self: object, **kwargs: Any) -> None: ...


def without_receivers(signal: Signal) -> Callable[[], Any]:
    return lambda: signal.send(object())


def to_sync(signal: Signal) -> Callable[[], Any]:
    signal.connect(lambda **kwargs: None)
    return lambda: signal.send(object())


def to_async(signal: Signal) -> Callable[[], Any]:
    signal.connect(_async)
    return lambda: signal.send(Entry)


def to_concurrent(signal: Signal) -> Callable[[], Any]:
    signal.connect(_async, concurrent=True)
    signal.connect(lambda **kwargs: asyncio.sleep(0), concurrent=True)
    return lambda: signal.send(Entry)


def to_failing(signal: Signal) -> Callable[[], Any]:
    signal.connect(_fail_later)

    async def send() -> None:
        with pytest.raises(ReceiverError):
            await signal.send(Entry, text="x")

    return send


def to_failing_together(signal: Signal) -> Callable[[], Any]:
    signal.connect(_fail, concurrent=True)
    signal.connect(_fail_later, concurrent=True)

    async def send() -> None:
        with pytest.raises(ExceptionGroup):
            await signal.send(Entry)

    return send


def robustly(signal: Signal) -> Callable[[], Any]:
    signal.connect(_fail)
    signal.connect(_fail_later)
    return lambda: signal.send_robust(Entry)


def in_contexts(signal: Signal) -> Callable[[], Any]:
    signal.connect(_async)

    async def send() -> None:
        async with SignalContext.disable_for(Entry), SignalContext.disable_all():
            await signal.send(Entry)
        await SignalContext.disable_all()(signal.send)(Entry)

    return send


def connected_for_a_while(signal: Signal) -> Callable[[], Any]:
    async def send() -> None:
        sender = type("Sender", (), {})
        with signal.connected_to(lambda **kwargs: None, sender=sender):
            await signal.send(sender)
        signal.connect(lambda **kwargs: None, sender="Sender", dispatch_uid="uid")
        await signal.send(sender)
        signal.connect(type("Mortal", (), {"receive": _receive})().receive, weak=True)
        signal.connect(lambda **kwargs: None, sender=type("Mortal", (), {}))
        assert signal.disconnect(sender="Sender", dispatch_uid="uid")

    return send


def made_on_the_way(signal: Signal) -> Callable[[], Any]:
    async def send() -> None:
        other = Signal("dynamic", providing_args=["text"])
        other.connect(_async)
        await other.send(Entry, text="x")
        await Entry.signals.on_something.send(Entry)

    return send


@pytest.mark.parametrize(
    "scenario",
    [
        without_receivers,
        to_sync,
        to_async,
        to_concurrent,
        to_failing,
        to_failing_together,
        robustly,
        in_contexts,
        connected_for_a_while,
        made_on_the_way,
    ],
)
async def test_sends_keep_nothing(scenario: Callable[..., Any], silent_log: list[int]) -> None:
    """However often a signal is sent, there are as many objects as before."""
    signal = Signal("sent over and over")
    assert await async_growth_of(scenario(signal), times(100)) == {}


def test_classes_that_are_thrown_away_keep_nothing() -> None:
    """Mapping a class, connecting to it and disposing of its registry leaves nothing."""

    def work() -> None:
        base = new_base()
        thrown_away = new_class("ThrownAway", base)
        post_save.connect(lambda **kwargs: None, sender=thrown_away)
        post_save.connect(_async, sender=thrown_away, dispatch_uid="uid")
        thrown_away.signals.on_something.connect(lambda **kwargs: None)
        thrown_away.signals.post_save.has_receivers()
        base.registry.dispose()

    assert growth_of(work, times(20)) == {}


@pytest.mark.parametrize("what", ["object", "bytes"])
async def test_a_leak_would_be_seen(what: str) -> None:
    """A receiver that keeps what it is sent, or some bytes, is found out by the same measure."""
    signal = Signal("leaking")
    kept: list[Any] = []

    @signal.connect
    def leak(**kwargs: Any) -> None:
        kept.append([kwargs] if what == "object" else bytes(6000))

    growth = await async_growth_of(lambda: signal.send(Entry), 1000)
    if what == "object":
        assert growth["builtins.list"] >= 1000
        assert growth["builtins.dict"] >= 1000
    else:
        assert growth["bytes"] >= 6_000_000

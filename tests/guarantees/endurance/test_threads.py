"""Threads connect, disconnect and send at once: the dispatcher alone."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kit.crowd import at_once
from kit.effort import times
from kit.support import answering

from aksara_signals import Signal, SignalContext

pytestmark = pytest.mark.slow


class Sender:
    """A sender that may die."""


class Listener:
    """An object whose method is connected weakly, and which may die."""

    def receive(self, **kwargs: Any) -> str:
        return "weak"


def _churn(signal: Signal, seed: int, problems: list[Any]) -> None:
    """Connect and disconnect in every way there is; what is disconnected must have been there."""
    chance = random.Random(seed)
    for _ in range(times(60)):
        kind = chance.choice(("strong", "weak", "uid", "sender", "mortal", "block", "collect"))
        if kind == "strong":
            mine = [signal.connect(lambda **kwargs: "mine") for _ in range(3)]
            problems += ["lost" for each in mine if not signal.disconnect(each)]
        elif kind == "weak":
            listener = Listener()
            signal.connect(listener.receive, weak=True)
            if chance.random() < 0.5 and not signal.disconnect(listener.receive):
                problems.append("weak lost")
        elif kind == "uid":
            uid = seed, chance.randrange(3)
            signal.connect(lambda **kwargs: "uid", dispatch_uid=uid)
            if not signal.disconnect(dispatch_uid=uid):
                problems.append("uid lost")
        elif kind == "sender":
            one, two = Sender(), Sender()
            receiver = signal.connect(lambda **kwargs: "sender", sender=[one, two])
            if (receiver, "sender") not in signal.send_sync(two):
                problems.append("sender not reached")
            if not signal.disconnect(receiver, sender=one):
                problems.append("sender lost")
        elif kind == "mortal":
            signal.connect(lambda **kwargs: "mortal", sender=type("Mortal", (), {}))
        elif kind == "block":
            with signal.connected_to(lambda **kwargs: "block"):
                if "block" not in [response for _, response in signal.send_sync()]:
                    problems.append("block not reached")
        else:
            gc.collect()


def test_what_stays_connected_is_always_called() -> None:
    """Whatever others connect, disconnect and let die, a send reaches who stays, in order."""
    signal = Signal("busy")
    first = signal.connect(lambda **kwargs: "first", priority=1)
    last = signal.connect(lambda **kwargs: "last", priority=-1)
    problems: list[Any] = []

    def send() -> None:
        for _ in range(times(150)):
            responses = signal.send_sync(Sender)
            if responses[0] != (first, "first") or responses[-1] != (last, "last"):
                problems.append(responses)

    at_once([*(lambda seed=seed: _churn(signal, seed, problems) for seed in range(4)), send, send])
    gc.collect()
    assert problems == []
    assert [each.receiver for each in signal.connections] == [first, last]
    signal.disconnect(first)  # sweeps
    index = signal._table.index
    assert len(index.all) == 1
    assert [len(each) for each in index._by_address.values()] == [1]
    assert [len(each) for each in index._by_sender.values()] == [1]


@pytest.mark.parametrize("uid", [None, "uid"])
def test_a_receiver_is_connected_once(uid: str | None) -> None:
    """However many threads connect it at once, a receiver is called once per send."""
    for _ in range(times(20)):
        signal = Signal("once")

        def receiver(**kwargs: Any) -> str:
            return "once"

        connect = [lambda signal=signal: signal.connect(receiver, sender=Sender, dispatch_uid=uid)]
        at_once(connect * 6)
        assert signal.send_sync(Sender) == [(receiver, "once")]
        gone = at_once([lambda: signal.disconnect(receiver, sender=Sender, dispatch_uid=uid)] * 6)
        assert sorted(gone) == [False] * 5 + [True]
        assert not signal.is_connected


def test_no_receiver_is_lost_among_many_that_connect() -> None:
    """What many threads connect at once is all there, each thread's in its own order."""
    for _ in range(times(10)):
        signal = Signal("all")
        made: list[list[Any]] = [[] for _ in range(6)]

        def connect(mine: list[Any], signal: Signal = signal) -> None:
            for _ in range(20):
                mine.append(signal.connect(lambda **kwargs: None))
                signal.send_sync(Sender)

        at_once([lambda mine=mine: connect(mine) for mine in made])
        called = [receiver for receiver, _ in signal.send_sync(Sender)]
        assert len(called) == 120
        for mine in made:
            assert [each for each in called if each in mine] == mine


def test_a_finaliser_may_disconnect_and_connect() -> None:
    """Who disconnects when it dies does so even if it dies in the midst of a change."""
    signal = Signal("finalised")

    class Mortal:
        def __call__(self, **kwargs: Any) -> None: ...

        def __del__(self) -> None:
            disconnected.append(
                signal.disconnect(self),
            )
            disconnected.append(signal.disconnect(other))
            signal.connect(late)
            disconnected.append(signal.disconnect(other))

    def other(**kwargs: Any) -> str:
        return "other"

    def late(**kwargs: Any) -> str:
        return "late"

    disconnected: list[bool] = []
    sender = Sender()
    signal.connect(other)
    signal.connect(Mortal(), sender=sender)
    del sender
    gc.collect()
    guarded = threading.Thread(target=lambda: signal.connect(print_nothing), daemon=True)

    def print_nothing(**kwargs: Any) -> str:
        return "new"

    guarded.start()  # sweeps the connection of the dead sender, whose receiver then dies
    guarded.join(10)
    assert not guarded.is_alive(), "a finaliser waits for the change that it interrupts"
    assert sorted(response for _, response in signal.send_sync()) == ["late", "new"]
    assert disconnected[:2] == [False, True]


def test_finalisers_run_by_the_collector_do_no_harm() -> None:
    """Cyclic garbage that disconnects may be collected at any moment, in any thread."""
    signal = Signal("collected")
    stays = signal.connect(lambda **kwargs: "stays")

    class Cyclic:
        def __init__(self) -> None:
            self.own = self
            self.receiver = signal.connect(lambda **kwargs: "cyclic", dispatch_uid=id(self))

        def __del__(self) -> None:
            signal.disconnect(dispatch_uid=id(self))

    def work() -> None:
        for _ in range(times(100)):
            Cyclic()
            signal.send_sync(Sender)

    before = gc.get_threshold()
    gc.set_threshold(5, 2, 2)
    try:
        at_once([work] * 4)
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert [each.receiver for each in signal.connections] == [stays]


def test_the_adapter_follows_what_finalisers_change() -> None:
    """Also what is connected in the midst of another change."""
    signal = Signal("watched")
    seen: list[int] = []

    class Mortal:
        def __call__(self, **kwargs: Any) -> None: ...

        def __del__(self) -> None:
            signal.connect(lambda **kwargs: None)

    sender = Sender()
    with answering(connections_changed=lambda payload: seen.append(len(signal.connections))):
        signal.connect(Mortal(), sender=sender)
        del sender
        signal.disconnect(print)  # nothing of its own
    assert seen[-1] == len(signal.connections) == 1


def test_receivers_may_disconnect_during_a_send() -> None:
    """A send calls those that were connected when it began."""
    signal = Signal("self")

    def once(**kwargs: Any) -> str:
        signal.disconnect(once)
        signal.disconnect(other)
        signal.connect(late)
        return "once"

    def other(**kwargs: Any) -> str:
        return "other"

    def late(**kwargs: Any) -> str:
        return "late"

    signal.connect(once)
    signal.connect(other)
    assert [response for _, response in signal.send_sync()] == ["once", "other"]
    assert [response for _, response in signal.send_sync()] == ["late"]


def test_silence_stays_in_its_thread() -> None:
    """One context entered in many threads at once silences each only where it is entered."""
    signal = Signal("silent")
    signal.connect(lambda **kwargs: "received")
    quiet = SignalContext.disable_all()
    problems: list[Any] = []

    def expect(is_sent: bool) -> None:
        if bool(signal.send_sync(Sender)) is not is_sent:
            problems.append(is_sent)

    def work() -> None:
        for _ in range(times(50)):
            expect(True)
            with quiet:
                expect(False)
                with quiet:
                    expect(False)
                expect(False)
            expect(True)

    at_once([work] * 6)
    assert problems == []
    expect(True)


async def test_silence_goes_where_its_context_goes() -> None:
    """Threads that run in a copy of the context are silenced, pooled threads of others are not."""
    signal = Signal("copied")
    signal.connect(lambda **kwargs: "received")

    def is_sent() -> bool:
        return bool(signal.send_sync(Sender))

    def leave_and_enter(context: SignalContext) -> None:
        context.__exit__(None, None, None)  # of the copy only
        assert is_sent()
        with context:
            assert not is_sent()

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(2) as pool:
        for _ in range(times(20)):
            with SignalContext.disable_for(Sender) as quiet:
                assert not await asyncio.to_thread(is_sent)
                copied = contextvars.copy_context()
                assert not await loop.run_in_executor(pool, copied.run, is_sent)
                await asyncio.to_thread(leave_and_enter, quiet)
                assert await loop.run_in_executor(pool, is_sent)
                assert not is_sent()
            work: list[Callable[[], bool]] = [is_sent] * 4
            assert all(await asyncio.gather(*(asyncio.to_thread(each) for each in work)))
            assert not copied.run(is_sent)
            assert await loop.run_in_executor(pool, is_sent)

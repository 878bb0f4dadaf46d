"""Threads that change two signals at once, each from within the change of the other."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest
from kit.crowd import at_once
from kit.effort import times
from kit.support import answering

from aksara_signals import Signal

pytestmark = pytest.mark.slow


class Watched:
    """A ``dispatch_uid`` that does something when the signal looks for it: inside of a change."""

    def __init__(self, work: Any) -> None:
        self.work = work
        self.count = 0

    def __hash__(self) -> int:
        self.count += 1
        if self.count == 2:  # the first time, its options are checked, outside of the change
            self.work()
        return id(self)


def receive(**kwargs: Any) -> str:
    return "received"


def start_together(jobs: list[Any]) -> list[threading.Thread]:
    threads = [threading.Thread(target=job, daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return [thread for thread in threads if thread.is_alive()]


def test_two_changes_that_reach_for_each_other_end() -> None:
    """What dies in the change of one signal may disconnect from the other, in two threads at once."""
    one, two = Signal("one"), Signal("two")
    inside = {one: threading.Event(), two: threading.Event()}
    one.connect(receive, dispatch_uid="dying")
    two.connect(receive, dispatch_uid="dying")

    class Dying:
        def __init__(self, other: Signal) -> None:
            self.other = other

        def __del__(self) -> None:
            self.other.disconnect(dispatch_uid="dying")

    def change(signal: Signal, other: Signal) -> None:
        def die() -> None:
            inside[signal].set()
            inside[other].wait(0.2)  # as long as it takes the other to be there, if it ever is
            dying.clear()

        dying = [Dying(other)]
        signal.disconnect(dispatch_uid=Watched(die))

    stuck = start_together([lambda: change(one, two), lambda: change(two, one)])
    assert stuck == [], "each waits for the signal that the other one is changing"
    assert not one.is_connected
    assert not two.is_connected


def test_the_adapter_is_asked_when_all_changes_have_ended() -> None:
    """It may take locks of its own: it is called while no signal is being changed."""
    one, two = Signal("one"), Signal("two")
    seen: list[tuple[str, int]] = []

    def watch(signal: Signal) -> None:
        def other_thread() -> None:
            signal.connect(receive, dispatch_uid="from a thread")

        name, count = signal.name or "", len(signal.connections)
        if not seen or count == 1:
            assert start_together([other_thread]) == []
        seen.append((name, count))

    by_payload = {signal.payload: signal for signal in (one, two)}
    with answering(connections_changed=lambda payload: watch(by_payload[payload])):
        one.connect(receive, dispatch_uid=Watched(lambda: two.connect(receive)))
    assert {name for name, _ in seen} == {"one", "two"}
    assert [len(signal.connections) for signal in (one, two)] == [2, 2]


def test_a_change_that_fails_does_what_was_asked_for_meanwhile() -> None:
    """What waited for its end isn't lost with it, and the next change finds nothing locked."""
    one, two = Signal("one"), Signal("two")

    def fail() -> None:
        two.connect(receive)
        one.connect(receive, dispatch_uid="late")
        raise LookupError

    for _ in range(2):
        try:
            one.connect(receive, dispatch_uid=Watched(fail))
        except LookupError:
            pass
        else:
            raise AssertionError("the signal hasn't looked for the dispatch_uid")
    assert [len(signal.connections) for signal in (one, two)] == [1, 1]
    assert start_together([lambda: one.disconnect(dispatch_uid="late")]) == []
    assert not one.is_connected


def test_garbage_disconnects_across_signals() -> None:
    """Cyclic garbage of any thread, each piece connected to several signals, does no harm."""
    signals = [Signal(f"signal {number}") for number in range(4)]
    for signal in signals:
        signal.connect(receive)

    class Cyclic:
        def __init__(self) -> None:
            self.own = self
            for signal in signals:
                signal.connect(lambda **kwargs: "cyclic", dispatch_uid=id(self))

        def __del__(self) -> None:
            for signal in reversed(signals):
                signal.disconnect(dispatch_uid=id(self))

    def work() -> None:
        for _ in range(times(50)):
            Cyclic()
            signals[0].send_sync()

    before = gc.get_threshold()
    gc.set_threshold(5, 2, 2)
    try:
        at_once([work] * 4)
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert [[each.receiver for each in signal.connections] for signal in signals] == [[receive]] * 4

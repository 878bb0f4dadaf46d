"""The plan of a sender: worked out once, and gone with the sender."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from aksara_signals import Signal
from aksara_signals.dispatch.connections.routing import Plan


def receive(**kwargs: Any) -> None:
    """Does nothing."""


def test_the_plan_of_a_sender_is_reused() -> None:
    """It is the same for each send, until a receiver is connected or disconnected."""
    signal = Signal()
    signal.connect(receive)

    class Sender:
        pass

    for sender in (Sender, Sender(), None):
        plan = signal.plan_for(sender)
        assert plan.connections
        assert signal.plan_for(sender) is plan
    plans = [signal.plan_for(None), signal.plan_for(Sender)]
    signal.connect(lambda **kwargs: None)
    assert signal.plan_for(None) is not plans[0]
    assert signal.plan_for(Sender) is not plans[1]


def test_the_plan_goes_with_its_sender() -> None:
    """Nothing is left of a class or an instance that has sent; another one at its address has a plan
    of its own."""
    signal = Signal()
    signal.connect(receive)
    plans = signal._table.routes.plans

    class Sender:
        pass

    sender = Sender()
    signal.send_sync(sender)
    signal.send_sync(Sender)
    assert len(plans) == 2
    del sender
    assert len(plans) == 1
    del Sender
    gc.collect()
    assert not plans


def test_senders_that_cant_be_followed_have_no_plan_to_keep() -> None:
    """Numbers, strings and tuples are not kept alive for it."""
    signal = Signal()
    signal.connect(receive)
    for sender in (1, "one", (1,)):
        assert signal.plan_for(sender).connections
    assert not signal._table.routes.plans


def test_no_receivers_need_no_plan() -> None:
    """A sender without receivers has one as well, and it is reused."""
    signal = Signal()
    signal.connect(receive, sender=int)

    class Sender:
        pass

    plan = signal.plan_for(Sender)
    assert not plan
    assert plan.all_connections == ()
    assert signal.plan_for(Sender) is plan


async def wait(**kwargs: Any) -> None:
    """Is async."""


@pytest.mark.parametrize(
    ("sequential", "concurrent", "segments"),
    [
        ("", "", []),
        ("s", "", ["s"]),
        ("a", "", ["a"]),
        ("ssaas", "", ["ss", "aa", "s"]),
        ("", "s", ["a+s"]),
        ("", "aa", ["a+aa"]),
        ("a", "s", ["a+s"]),
        ("saa", "sa", ["s", "aa+sa"]),
        ("as", "a", ["a", "s", "a+a"]),
    ],
)
def test_consecutive_receivers_that_are_called_alike(
    sequential: str, concurrent: str, segments: list[str]
) -> None:
    """Concurrent ones belong to the async ones before them: synchronous ones end before."""
    signal = Signal()
    for place, letter in enumerate(sequential + concurrent):
        is_concurrent = place >= len(sequential)
        receiver = wait if letter == "a" else receive
        signal.connect(receiver, concurrent=is_concurrent, dispatch_uid=place)
    plan = Plan(signal.connections)

    def letters(connections: Any) -> str:
        return "".join("a" if each.is_async else "s" for each in connections)

    found = []
    for each in plan.segments:
        behind = f"+{letters(each.concurrent)}" if each.concurrent else ""
        if each.sequential:
            assert set(letters(each.sequential)) == {"a" if each.is_async else "s"}
        front = letters(each.sequential) or "a" * each.is_async
        found.append(f"{front}{behind}")
    assert found == segments
    assert plan.connections == signal.connections

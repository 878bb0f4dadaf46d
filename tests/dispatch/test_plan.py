"""The plan of a sender: worked out once, and gone with the sender."""

from __future__ import annotations

import gc
from typing import Any

from aksara_signals import Signal


def receive(**kwargs: Any) -> None:
    """Does nothing."""


def test_the_plan_of_a_sender_is_reused() -> None:
    """It is the same for each send, until somebody is connected or disconnected."""
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
    """Nothing is left of a class or an instance that has sent, and whoever comes to its address
    has a plan of its own."""
    signal = Signal()
    signal.connect(receive)
    plans = signal._table.snapshot.plans

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
    assert not signal._table.snapshot.plans


def test_nobody_has_a_plan_of_nothing() -> None:
    """A sender that nobody hears has one as well, and it is reused."""
    signal = Signal()
    signal.connect(receive, sender=int)

    class Sender:
        pass

    plan = signal.plan_for(Sender)
    assert not plan
    assert plan.everybody == ()
    assert signal.plan_for(Sender) is plan

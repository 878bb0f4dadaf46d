"""The plan of a sender: worked out once, gone with the sender, and with what it was made of."""

from __future__ import annotations

import enum
import gc
import threading
from typing import Any

import pytest

from aksara_signals import Signal
from aksara_signals.dispatch.connections import lock, plans
from aksara_signals.dispatch.connections.lock import serialized
from aksara_signals.dispatch.connections.plans import MAX_VALUES
from aksara_signals.dispatch.receivers.identity import SenderGroup, SenderKey


class Base:
    """Sends."""


class Middle(Base):
    """Sends as its base does."""


class Leaf(Middle):
    """Sends as both do."""


class Other:
    """Sends."""


def receive(**kwargs: Any) -> None:
    """Does nothing."""


def other(**kwargs: Any) -> None:
    """Does nothing, too."""


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
    plans = signal._table.plans.of_objects

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


def test_strings_and_numbers_share_the_plan_of_what_they_equal() -> None:
    """It is kept for some of them; a subclass, which may compare as it likes, has none, nor a tuple."""

    class Text(str):
        __slots__ = ()

    signal = Signal()
    signal.connect(receive)
    plan = signal.plan_for("one two".replace(" ", "-"))
    assert signal.plan_for("one-two") is plan
    assert signal.plan_for(1) is signal.plan_for(1.0)
    for sender in (Text("one"), (1,), b"one"):
        assert signal.plan_for(sender) is not signal.plan_for(sender)
    for number in range(MAX_VALUES * 2):
        signal.plan_for(number)
    assert len(signal._table.plans.of_values) <= MAX_VALUES
    assert not signal._table.plans.of_objects


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


GROUP = SenderGroup(Leaf, "table")
SENDERS: dict[str, Any] = {
    "Base": Base,
    "Middle": Middle,
    "Leaf": Leaf,
    "Other": Other,
    "a group": GROUP,
    "None": None,
    "text": "text",
    "1": 1,
}


@pytest.mark.parametrize(
    ("sender", "exact", "concerned"),
    [
        (Base, False, "Base, Middle, Leaf, a group"),
        (Middle, False, "Middle, Leaf, a group"),
        (Middle, True, "Middle, a group"),
        (Leaf, False, "Leaf, a group"),
        (Other, False, "Other, a group"),
        (Other(), False, "a group"),
        ("text", False, ", ".join(SENDERS)),
        (None, False, ", ".join(SENDERS)),
        (1, False, "a group, text, 1"),
        (1.0, False, "a group, text, 1"),
    ],
)
def test_a_change_concerns_the_plans_of_its_sender(
    sender: Any, exact: bool, concerned: str
) -> None:
    """Those of other senders are kept, by connect and by disconnect."""
    signal = Signal()
    signal.connect(receive)

    def changed(before: dict[str, Any]) -> set[str]:
        return {name for name, each in SENDERS.items() if signal.plan_for(each) is not before[name]}

    for change in (signal.connect, signal.disconnect):
        before = {name: signal.plan_for(each) for name, each in SENDERS.items()}
        options = {"exact": exact} if change == signal.connect else {}
        change(other, sender=sender, **options)
        assert changed(before) == set(concerned.split(", "))


def test_of_many_subclasses_all_plans_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than looking for each of them."""
    monkeypatch.setattr(plans, "MAX_SUBCLASSES", 1)
    signal = Signal()
    signal.connect(receive, sender=Other)
    plan = signal.plan_for(Leaf)
    signal.connect(receive, sender=Base)
    assert signal.plan_for(Leaf) is not plan


def test_members_of_enumerations_match_what_they_equal() -> None:
    """Their hashes differ from those of equal strings and numbers."""

    class Number(enum.IntEnum):
        ONE = 1

    class Text(enum.StrEnum):
        ONE = "one"

    by_member, by_value = Signal(), Signal()
    for member, value in ((Number.ONE, 1), (Text.ONE, "one")):
        by_member.connect(receive, sender=member, dispatch_uid=value)
        by_value.connect(receive, sender=value, dispatch_uid=value)
        for sender in (member, value):
            assert by_member.receivers_for(sender) == by_value.receivers_for(sender) == [receive]


def test_a_plan_that_a_change_interrupts_is_not_kept() -> None:
    """What a finaliser, or code of the sender, changes meanwhile counts at once."""
    signal = Signal()

    class Odd(int):
        __slots__ = ()
        __hash__ = int.__hash__

        def __eq__(self, value: object) -> bool:
            signal.connect(receive)
            return True

    signal.connect(other, sender=Odd(3))
    assert signal.receivers_for(7) == [other, receive]
    assert list(signal._table.plans.of_values) == [7]


def test_a_plan_that_changes_each_time_is_used_and_not_kept() -> None:
    """There is always a plan for the send, if not for the next one."""
    signal = Signal()

    class Restless(int):
        __slots__ = ()
        __hash__ = int.__hash__

        def __eq__(self, value: object) -> bool:
            signal.connect(lambda **_: None)
            return True

    signal.connect(other, sender=Restless(3))
    assert other in signal.receivers_for(7)
    assert not signal._table.plans.of_values


def test_a_plan_is_worked_out_without_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may need it, while it holds a lock that working out the plan waits for."""
    signal = Signal()
    theirs = threading.Lock()
    is_held, is_waiting = threading.Event(), threading.Event()

    class Slow(int):
        __slots__ = ()
        __hash__ = int.__hash__

        def __eq__(self, value: object) -> bool:
            is_waiting.set()
            with theirs:
                return True

    signal.connect(other, sender=Slow(3))

    def connect() -> None:
        with theirs:
            is_held.set()
            assert is_waiting.wait(10)
            signal.connect(receive)

    thread = threading.Thread(target=connect)
    thread.start()
    assert is_held.wait(10)
    assert signal.receivers_for(7) == [other, receive]
    thread.join(10)
    assert not thread.is_alive()


def test_a_plan_that_is_made_during_a_change_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether this thread makes the change, or another one that takes long."""
    monkeypatch.setattr(lock, "MAX_WAIT_SECONDS", 0.01)
    signal = Signal()
    signal.connect(receive)

    def look() -> None:
        assert signal.send_sync(Base) == [(receive, None)]
        assert signal.plan_for(Base) is not signal.plan_for(Base)

    def change() -> bool:
        look()
        thread = threading.Thread(target=lambda: (look(), done.append(True)))
        thread.start()
        thread.join(10)
        return False

    done: list[bool] = []
    serialized(signal._table, change)
    assert done == [True]
    assert signal.plan_for(Base) is signal.plan_for(Base)


def test_the_first_send_looks_at_few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many senders have receivers: by class, by name, by string and by number."""
    looked_at: list[object] = []
    signal = Signal()
    for number in range(1_000):
        cls = type(f"Class{number}", (Base,), {})
        for sender in (cls, f"name{number}", number):
            signal.connect(lambda **_: None, sender=sender)
    matches = SenderKey.matches

    def counted(self: SenderKey, sender: Any, exact: bool) -> bool:
        looked_at.append(self)
        return matches(self, sender, exact)

    monkeypatch.setattr(SenderKey, "matches", counted)
    for sender in (cls, "name5", 7):
        looked_at.clear()
        assert len(signal.receivers_for(sender)) == 1
        assert len(looked_at) == 1

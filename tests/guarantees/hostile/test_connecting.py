"""Receivers that connect and disconnect while they are called."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from kit.misfits import WAYS, Account, Base, send
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from aksara_signals import Signal, post_save, pre_save


@pytest.mark.parametrize("concurrent", [False, True])
@pytest.mark.parametrize("way", WAYS)
async def test_a_send_calls_the_receivers_it_found(way: str, concurrent: bool) -> None:
    """A receiver that connects or disconnects receivers, itself included, changes the next send."""
    signal = Signal("changing")
    received: list[str] = []

    def newcomer(**kwargs: Any) -> None:
        received.append("newcomer")

    def second(**kwargs: Any) -> None:
        received.append("second")

    def first(**kwargs: Any) -> None:
        received.append("first")
        for connection in signal.connections:
            signal.disconnect(connection.receiver)
        for number in range(100):
            signal.connect(newcomer)
            signal.connect(newcomer, dispatch_uid=number)
            signal.disconnect(dispatch_uid=number)

    signal.connect(first, concurrent=concurrent)
    signal.connect(second, concurrent=concurrent)
    await send(signal, way)
    assert received == ["first", "second"]
    await send(signal, way)
    assert received == ["first", "second", "newcomer"]
    assert len(signal.connections) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_priority_changed_meanwhile_counts_next_time(way: str) -> None:
    """Connecting again under another priority takes effect with the next send."""
    signal = Signal("ranked")
    received: list[str] = []

    def low(**kwargs: Any) -> None:
        received.append("low")

    def high(**kwargs: Any) -> None:
        received.append("high")
        signal.disconnect(low)
        signal.connect(low, priority=9)

    signal.connect(high, priority=1)
    signal.connect(low)
    await send(signal, way)
    await send(signal, way)
    assert received == ["high", "low", "low", "high"]


@pytest.mark.parametrize("concurrent", [False, True])
@pytest.mark.parametrize("way", WAYS)
async def test_a_weak_receiver_that_dies_meanwhile_is_passed_over(
    way: str, concurrent: bool
) -> None:
    """One whose object is gone when its turn comes isn't called; one that runs lives on."""
    signal = Signal("dying")
    received: list[str] = []
    living: list[Any] = []

    class Weak:
        def __init__(self, name: str) -> None:
            self.name = name

        def receive(self, **kwargs: Any) -> None:
            living.clear()
            gc.collect()
            received.append(self.name)

    for name in ("one", "two", "three"):
        living.append(Weak(name))
        signal.connect(
            living[-1].receive, weak=True, concurrent=False if name == "one" else concurrent
        )
    responses = await send(signal, way)
    assert received == ["one"]
    assert len(responses) == 1
    del responses
    gc.collect()
    assert signal.connections == ()


@pytest.mark.parametrize("way", WAYS)
async def test_one_that_connects_itself_anew_is_no_endless_send(way: str) -> None:
    """A receiver that replaces itself each time is called once a send."""
    signal = Signal("again")
    count: list[int] = []

    def make() -> Any:
        def receive(**kwargs: Any) -> None:
            count.append(1)
            signal.disconnect(receive)
            signal.connect(make())

        return receive

    signal.connect(make())
    for _ in range(5):
        await send(signal, way)
    assert len(count) == 5
    assert len(signal.connections) == 1


def test_a_flush_asks_twice(sync_engine: Engine) -> None:
    """What a pre receiver connects is called for the post signals of that flush and its commit."""
    Base.metadata.create_all(sync_engine)
    received: list[str] = []

    @pre_save(Account)
    def before(**kwargs: Any) -> None:
        pre_save.disconnect(before, sender=Account)
        pre_save.connect(lambda **kwargs: received.append("pre"), sender=Account)
        post_save.connect(lambda **kwargs: received.append("post"), sender=Account)
        post_save.connect(
            lambda **kwargs: received.append("committed"), sender=Account, phase="after_commit"
        )

    with Session(sync_engine) as session:
        session.add(Account(name="a"))
        session.commit()
    assert received == ["post", "committed"]


@pytest.mark.parametrize("phase", ["after_commit", "after_rollback"])
def test_who_waits_is_called_although_disconnected(phase: str, sync_engine: Engine) -> None:
    """What was sent before is still delivered; a receiver that is connected then comes too late."""
    Base.metadata.create_all(sync_engine)
    received: list[str] = []

    def second(**kwargs: Any) -> None:
        received.append("second")

    def first(**kwargs: Any) -> None:
        received.append("first")
        post_save.disconnect(first, sender=Account)
        post_save.disconnect(second, sender=Account)
        post_save.connect(lambda **kwargs: received.append("third"), sender=Account, phase=phase)

    for receiver in (first, second):
        post_save.connect(receiver, sender=Account, phase=phase)
    with Session(sync_engine) as session:
        session.add(Account(name="a"))
        session.flush()
        if phase == "after_commit":
            session.commit()
    assert received == ["first", "second"]

"""Connections that are restored."""

from __future__ import annotations

from typing import Any

import pytest
from kit.support import answering

from aksara_signals import Signal
from aksara_signals.testing import restored_signals


def echo(name: str) -> Any:
    def receiver(**kwargs: Any) -> str:
        return name

    return receiver


def test_connections_are_as_they_were() -> None:
    """What was connected is gone, what was disconnected is back, in its place."""
    signal = Signal("happened")
    first, second, third = echo("first"), echo("second"), echo("third")
    signal.connect(first)
    signal.connect(second, sender=int)
    before = signal.connections
    with pytest.raises(RuntimeError), restored_signals():
        signal.disconnect(first)
        signal.connect(third, priority=5)
        assert signal.receivers_for(int) == [third, second]
        raise RuntimeError
    assert signal.connections == before
    assert [response for _, response in signal.send_sync(int)] == ["first", "second"]
    signal.connect(first)
    assert signal.connections == before
    assert signal.disconnect(second, sender=int)


def test_the_adapter_follows_it_and_the_dead_stay_dead() -> None:
    """A weak receiver that died inside isn't brought back; new signals are left alone."""
    signal = Signal("happened")
    held = [echo("weak")]
    signal.connect(held[0], weak=True)
    seen: list[bool] = []

    @restored_signals()
    def inside() -> Signal:
        held.clear()
        new = Signal("new")
        new.connect(echo("new"))
        return new

    with answering(connections_changed=lambda payload: seen.append(signal.is_connected)):
        new = inside()
    assert signal.connections == ()
    assert seen[-1] is False
    assert len(new.connections) == 1

"""Changes of connections that are asked for in the midst of another one."""

from __future__ import annotations

import pytest

from aksara_signals.dispatch.connections.lock import HasConnections, Mutation, serialized


class Thing:
    """Has connections, as far as turns are concerned."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def make(self, change: Mutation, changed: list[HasConnections]) -> None:
        if change():
            changed.append(self)

    def changed(self) -> None:
        self.log.append(f"{self.name} has changed")


def test_what_is_asked_for_meanwhile_is_made_at_the_end() -> None:
    """In order, before any observer is called; the caller returns at once."""
    log: list[str] = []
    first, second = Thing("first", log), Thing("second", log)

    def note(text: str, is_change: bool = True) -> Mutation:
        return lambda: log.append(text) is None and is_change

    def change() -> bool:
        assert serialized(second, note("late")) is False
        assert serialized(second, note("nothing", False)) is False
        log.append("change")
        return True

    assert serialized(first, change) is True
    assert log == ["change", "late", "nothing", "first has changed", "second has changed"]


def test_a_change_that_fails_takes_nothing_of_others_along() -> None:
    """What was asked for meanwhile is made, and the lock is free again."""
    log: list[str] = []
    first, second = Thing("first", log), Thing("second", log)

    def fail() -> bool:
        serialized(second, lambda: log.append("late") is None)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        serialized(first, fail)
    assert log == ["late", "second has changed"]
    assert serialized(first, lambda: False) is True
    assert log == ["late", "second has changed"]

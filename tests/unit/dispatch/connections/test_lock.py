"""Changes of connections that are asked for in the midst of another one."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from aksara_signals.dispatch.connections import lock
from aksara_signals.dispatch.connections.lock import (
    HasConnections,
    Mutation,
    serialized,
    undisturbed,
)


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork() on Windows")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_process_waits_for_no_thread_of_its_parent() -> None:
    """The lock is free in it, whoever held it when the process was forked."""
    is_held, is_over = threading.Event(), threading.Event()

    def change() -> bool:
        is_held.set()
        return not is_over.wait(10)

    thread = threading.Thread(target=lambda: serialized(Thing("parent", []), change))
    thread.start()
    assert is_held.wait(10)
    child = os.fork()
    if child == 0:  # pragma: no cover - no test framework here any more
        signal.alarm(5)
        log: list[str] = []
        serialized(Thing("child", log), lambda: True)
        with undisturbed() as may_keep:
            os._exit(0 if may_keep and log else 1)
    is_over.set()
    thread.join(10)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_whoever_reads_waits_for_a_change_of_another_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But not for long, and not for one of its own thread."""
    monkeypatch.setattr(lock, "MAX_WAIT_SECONDS", 0.01)
    found: list[bool] = []

    def read() -> None:
        with undisturbed() as may_keep:
            found.append(may_keep)

    def change() -> bool:
        read()
        thread = threading.Thread(target=read)
        thread.start()
        thread.join(10)
        return False

    serialized(Thing("one", []), change)
    read()
    assert found == [False, False, True]

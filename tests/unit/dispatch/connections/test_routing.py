"""Plans: in which way the receivers of a send are called."""

from __future__ import annotations

from typing import Any

import pytest

from aksara_signals import Signal
from aksara_signals.dispatch.connections.routing import Plan


def receive(**kwargs: Any) -> None:
    """Does nothing."""


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

"""Durations, times and states in the words of the pages."""

from __future__ import annotations

from aksara_signals.contrib.inspector.views import EntryView, GroupView, ReceiverView
from aksara_signals.dispatch.receivers.naming import printable
from aksara_signals.introspection.names import relative

__all__ = ["STATES", "age", "clock", "duration", "outcome", "path", "rows", "slowest"]

STATES = {
    "open": "open",
    "committed": "committed",
    "rolled back": "rolled back",
    "none": "no transaction",
}
"""The states of a group."""


def duration(milliseconds: float | None) -> str:
    """A duration, as short as it is clear."""
    if milliseconds is None:
        return ""
    if milliseconds >= 1_000:
        return f"{milliseconds / 1_000:,.2f} s"
    return f"{milliseconds:.1f} ms" if milliseconds >= 1 else f"{milliseconds:.2f} ms"


def age(seconds: float | None) -> str:
    """An age, in its two largest units."""
    if seconds is None:
        return ""
    whole = max(0, int(seconds))
    for size, unit, small_size, small in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // small_size} {small}"
    return f"{whole} s"


def clock(at: str) -> str:
    """The time of day of an ISO 8601 time."""
    return at.partition("T")[2].removesuffix("Z").removesuffix("+00:00") or at


def path(file: str) -> str:
    """The path of a file, relative if it is below the current folder."""
    return printable(relative(file))


def rows(number: int) -> str:
    """How many rows an entry stands for; nothing, if it is one."""
    if number == 1:
        return ""
    return f"{number:,} rows" if number else "rows not counted"


def slowest(receiver: ReceiverView) -> str:
    """The slowest of several calls."""
    if receiver.slowest is None or receiver.slowest == receiver.milliseconds:
        return ""
    return f"slowest {duration(receiver.slowest)}"


def outcome(entry: EntryView, group: GroupView) -> str:
    """What became of an entry that was queued."""
    if entry.kind != "queued":
        return ""
    states = {each.state for each in entry.receivers}
    dropped = f"dropped ({STATES[group.state]})" if group.state != "open" else "dropped"
    if entry.is_undone and "dropped" in states:
        dropped = "dropped (savepoint undone)"
    words = {"delivered": "delivered", "dropped": dropped, "failed": "failed"}
    found = [word for state, word in words.items() if state in states]
    return f"queued → {', '.join(found)}" if found else "queued"

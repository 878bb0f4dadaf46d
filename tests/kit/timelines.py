"""A timeline as the inspector's pages read it, written by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from aksara_signals.contrib.inspector.views import EntryView, GroupView, ReceiverView

numbers = count(1)


def receiver_view(name: str = "app.receivers.notify", **values: Any) -> ReceiverView:
    defaults: dict[str, Any] = {
        "file": "/srv/app/receivers.py",
        "line": 12,
        "state": "ok",
        "milliseconds": 1.5,
    }
    return ReceiverView(name=name, **{**defaults, **values})


def entry_view(**values: Any) -> EntryView:
    defaults: dict[str, Any] = {
        "number": next(numbers),
        "kind": "send",
        "at": "2030-01-02T03:04:05.678Z",
        "depth": 0,
        "parent": None,
        "flush": 1,
        "savepoint": None,
        "is_undone": False,
        "signal": "post_save",
        "sender": "Post",
        "key": "7",
        "rows": 1,
        "phase": "immediate",
        "values": {},
        "receivers": (receiver_view(),),
    }
    return EntryView(**{**defaults, **values})


def group_view(number: int = 1, *entries: EntryView, **values: Any) -> GroupView:
    defaults: dict[str, Any] = {
        "state": "committed",
        "at": "2030-01-02T03:04:05.678Z",
        "milliseconds": 12.0,
        "session": "AsyncSession",
        "caused_by": None,
        "omitted": 0,
    }
    return GroupView(number=number, entries=entries or (entry_view(),), **{**defaults, **values})


@dataclass(frozen=True)
class Changes:
    position: int
    groups: list[GroupView]
    left_off: int


def cut(group: GroupView, most: int | None) -> GroupView:
    """The group with its first entries."""
    if most is None or len(group.entries) <= most:
        return group
    return replace(group, entries=group.entries[:most], further=len(group.entries) - most)


class FakeTimeline:
    """Groups that a test has put in."""

    def __init__(self) -> None:
        self._groups: dict[int, GroupView] = {}
        self._changes: list[int] = []

    def entries(self) -> list[Any]:
        """None: no row of an outbox is looked up."""
        return []

    def put(self, *groups: GroupView) -> None:
        for group in groups:
            self._groups[group.number] = group
            self._changes.append(group.number)

    def forget(self) -> None:
        """All of it, as a new process does."""
        self._groups.clear()
        self._changes.clear()

    def groups(
        self, limit: int = 100, before: int | None = None, max_entries: int | None = None
    ) -> list[GroupView]:
        found = sorted(self._groups.items(), reverse=True)
        shown = [group for number, group in found if before is None or number < before][:limit]
        return [cut(group, max_entries) for group in shown]

    def group(self, number: int) -> GroupView | None:
        return self._groups.get(number)

    def position(self) -> int:
        return len(self._changes)

    def changed_since(
        self, position: int, limit: int = 50, max_entries: int | None = 50
    ) -> Changes:
        last: dict[int, None] = {}
        for number in self._changes[position:]:
            last.pop(number, None)
            last[number] = None
        shown = list(last)[-limit:]
        return Changes(
            len(self._changes),
            [cut(self._groups[each], max_entries) for each in shown],
            len(last) - len(shown),
        )


class FakeRecorder:
    """Records nothing."""

    def __init__(self, timeline: FakeTimeline) -> None:
        self.timeline = timeline
        self.is_recording = False

    def start(self) -> None:
        self.is_recording = True

    def stop(self) -> None:
        self.is_recording = False

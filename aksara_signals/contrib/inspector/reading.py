"""What the pages and the streams read of a timeline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import anyio.lowlevel

from aksara_signals.contrib.inspector.filters import Filters
from aksara_signals.contrib.inspector.views import GroupView

__all__ = [
    "SHORT",
    "Changed",
    "Refresh",
    "Timeline",
    "entries_to_read",
    "matching",
    "nothing_to_refresh",
]

SHORT = 50
"""Entries of a group that the timeline shows; its own page shows them all."""

SEARCHED = 1_000
"""Entries of a group that a filter looks at, on the timeline and in the stream."""

GROUPS = 100
"""Groups that are read at once."""


Refresh = Callable[[], Awaitable[object]]
"""Looks up what becomes known elsewhere, such as in the database of the outbox."""


async def nothing_to_refresh() -> None:
    """There is nothing of that kind."""


class Changed(Protocol):
    """What has changed since a position."""

    @property
    def position(self) -> int:
        """Where the next question starts."""
        ...

    @property
    def groups(self) -> list[GroupView]:
        """The newest changes, the oldest of them first."""
        ...

    @property
    def left_off(self) -> int:
        """How many more groups have changed."""
        ...


class Timeline(Protocol):
    """What was recorded."""

    def groups(
        self, limit: int = 100, before: int | None = None, max_entries: int | None = None
    ) -> list[GroupView]:
        """Groups, the newest first; those of a number below ``before``."""
        ...

    def group(self, number: int) -> GroupView | None:
        """One group; None if it is not known any more."""
        ...

    def position(self) -> int:
        """Where a stream that begins now would start."""
        ...

    def changed_since(
        self, position: int, limit: int = 50, max_entries: int | None = 50
    ) -> Changed:
        """The groups that have changed since a position, each once."""
        ...


def entries_to_read(filters: Filters) -> int | None:
    """How many entries of each group to read, if it is cut to ``SHORT`` ones that match."""
    return SHORT if filters.is_empty else SEARCHED


async def matching(
    timeline: Timeline,
    filters: Filters,
    before: int | None = None,
    max_entries: int | None = None,
) -> AsyncIterator[GroupView]:
    """The groups that match, the newest first; other tasks run between portions of them."""
    while groups := timeline.groups(GROUPS, before, max_entries):
        for group in groups:
            if group.number <= filters.after:
                return
            found = filters.apply(group)
            if found is not None:
                yield found
        before = groups[-1].number
        await anyio.lowlevel.checkpoint()

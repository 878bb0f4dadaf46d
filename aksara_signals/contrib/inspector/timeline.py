"""The ring buffer: what was recorded, by transaction, and what has changed since somebody looked.

Receivers record into it from any thread, so they pay for no more than an append; what a page needs
to know is worked out when it is asked for.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from itertools import count
from threading import RLock
from typing import NamedTuple

from aksara_signals.contrib.inspector.entries import Entry, Group
from aksara_signals.contrib.inspector.views import GroupView

MAX_ENTRIES = 10_000
"""How many entries are remembered."""

MAX_BYTES = 32 * 2**20
"""How much memory they take at most, as estimated."""


class Changed(NamedTuple):
    """What has changed in a timeline."""

    position: int
    """For the next question."""
    groups: list[GroupView]
    """The latest ones, in the order in which they have changed."""
    left_off: int
    """How many more have changed."""


class Timeline:
    """What was recorded.

    Args:
        catch_up: Called before anything is read, to record what is only looked up then.
        max_entries: How many entries are remembered; older ones are forgotten.
        max_bytes: How much memory they take, as estimated.
    """

    def __init__(
        self,
        catch_up: Callable[[], object] = lambda: None,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._catch_up = catch_up
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        # Reentrant: what the garbage collector finalizes meanwhile may send a signal as well.
        self._lock = RLock()
        self._order: deque[Entry] = deque()
        """All entries, oldest first."""
        self._groups: OrderedDict[int, Group] = OrderedDict()
        """By number, in the order of their latest change that a reader doesn't know."""
        self._bytes = 0
        self._numbers = count(1)
        self.last: Entry | None = None
        """The entry that was added last."""
        self.period: int = 1
        """Raised with each reading. A group that has noted it is known to have changed."""

    # -- writing -------------------------------------------------------------------------------

    def add(self, entry: Entry) -> None:
        """Add an entry to its group, and forget the oldest ones if there are too many."""
        group = entry.group
        with self._lock:
            entry.number = next(self._numbers)
            if not group.number:
                group.number = entry.number
            group.entries.append(entry)
            self._order.append(entry)
            self.last = entry
            self._bytes += entry.size
            if group.period != self.period:
                self._note_change(group)
            self._forget_surplus()

    def grow(self, entry: Entry, size: int) -> None:
        """Note that an entry takes so many bytes more than when it was added."""
        with self._lock:
            if self._order and entry.number >= self._order[0].number:  # it isn't forgotten yet
                entry.size += size
                self._bytes += size
                self._forget_surplus()

    def note_change(self, group: Group) -> None:
        """Note that something in a group has changed."""
        if group.period != self.period and group.entries:
            with self._lock:
                if group.entries:  # it may be forgotten meanwhile
                    self._note_change(group)

    def _note_change(self, group: Group) -> None:
        group.period = self.period
        self._groups[group.number] = group
        self._groups.move_to_end(group.number)

    def _forget_surplus(self) -> None:
        while len(self._order) > self._max_entries or self._bytes > self._max_bytes:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        oldest = self._order.popleft()
        group = oldest.group
        self._bytes -= oldest.size
        del group.entries[0]
        group.omitted += 1
        if not group.entries:
            self._groups.pop(group.number, None)
            group.period = 0

    # -- reading -------------------------------------------------------------------------------

    def position(self) -> int:
        """Where the timeline stands now, for :meth:`changed_since`."""
        with self._lock:
            self.period += 1
            return self.period - 1

    def groups(
        self, limit: int = 100, before: int | None = None, max_entries: int | None = None
    ) -> list[GroupView]:
        """The latest groups, newest first.

        Args:
            limit: How many at most.
            before: Only groups with a lower number.
            max_entries: How many entries of each are given, from its first one on; None: all.
        """
        self._catch_up()
        with self._lock:
            numbers = sorted(self._groups, reverse=True)
            found = [self._groups[each] for each in numbers if before is None or each < before]
        return self._views(found[:limit], max_entries)

    def group(self, number: int) -> GroupView | None:
        """A group with all its entries; None if it is unknown, or forgotten."""
        self._catch_up()
        with self._lock:
            found = self._groups.get(number)
        return None if found is None else self._views((found,), None)[0]

    def changed_since(
        self, position: int, limit: int = 50, max_entries: int | None = 50
    ) -> Changed:
        """What has changed since :meth:`position`, or since the last call.

        Args:
            position: What the last call has returned.
            limit: How many groups are given at most: those that have changed last.
            max_entries: As for :meth:`groups`.
        """
        self._catch_up()
        found: list[Group] = []
        more = 0
        with self._lock:
            now = self.period
            self.period += 1
            for each in reversed(self._groups.values()):
                if each.period <= position:
                    break
                if len(found) < limit:
                    found.append(each)
                else:
                    more += 1
        return Changed(now, self._views(reversed(found), max_entries), more)

    def entries(self) -> list[Entry]:
        """All entries, oldest first."""
        with self._lock:
            return list(self._order)

    @property
    def size_bytes(self) -> int:
        """How much memory the entries take, as estimated."""
        return self._bytes

    def _views(self, groups: Iterable[Group], max_entries: int | None) -> list[GroupView]:
        views: list[GroupView] = []
        for group in groups:
            with self._lock:
                entries = list(group.entries)
            views.append(group.view(entries, max_entries))
        return views

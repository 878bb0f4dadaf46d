"""What the timeline is narrowed to; kept in the address, so that it can be shared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from aksara_signals.contrib.inspector.views import EntryView, GroupView, ReceiverView

__all__ = ["Filters"]

_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Filters:
    """Conditions that must all hold for one entry."""

    signal: str = ""
    """Its name."""
    sender: str = ""
    """The name of the class, with or without its module."""
    receiver: str = ""
    """A part of the dotted name of a receiver, in upper or lower case."""
    slower: float | None = None
    """Milliseconds that a receiver took at least."""
    errors: bool = False
    """A receiver has failed."""
    after: int = 0
    """Only groups of a higher number."""
    problems: tuple[str, ...] = ()
    """What could not be read."""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Filters:
        """Read them from the query of an address; what is not valid becomes one of ``problems``."""
        problems: list[str] = []
        return cls(
            signal=given.get("signal", "").strip(),
            sender=given.get("sender", "").strip(),
            receiver=given.get("receiver", "").strip(),
            slower=_milliseconds(given.get("slower", "").strip(), problems),
            errors=given.get("errors", "") not in ("", "0"),
            after=_after(given.get("after", "").strip(), problems),
            problems=tuple(problems),
        )

    @property
    def is_empty(self) -> bool:
        """Whether every entry matches; ``after`` is about groups."""
        return not (
            self.signal or self.sender or self.receiver or self.errors or self.slower is not None
        )

    def query(self, **others: object) -> str:
        """The query of an address with these filters, without its question mark."""
        slower = "" if self.slower is None else f"{self.slower!r}"
        values: dict[str, object] = {
            "signal": self.signal,
            "sender": self.sender,
            "receiver": self.receiver,
            "slower": slower,
            "errors": "1" if self.errors else "",
            "after": self.after or "",
            **others,
        }
        return urlencode({name: value for name, value in values.items() if value != ""})

    def apply(self, group: GroupView) -> GroupView | None:
        """The group with the entries that match, and those that caused them; None without any."""
        if group.number <= self.after:
            return None
        if self.is_empty:
            return group
        parents = {each.number: each.parent for each in group.entries}
        shown: set[int] = set()
        for entry in group.entries:
            number: int | None = entry.number if self._matches(entry) else None
            while number is not None and number not in shown:
                shown.add(number)
                number = parents.get(number)
        if not shown:
            return None
        entries = tuple(each for each in group.entries if each.number in shown)
        return replace(group, entries=entries)

    def _matches(self, entry: EntryView) -> bool:
        if self.signal and entry.signal != self.signal:
            return False
        if self.sender and self.sender not in (entry.sender, entry.sender.rpartition(".")[2]):
            return False
        if not (self.receiver or self.errors or self.slower is not None):
            return True
        if any(map(self._matches_receiver, entry.receivers)):
            return True
        is_of_all = not (self.receiver or self.errors)
        return is_of_all and _is_slower(entry.milliseconds, self.slower)

    def _matches_receiver(self, receiver: ReceiverView) -> bool:
        return (
            self.receiver.casefold() in receiver.name.casefold()
            and (not self.errors or receiver.state in ("failed", "dead"))
            and (self.slower is None or _is_slower(_slowest(receiver), self.slower))
        )


def _slowest(receiver: ReceiverView) -> float | None:
    return receiver.milliseconds if receiver.slowest is None else receiver.slowest


def _is_slower(milliseconds: float | None, limit: float | None) -> bool:
    return milliseconds is not None and limit is not None and milliseconds >= limit


def _milliseconds(text: str, problems: list[str]) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value) and value >= 0:
        return value
    problems.append(f"slower: {text[:50]!r} is not a number of milliseconds; it was left out")
    return None


def number_of(text: str) -> int | None:
    """The number in an address or a form; None if it is none, or larger than any that is given."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(_LARGEST))
    return int(text) if is_number and int(text) <= _LARGEST else None


def _after(text: str, problems: list[str]) -> int:
    if not text:
        return 0
    found = number_of(text)
    if found is not None:
        return found
    problems.append(f"after: {text[:50]!r} is not the number of a transaction; it was left out")
    return 0

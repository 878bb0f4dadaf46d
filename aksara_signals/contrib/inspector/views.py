"""What the inspector shows, as plain values: for its pages, its stream and its export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

GroupState = Literal["open", "committed", "rolled back", "none"]
"""How the transaction stands; ``none`` for sends without one."""

EntryKind = Literal["send", "queued", "silenced", "durable"]

ReceiverState = Literal[
    "running",
    "ok",
    "failed",
    "queued",
    "delivered",
    "dropped",
    "silenced",
    "waiting",
    "done",
    "dead",
]
"""``running``, ``ok``, ``failed``: it was called. ``queued``, ``delivered``, ``dropped``: it waits
for the outcome of the transaction, and was delivered with it or not. ``silenced``: a context has
silenced it. ``waiting``, ``done``, ``dead``: the state of its row in the outbox."""


@dataclass(frozen=True, slots=True)
class ReceiverView:
    """One receiver of an entry."""

    name: str
    """Its dotted name."""
    file: str | None
    line: int | None
    state: ReceiverState
    milliseconds: float | None = None
    """How long its calls took; None while the first one runs, or if it wasn't called."""
    slowest: float | None = None
    """How long the slowest of them took, in milliseconds: there is one for each row."""
    error: str | None = None
    """The class of its exception."""
    error_text: str | None = None
    """The text of its exception; None unless texts are shown."""
    notes: tuple[str, ...] = ()
    """The notes of this library on its exception."""
    detail: str = ""
    """More about the state in a few words, such as ``attempt 3``."""


@dataclass(frozen=True, slots=True)
class EntryView:
    """One send, or what was queued, silenced or stored without one."""

    number: int
    kind: EntryKind
    at: str
    """The time, as ISO 8601 in UTC with milliseconds."""
    depth: int
    """How deeply it is nested within the entries of its group: 0 for what no receiver caused."""
    parent: int | None
    """The number of the entry whose receiver caused it."""
    flush: int | None
    """The number of the flush within its transaction; None outside of one."""
    savepoint: int | None
    """The number of the savepoint within its transaction; None outside of one."""
    is_undone: bool
    """Whether the savepoint was rolled back."""
    signal: str
    sender: str
    key: str | None
    """The primary key of the instance, or the first keys of several."""
    rows: int
    """How many successive rows it stands for, for which the same was sent; 0 if that is unknown."""
    phase: str
    """``immediate``, ``after_commit``, ``after_rollback`` or ``durable``."""
    values: Mapping[str, str]
    """The values that the inspector was asked to show, as text."""
    receivers: tuple[ReceiverView, ...]
    context: str | None = None
    """The context that has silenced it."""
    milliseconds: float | None = None
    """How long all receivers took."""

    @property
    def is_failed(self) -> bool:
        """Whether any receiver has failed."""
        return any(each.state in ("failed", "dead") for each in self.receivers)


@dataclass(frozen=True, slots=True)
class GroupView:
    """A transaction with its entries, or a send without one with what it caused."""

    number: int
    """For the permanent link."""
    state: GroupState
    at: str
    """When it began, as ISO 8601 in UTC with milliseconds."""
    milliseconds: float | None
    """How long it took; None while it is open."""
    session: str | None
    """The class of the session."""
    caused_by: tuple[int, str] | None
    """The group and the receiver that caused it, if they are of another group."""
    entries: tuple[EntryView, ...]
    """In the order in which they began."""
    omitted: int
    """How many older entries of it are forgotten."""
    further: int = 0
    """How many later entries it has, which are not given here."""

    def as_json(self) -> dict[str, Any]:
        """Plain values with stable keys."""
        return asdict(self)

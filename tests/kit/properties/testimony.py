"""What receivers are sent, call by call, as the witness keeps it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kit.properties.row_log import WrittenRow

__all__ = [
    "KINDS",
    "ORDER",
    "Frame",
    "Key",
    "SentLinks",
    "SentRelation",
    "SentSignal",
    "assert_alike",
]

ORDER = {
    "created": (["pre_save"], ["post_save"]),
    "updated": (["pre_save", "pre_update"], ["post_update", "post_save"]),
    "deleted": (["pre_delete"], ["post_delete"]),
}
"""The signals of a row before and after it is written."""

KINDS = {"INSERT": "created", "UPDATE": "updated", "DELETE": "deleted"}

Key = tuple[str, int]


@dataclass
class SentSignal:
    """One call of a receiver."""

    signal: str
    kind: str
    instance: Any
    changes: dict[str, Any] | None


@dataclass
class SentLinks:
    """One call of a receiver of m2m_changed."""

    action: str
    links: list[tuple[str, int | None, int | None]]


@dataclass
class SentRelation:
    """One call of a receiver of the relation signals: a foreign key that was set."""

    is_added: bool
    relation: tuple[str, Key, Key]
    """The column, the owner and the child."""


@dataclass
class Frame:
    """One row of one flush, from its first pre signal to its last post signal.

    Or of one statement, which has no pre signals.
    """

    kind: str
    by: object = None
    """What stands for the statement; None for a flush."""
    pre: list[str] = field(default_factory=list)
    written: list[WrittenRow] = field(default_factory=list)
    post: list[str] = field(default_factory=list)


def assert_alike(
    what: str, sent: Counter[Any], written: Counter[Any], is_excused: Callable[[Any], bool]
) -> None:
    """Compare links that were sent with those that were written, each as often.

    A link cut because an end of it was deleted may be sent or not, and so may one made with
    an owner that the same flush deletes; anything else must be.
    """
    for each in [*sent, *written]:
        is_added, *_ = each
        if is_excused(each):
            if not is_added:
                del sent[each]
                del written[each]
            elif not sent[each]:
                del written[each]
    assert sent == written, f"{what}: sent {sent}, written {written}"

"""The kinds of change of a row."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING


class Kind(Enum):
    """The kind of change of a row.

    Only an upsert whose database doesn't say what it has done with each row is an ``UPSERT``.
    """

    CREATE = "created"
    UPDATE = "updated"
    UPSERT = "inserted or updated"
    DELETE = "deleted"

    if not TYPE_CHECKING:
        __hash__ = object.__hash__  # Enum's own is written in Python, and called for each row

    @property
    def created(self) -> bool | None:
        """The ``created`` of save signals; None if it isn't known."""
        return None if self is Kind.UPSERT else self is Kind.CREATE

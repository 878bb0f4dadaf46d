"""The kinds of change of a row."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """The kind of change of a row."""

    CREATE = "created"
    UPDATE = "updated"
    DELETE = "deleted"

"""What happens to a row."""

from __future__ import annotations

from enum import Enum

__all__ = ["Kind"]


class Kind(Enum):
    """What happens to a row."""

    CREATE = "created"
    UPDATE = "updated"
    DELETE = "deleted"

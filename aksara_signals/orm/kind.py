"""What happens to a row."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """What happens to a row."""

    CREATE = "created"
    UPDATE = "updated"
    DELETE = "deleted"

"""What is known of one call of a receiver, wherever it is read from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Message:
    """One call of a receiver: as a row of the table has it, or as a broker delivers it."""

    id: UUID
    receiver: str
    type: str
    aggregatetype: str
    lane: int | None
    payload: dict[str, Any]
    headers: dict[str, Any] | None
    version: int
    generation: int
    created_at: datetime
    attempts: int

"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aksara_signals.introspection.names import Place

__all__ = ["Code", "Finding", "Severity"]


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    WARNING = "warning"


class Code(StrEnum):
    """What kind of thing it is; stable across versions."""

    UNRESOLVED_SENDER = "unresolved-sender"
    AMBIGUOUS_SENDER = "ambiguous-sender"
    NEVER_SENT = "never-sent"
    SILENT_DELETE = "silent-delete"
    DUPLICATE_RECEIVER = "duplicate-receiver"
    REACHED_TWICE = "reached-twice"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or looks like it."""

    code: Code
    severity: Severity
    what: str
    where: Place
    """The receiver concerned."""
    remedy: str
    """The way out."""

    def as_json(self) -> dict[str, Any]:
        """The finding as plain values with stable keys."""
        return {
            "code": self.code.value,
            "severity": self.severity.value,
            "what": self.what,
            "receiver": self.where.name,
            "file": self.where.file,
            "line": self.where.line,
            "remedy": self.remedy,
        }

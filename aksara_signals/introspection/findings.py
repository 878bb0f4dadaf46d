"""The values that a check returns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aksara_signals.introspection.names import Place

__all__ = ["Code", "Finding", "Severity"]


class Severity(StrEnum):
    """How serious a finding is."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"
    """Worth knowing, and often meant so; no reason to fail."""


class Code(StrEnum):
    """The kind of a finding; stable across versions."""

    UNRESOLVED_SENDER = "unresolved-sender"
    AMBIGUOUS_SENDER = "ambiguous-sender"
    NEVER_SENT = "never-sent"
    UNKNOWN_FIELD = "unknown-field"
    IMPOSSIBLE_TRANSITION = "impossible-transition"
    SILENT_DELETE = "silent-delete"
    DUPLICATE_RECEIVER = "duplicate-receiver"
    REACHED_TWICE = "reached-twice"
    REFUSED_STATEMENTS = "refused-statements"
    PARTLY_CALLED = "partly-called"
    MIXED_RECEIVERS = "mixed-receivers"


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake, or what looks like one."""

    code: Code
    severity: Severity
    what: str
    where: Place
    """The receiver that it is about."""
    remedy: str
    """What to do about it."""

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

"""The options of a worker or a relay."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aksara_signals.dispatch.connections.options import is_seconds
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import InvalidOptionError

_TIMES = ("lease_seconds", "shortest_poll_seconds", "longest_poll_seconds", "timeout_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of a worker or a relay, which these explain.

    Raises:
        InvalidOptionError: One is of the wrong kind or out of range.
    """

    concurrency: int = 8
    receivers: tuple[str, ...] = ("*",)
    lease_seconds: float = 60.0
    batch_size: int = 200
    grace_seconds: float = 25.0
    shortest_poll_seconds: float = 0.02
    longest_poll_seconds: float = 0.5
    health_file: Path | None = None
    listen: bool = False
    heartbeat: bool = True
    timeout_seconds: float = 30.0
    is_relay: bool = False
    """Rows are published, and their receivers are called elsewhere."""

    @property
    def kind(self) -> str:
        """The word for it."""
        return "relay" if self.is_relay else "worker"

    def __post_init__(self) -> None:
        for name in ("concurrency", "batch_size"):
            value = getattr(self, name)
            self._check(name, value, type(value) is int and value >= 1, "a number from 1")
        for name in _TIMES:
            value = getattr(self, name)
            self._check(
                name, value, is_seconds(value) and value > 0, "a positive number of seconds"
            )
        grace = self.grace_seconds
        self._check("grace_seconds", grace, is_seconds(grace) and grace >= 0, "a number of seconds")
        if self.shortest_poll_seconds > self.longest_poll_seconds:
            raise InvalidOptionError(
                f"a {self.kind} can't poll at shortest every {self.shortest_poll_seconds} seconds "
                f"and at longest every {self.longest_poll_seconds}; raise longest_poll_seconds"
            )
        receivers: Any = self.receivers
        is_list = isinstance(receivers, Iterable) and not isinstance(receivers, (str, bytes))
        names = tuple(receivers) if is_list else ()
        are_patterns = bool(names) and all(isinstance(each, str) for each in names)
        self._check(
            "receivers", receivers, are_patterns, "a list of names or patterns: ['search.*']"
        )
        object.__setattr__(self, "receivers", names)
        file: Any = self.health_file
        is_path = file is None or isinstance(file, (str, os.PathLike))
        self._check("health_file", file, is_path, "a path")
        object.__setattr__(self, "health_file", None if file is None else Path(file))
        for name in ("listen", "heartbeat"):
            value = getattr(self, name)
            self._check(name, value, isinstance(value, bool), "True or False")

    def _check(self, option: str, value: object, is_valid: bool, expected: str) -> None:
        if not is_valid:
            raise InvalidOptionError(
                f"a {self.kind} can't have {option}={describe_sender(value)}; give {expected}"
            )

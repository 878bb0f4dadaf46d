"""The options of durable receivers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from types import MappingProxyType
from typing import Any, Literal

from aksara_signals.dispatch.connections.durable import require_valid_name
from aksara_signals.dispatch.connections.options import MAX_SECONDS, is_seconds
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import InvalidOptionError
from aksara_signals.types import DurableOptions

Missing = Literal["skip", "call", "dead"]
"""What to do if the row is gone when a receiver that names ``instance`` is to be called."""

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes the payload of a row of one version, and returns that of the next version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When a durable receiver that has failed is called again.

    The first repetition comes ``first_seconds`` after the failure, and each further one ``factor``
    times as late, but at most ``longest_seconds``. After ``attempts`` failures the row is a dead
    letter.

    Raises:
        InvalidOptionError: A number is out of range.
    """

    attempts: int = 8
    """How many failures make a row a dead letter; at least 1."""
    first_seconds: float = 1.0
    """The time before the first repetition."""
    factor: float = 2.0
    """By how much each delay is longer than the one before; at least 1."""
    longest_seconds: float = 3600.0
    """The longest delay."""
    jitter: float = 0.2
    """The part of each delay that is random, from 0 to 1: with 0.2, a delay is 80 to 120 %."""

    def __post_init__(self) -> None:
        _check("Retry", "attempts", self.attempts, _is_whole(self.attempts), "a number from 1")
        for name in ("first_seconds", "longest_seconds"):
            value = getattr(self, name)
            _check("Retry", name, value, is_seconds(value) and value >= 0, "a number of seconds")
        is_factor = _is_number(self.factor) and 1 <= self.factor <= MAX_SECONDS
        _check("Retry", "factor", self.factor, is_factor, "a number from 1")
        is_part = _is_number(self.jitter) and 0 <= self.jitter <= 1
        _check("Retry", "jitter", self.jitter, is_part, "a number from 0 to 1")

    def delay_seconds(self, attempt: int) -> float:
        """The time to wait after a failure.

        Args:
            attempt: How many times the receiver has failed so far; at least 1.
        """
        try:
            delay = self.first_seconds * self.factor ** (attempt - 1)
        except OverflowError:
            delay = self.longest_seconds if self.first_seconds else 0.0
        spread = 1 + self.jitter * random.uniform(-1, 1)  # noqa: S311 - no secret
        return min(delay, self.longest_seconds) * spread


@dataclass(frozen=True, slots=True)
class Durable:
    """A durable receiver: its name, and how it is called.

    Raises:
        InvalidOptionError: An option is of the wrong kind.

    Source: the policy of retries is that of most task queues, such as Celery's ``retry_backoff``;
    names for receivers that survive a rename of the function are Spring Modulith's.
    """

    name: str
    """The name of the receiver, under which its rows are stored: 1 to 200 characters out of a-z,
    0-9, ``_``, ``.`` and ``-``."""
    include: tuple[str, ...] = ()
    """The columns whose values are stored with each row, for ``event.values``."""
    retry: Retry = field(default_factory=Retry)
    """When the receiver is called again after it has failed."""
    ordered: bool = True
    """Whether the rows about one object are delivered in order, one after another."""
    timeout_seconds: float | None = 60.0
    """How long a call may take before it is cancelled and counts as failed; None: without limit.
    A synchronous receiver can't be cancelled."""
    formerly: tuple[str, ...] = ()
    """Former names of the receiver, oldest first, whose rows it takes over."""
    version: int = 1
    """The version of what is stored, to be raised when a new receiver can't read old rows."""
    upgrade: Mapping[int, Upgrade] = field(default_factory=dict, hash=False)
    """For each older version, a function that makes a payload of the next one out of it."""
    missing: Missing = "skip"
    """What happens if the receiver names ``instance`` and its row is gone: ``"skip"`` counts the
    call as done, ``"call"`` calls with None, ``"dead"`` makes it a dead letter."""

    def __post_init__(self) -> None:
        require_valid_name(self.name, f"Durable({describe_sender(self.name)})")
        for option in ("include", "formerly"):
            object.__setattr__(self, option, _names(option, getattr(self, option)))
        for name in self.formerly:
            require_valid_name(name, f"Durable(formerly={describe_sender(name)})")
        if self.name in self.formerly:
            raise InvalidOptionError(f"Durable(formerly=…) holds the present name {self.name!r}")
        _check("Durable", "retry", self.retry, isinstance(self.retry, Retry), "Retry(…)")
        _check("Durable", "ordered", self.ordered, isinstance(self.ordered, bool), "True or False")
        seconds = self.timeout_seconds
        is_limit = seconds is None or (is_seconds(seconds) and seconds > 0)
        _check("Durable", "timeout_seconds", seconds, is_limit, "a positive number of seconds")
        _check("Durable", "version", self.version, _is_whole(self.version), "a number from 1")
        is_choice = self.missing in ("skip", "call", "dead")
        _check("Durable", "missing", self.missing, is_choice, "'skip', 'call' or 'dead'")
        object.__setattr__(self, "upgrade", _upgrades(self.upgrade, self.version))

    def conflict(self, other: Any, /) -> str | None:
        """The name of an option in which another value of ``durable=`` contradicts this one.

        A mere name stands for the default options. ``include`` may differ between the signals that
        a receiver is connected to.
        """
        other = options_of(other)
        for each in fields(self):
            name = each.name
            if name != "include" and getattr(self, name) != getattr(other, name):
                return name
        return None


def options_of(durable: str | DurableOptions) -> Durable:
    """The options in a value of ``durable=``: the defaults if it is a name."""
    if isinstance(durable, Durable):
        return durable
    return Durable(durable if isinstance(durable, str) else durable.name)


def _check(owner: str, option: str, value: object, is_valid: bool, expected: str) -> None:
    if not is_valid:
        raise InvalidOptionError(
            f"{owner}({option}={describe_sender(value)}) is not valid; give {expected}"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _names(option: str, given: Any) -> tuple[str, ...]:
    is_list = not isinstance(given, (str, bytes)) and isinstance(given, Iterable)
    names: tuple[Any, ...] = tuple(given) if is_list else ()
    is_valid = is_list and all(isinstance(each, str) for each in names)
    _check("Durable", option, given, is_valid, "a list of names")
    return names


def _upgrades(given: Any, version: int) -> Mapping[int, Upgrade]:
    is_valid = isinstance(given, Mapping) and all(
        _is_whole(old) and old < version and callable(function) for old, function in given.items()
    )
    expected = "a dict of functions by the older version that each of them takes"
    _check("Durable", "upgrade", given, is_valid, expected)
    return MappingProxyType(dict(given))

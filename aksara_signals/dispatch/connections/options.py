"""The options of a connection, and which of them make sense together."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import TYPE_CHECKING, Any, TypeGuard

from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.dispatch.receivers.payload import Payload
from aksara_signals.exceptions import InvalidOptionError, InvalidPhaseError
from aksara_signals.types import AFTER_COMMIT, IMMEDIATE, PHASES

if TYPE_CHECKING:
    from aksara_signals.dispatch.connections.connection import Connection

MAX_SECONDS = 1e9
"""The longest time limit; far beyond, event loops can't count any more."""

OPTIONS = (
    "weak",
    "dispatch_uid",
    "priority",
    "exact",
    "concurrent",
    "created",
    "phase",
    "coalesce",
    "timeout_seconds",
)

FILTERS = ("created",)
"""Those of them that narrow what a receiver is called for. None of them narrows nothing."""

_SETTINGS = ("weak", "priority", "exact", "concurrent", "coalesce", "timeout_seconds")
"""Those that one receiver has once per sender and phase, unless a dispatch_uid tells them apart."""


FLAGS = ("weak", "exact", "concurrent", "coalesce")


def is_seconds(value: object) -> bool:
    """Whether a value can be a number of seconds."""
    return type(value) is not bool and _has_place_in_order(value) and value <= MAX_SECONDS


def _has_place_in_order(value: object) -> TypeGuard[float]:
    """Whether this is a number, and one that is less or greater than others."""
    kind = type(value)
    if issubclass(kind, int):
        return True
    return issubclass(kind, float) and not isnan(value)  # type: ignore[arg-type]


def check_options(options: Mapping[str, Any], payload: Payload, signal_name: str) -> None:
    """Refuse options that no connection has, or a signal's can't have.

    Raises:
        InvalidOptionError: Names the option and what it may be.
        InvalidPhaseError: The phase is unknown, or the signal has no outcome to wait for.
    """
    for option in options:
        if option not in OPTIONS:
            raise InvalidOptionError(
                f"{signal_name} can't be connected with {option}=; "
                f"the options are {', '.join(OPTIONS)}"
            )
    for option in FLAGS:
        if type(options.get(option, False)) is not bool:
            raise InvalidOptionError(
                f"{signal_name} can't be connected with "
                f"{option}={describe_sender(options[option])}; it is True or False"
            )
    created = options.get("created")
    if created is not None and ("created" not in payload.names or not isinstance(created, bool)):
        raise InvalidOptionError(
            f"{signal_name} can't be connected with created={describe_sender(created)}; it narrows "
            f"save signals, to INSERTs (True) or UPDATEs (False)"
        )
    priority = options.get("priority", 0)
    if not _has_place_in_order(priority):
        raise InvalidOptionError(
            f"{signal_name} can't be connected with a priority that is no number; "
            f"higher is called first, and 0 is the default"
        )
    _check_waiting(options, payload, signal_name)
    try:
        hash(options.get("dispatch_uid"))
    except Exception as error:
        raise InvalidOptionError(
            f"{signal_name} can't be connected with a dispatch_uid that is not hashable; "
            f"a string will do"
        ) from error


def _check_waiting(options: Mapping[str, Any], payload: Payload, signal_name: str) -> None:
    """Refuse phases, and options of those who wait, that make no sense."""
    phase = options.get("phase", IMMEDIATE)
    if not isinstance(phase, str) or phase not in PHASES:
        raise InvalidPhaseError(
            f"{signal_name} can't be connected with phase={describe_sender(phase)}; the phases are "
            f"{', '.join(PHASES)}"
        )
    if phase != IMMEDIATE and not payload.can_wait:
        raise InvalidPhaseError(
            f"{signal_name} can't be connected with phase={phase!r}: what it tells of "
            f"has no outcome yet; connect to the signal that is sent after the fact"
        )
    seconds = options.get("timeout_seconds")
    if phase == IMMEDIATE:
        for option in ("coalesce", "timeout_seconds"):
            if options.get(option) is not None and options[option] is not False:
                raise InvalidOptionError(
                    f"{signal_name} can't be connected with {option}= and the phase "
                    f"{IMMEDIATE!r}; it is for receivers that wait (phase={AFTER_COMMIT!r})"
                )
    elif options.get("coalesce") and not payload.is_of_one_row:
        raise InvalidOptionError(
            f"{signal_name} can't be connected with coalesce=True: each send tells of "
            f"something else than the one before; coalesce signals of single rows"
        )
    if seconds is not None and not (is_seconds(seconds) and seconds > 0):
        raise InvalidOptionError(
            f"{signal_name} can't be connected with timeout_seconds={describe_sender(seconds)}; "
            f"give a positive number of seconds, or None"
        )


def different_settings(one: Connection, other: Connection) -> list[str]:
    """The options, filters aside, in which two connections differ."""
    return [each for each in _SETTINGS if (getattr(one, each) or 0) != (getattr(other, each) or 0)]


def has_filters(connection: Connection, filters: Mapping[str, Any]) -> bool:
    """Whether a connection was made with these filters."""
    return all(getattr(connection, name) == value for name, value in filters.items())


def covers(one: Connection, other: Connection) -> bool:
    """Whether whatever the other one's filters let through passes those of the one."""
    return all(getattr(one, each) in (None, getattr(other, each)) for each in FILTERS)

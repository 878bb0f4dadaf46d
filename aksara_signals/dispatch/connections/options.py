"""The options of a connection: which there are, and which combinations are valid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isnan
from typing import TYPE_CHECKING, Any, TypeGuard

from aksara_signals.dispatch.connections.durable import check_durable
from aksara_signals.dispatch.connections.narrowing import CHANGE_FILTERS, settled
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.dispatch.receivers.payload import Payload
from aksara_signals.exceptions import InvalidOptionError, InvalidPhaseError
from aksara_signals.types import AFTER_COMMIT, IMMEDIATE, PHASES

if TYPE_CHECKING:
    from aksara_signals.dispatch.connections.connection import Connection

MAX_SECONDS = 1e9
"""The longest time limit that may be given: the clocks of event loops overflow far above it."""

OPTIONS = (
    "weak",
    "dispatch_uid",
    "priority",
    "exact",
    "concurrent",
    "created",
    "fields",
    "transition",
    "phase",
    "coalesce",
    "timeout_seconds",
    "durable",
    "statements",
)

FILTERS = ("created", *CHANGE_FILTERS)
"""The options that narrow what a receiver is called for; with None they don't narrow."""

_SETTINGS = (
    "weak",
    "priority",
    "exact",
    "concurrent",
    "coalesce",
    "timeout_seconds",
    "durable",
    "statements",
)
"""The options that one receiver can have only once per sender and phase, dispatch_uids aside."""

_NARROWED_BY = {
    "fields": "it narrows save and update signals, to changes of certain attributes",
    "transition": (
        "it narrows the save and update signals of single rows, whose old values are known"
    ),
}

FLAGS = ("weak", "exact", "concurrent", "coalesce", "statements")
"""The options that are True or False."""


def is_seconds(value: object) -> bool:
    """Whether a value can be a number of seconds."""
    return type(value) is not bool and _has_place_in_order(value) and value <= MAX_SECONDS


def _has_place_in_order(value: object) -> TypeGuard[float]:
    """Whether this is a number that can be ordered, as NaN can't."""
    kind = type(value)
    if issubclass(kind, int):
        return True
    return issubclass(kind, float) and not isnan(value)  # type: ignore[arg-type]


def checked(options: Mapping[str, Any], payload: Payload, signal_name: str) -> dict[str, Any]:
    """The options, which can be read again and again; those are rejected that don't fit the signal.

    Raises:
        InvalidOptionError: Names the option and its valid values.
        InvalidPhaseError: The phase is unknown, or the signal has no outcome to defer until.
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
    for option in CHANGE_FILTERS:
        if options.get(option) is not None and option not in payload.filters:
            raise InvalidOptionError(
                f"{signal_name} can't be connected with {option}=; {_NARROWED_BY[option]}"
            )
    if options.get("statements") and not payload.is_sent_by_statements:
        raise InvalidOptionError(
            f"{signal_name} can't be connected with statements=True; ORM statements send "
            f"post_save, post_update and post_delete for each row, and post_statement once"
        )
    priority = options.get("priority", 0)
    if not _has_place_in_order(priority):
        raise InvalidOptionError(
            f"{signal_name} can't be connected with a priority that is not a number; "
            f"higher is called first, and 0 is the default"
        )
    if options.get("durable") is None:
        _check_deferral(options, payload, signal_name)
    else:
        check_durable(options, payload, signal_name)
    try:
        hash(options.get("dispatch_uid"))
    except Exception as error:
        raise InvalidOptionError(
            f"{signal_name} can't be connected with a dispatch_uid that is not hashable; "
            f"a string will do"
        ) from error
    return settled(options, signal_name)


def _check_deferral(options: Mapping[str, Any], payload: Payload, signal_name: str) -> None:
    """Reject an invalid phase, and invalid options of deferred receivers."""
    phase = options.get("phase", IMMEDIATE)
    if not isinstance(phase, str) or phase not in PHASES:
        raise InvalidPhaseError(
            f"{signal_name} can't be connected with phase={describe_sender(phase)}; the phases are "
            f"{', '.join(PHASES)}"
        )
    if phase != IMMEDIATE and not payload.can_defer:
        raise InvalidPhaseError(
            f"{signal_name} can't be connected with phase={phase!r}: what it is sent for "
            f"has no outcome yet; connect to the signal that is sent after the fact"
        )
    seconds = options.get("timeout_seconds")
    if phase == IMMEDIATE:
        for option in ("coalesce", "timeout_seconds"):
            if options.get(option) is not None and options[option] is not False:
                raise InvalidOptionError(
                    f"{signal_name} can't be connected with {option}= and the phase "
                    f"{IMMEDIATE!r}; it is for deferred receivers (phase={AFTER_COMMIT!r})"
                )
    elif options.get("coalesce") and not payload.is_of_one_row:
        raise InvalidOptionError(
            f"{signal_name} can't be connected with coalesce=True: its sends can't be combined "
            f"into one per row; use it with the signals of single rows, such as post_save"
        )
    if seconds is not None and not (is_seconds(seconds) and seconds > 0):
        raise InvalidOptionError(
            f"{signal_name} can't be connected with timeout_seconds={describe_sender(seconds)}; "
            f"give a positive number of seconds, or None"
        )


def check_filters(filters: Iterable[str], signal_name: str) -> None:
    """Reject what is not the name of a filter, when a receiver is disconnected.

    Raises:
        InvalidOptionError: Names the filters there are.
    """
    for name in filters:
        if name not in FILTERS:
            raise InvalidOptionError(
                f"{signal_name}.disconnect() can't look for {name}=; a receiver is "
                f"disconnected by receiver, sender, dispatch_uid and {', '.join(FILTERS)}"
            )


def different_settings(one: Connection, other: Connection) -> list[str]:
    """The names of the options, filters aside, in which two connections differ."""
    return [each for each in _SETTINGS if (getattr(one, each) or 0) != (getattr(other, each) or 0)]


def has_filters(connection: Connection, filters: Mapping[str, Any]) -> bool:
    """Whether a connection was made with these filters."""
    return all(getattr(connection, name) == value for name, value in filters.items())


def covers(one: Connection, other: Connection, filters: Iterable[str] = FILTERS) -> bool:
    """Whether everything that passes the other connection's filters also passes the first one's.

    Args:
        one: A connection.
        other: Another connection of its receiver.
        filters: Only these are compared.
    """
    return all(
        (wanted := getattr(one, each)) is None or wanted == getattr(other, each) for each in filters
    )

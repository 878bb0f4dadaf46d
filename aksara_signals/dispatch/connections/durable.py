"""Durable receivers: what ``durable=`` takes, and the one receiver that each name stands for.

A durable receiver isn't called by the process that sends. What it is sent is stored under its name
in the transaction of the send, and other processes call it. The dispatcher only stores ``durable=``
and ensures what a stored row relies on: its name stands for one receiver, which can be called from
what a row holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.connections.redefinition import Origin
from aksara_signals.dispatch.live import live_signals
from aksara_signals.dispatch.receivers.identity import same_receiver, type_name
from aksara_signals.dispatch.receivers.naming import describe_receiver, describe_sender
from aksara_signals.dispatch.receivers.payload import ANYTHING, CallShape, Payload, call_shape
from aksara_signals.dispatch.receivers.signature import parameters_of
from aksara_signals.exceptions import InvalidOptionError, InvalidPhaseError, InvalidReceiverError
from aksara_signals.types import DurableOptions, Receiver

EVENT = "event"
"""The argument that only durable receivers get: what their row holds."""

_NAME = re.compile(r"[a-z0-9_.-]{1,200}")
_EXCLUSIVE = ("weak", "concurrent", "coalesce", "timeout_seconds", "phase")
"""The options that can't be combined with ``durable=``."""
_IN_MEMORY = ("changes", "objects", "instances", "statement", "parameters")
"""Arguments that a row doesn't hold."""


def name_of(durable: str | DurableOptions) -> str:
    """The name that is given as ``durable=``, or in it."""
    return durable if isinstance(durable, str) else durable.name


def check_durable(options: Mapping[str, Any], payload: Payload, signal_name: str) -> None:
    """Reject a value of ``durable=`` that is invalid, or doesn't fit the other options.

    Raises:
        InvalidOptionError: Says what ``durable=`` takes, or which option excludes it.
        InvalidPhaseError: The signal is sent before the fact.
    """
    durable = options["durable"]
    start = f"{signal_name} can't be connected with durable={describe_sender(durable)}"
    name = name_of(durable) if isinstance(durable, str) or _has_name(durable) else None
    if name is None:
        raise InvalidOptionError(
            f"{start}: it is {type_name(durable)}; give a name, such as 'search.index', or Durable"
        )
    require_valid_name(name, start)
    if not payload.can_defer:
        raise InvalidPhaseError(
            f"{start}: what it is sent for has no outcome yet; connect to the signal that is sent "
            f"after the fact"
        )
    for option in _EXCLUSIVE:
        given = options.get(option)
        if given is not None and given is not False:
            hint = "; set it in Durable" if option == "timeout_seconds" else ""
            raise InvalidOptionError(f"{start} and {option}= as well; leave {option}= out{hint}")
    if not isinstance(durable, str) and durable.include and "instances" in payload.names:
        raise InvalidOptionError(
            f"{start} and include=, because it is about many rows; leave include= out, and read "
            f"their keys from event.data['keys']"
        )


def require_valid_name(name: object, start: str) -> None:
    """Reject what can't be the name of a durable receiver.

    Args:
        name: The name.
        start: The beginning of the error message.

    Raises:
        InvalidOptionError: It isn't a string, or has other characters.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidOptionError(
            f"{start}: a name consists of 1 to 200 characters out of a-z, 0-9, '_', '.' and '-', "
            f"such as 'search.index'"
        )


def _has_name(durable: Any) -> bool:
    return isinstance(getattr(durable, "name", None), str) and callable(
        getattr(durable, "conflict", None)
    )


def durable_shape(receiver: Receiver, payload: Payload, signal_name: str) -> CallShape:
    """How to call a durable receiver, which also gets ``event``.

    Raises:
        InvalidReceiverError: As for other receivers; or it names an argument that is not stored.
    """
    shape = call_shape(receiver, payload, signal_name, (EVENT,))
    parameters, _ = parameters_of(receiver)
    named = {each.name for each in parameters}.union(shape.positional)
    # A custom signal may send anything under these names, and it is stored.
    missing = [] if payload.sent_by == ANYTHING else [each for each in _IN_MEMORY if each in named]
    if payload.is_of_deleted and "instance" in named:
        missing.append("instance")
    if missing:
        raise InvalidReceiverError(
            f"receiver {describe_receiver(receiver)} of signal {signal_name} is durable and has a "
            f"parameter {missing[0]}, which no longer exists when it is called; read what you need "
            f"from event (event.key, event.changed, event.data, and event.values for the columns "
            f"named in Durable(include=…))"
        )
    return shape._replace(named=frozenset(named))


def require_own_name(
    receiver: Receiver, durable: str | DurableOptions, origin: Origin | None, signal_name: str
) -> None:
    """Reject a name that stands for another receiver, or options that contradict earlier ones.

    A receiver that is defined again, as by a reload, may take the name of its predecessor.

    Raises:
        InvalidOptionError: Names both receivers, or the option.
    """
    name = name_of(durable)
    for signal, other in durable_connections(name):
        known = other.receiver
        is_same = same_receiver(known, receiver)
        if not is_same and not _is_redefined(origin, other.origin):
            raise InvalidOptionError(
                f"receiver {describe_receiver(receiver)} can't be connected to {signal_name} with "
                f"durable={name!r}: that name stands for receiver {describe_receiver(known)}, "
                f"connected to {signal.display_name}, whose rows it would get; choose another name"
            )
        option = _conflict(durable, other.durable) if is_same else None
        if option is not None:
            raise InvalidOptionError(
                f"receiver {describe_receiver(receiver)} can't be connected to {signal_name} "
                f"with durable={name!r} and another {option} than for {signal.display_name}; give "
                f"the same Durable to both (only include= may differ)"
            )


def _conflict(one: str | DurableOptions, other: str | DurableOptions | None) -> str | None:
    """The name of an option in which two values of ``durable=`` with one name differ."""
    if not isinstance(one, str):
        return one.conflict(other)
    return None if other is None or isinstance(other, str) else other.conflict(one)


def _is_redefined(one: Origin | None, other: Origin | None) -> bool:
    """Whether a later execution of a module has defined a function once more."""
    return (
        one is not None
        and other is not None
        and one.place == other.place
        and one.execution is not other.execution
    )


def durable_connections(name: str | None = None) -> Iterator[tuple[Any, Connection]]:
    """The live connections of durable receivers, each with its signal, in order of connection.

    Args:
        name: The name of the durable receiver; None for all.
    """
    for signal in live_signals():
        for connection in signal.durable_connections(name):
            yield signal, connection

"""The declared payload of a signal, and how a receiver's parameters are filled from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, NoReturn

from aksara_signals.dispatch.receivers.naming import describe_receiver, describe_sender, shortened
from aksara_signals.dispatch.receivers.several import members_of
from aksara_signals.dispatch.receivers.signature import (
    Parameter,
    parameters_of,
    problem_of_generators,
    problem_of_kind,
)
from aksara_signals.exceptions import (
    InvalidOptionError,
    InvalidReceiverError,
    SignalPayloadError,
)
from aksara_signals.types import Receiver

RESERVED = ("signal", "sender")
PROVENANCE: Final = "provenance"
"""The argument that every receiver can name, of every signal."""

ANYTHING: Final = "anything"
CLASSES: Final = "mapped classes"
LINKS: Final = "links of relationships"
MIGRATIONS: Final = "commands"
"""What sends a signal; anything may send a custom one."""


class Payload:
    """The declared arguments of a signal, not counting ``signal`` and ``sender``.

    A payload without any names is undeclared: any arguments may be sent.

    Args:
        required: A send without one of these is an error.
        optional: Receivers get None for those that aren't sent.
        on_demand: Sent only to receivers that name them as a parameter, because they are expensive
            to make.
        can_defer: Whether receivers may be deferred until the outcome of the transaction.
        is_of_one_row: Whether several sends for one row can be combined into one.
        is_of_deleted: Whether the row of ``instance`` is gone after the fact.
        is_sent_by_statements: Whether ORM statements can send it for each of their rows.
        filters: The options that narrow a receiver to what has changed, as far as a send of the
            signal says that.
        sent_by: What sends the signal. Other senders are rejected when a receiver is connected.
    """

    __slots__ = (
        "can_defer",
        "defaults",
        "filters",
        "is_of_deleted",
        "is_of_one_row",
        "is_sent_by_statements",
        "on_demand",
        "optional",
        "required",
        "sent_by",
    )

    def __init__(
        self,
        required: tuple[str, ...] = (),
        optional: tuple[str, ...] = (),
        on_demand: tuple[str, ...] = (),
        *,
        can_defer: bool = True,
        is_of_one_row: bool = True,
        is_of_deleted: bool = False,
        is_sent_by_statements: bool = False,
        filters: tuple[str, ...] = (),
        sent_by: str = ANYTHING,
    ) -> None:
        self.required: tuple[str, ...] = required
        self.optional: tuple[str, ...] = optional
        self.on_demand: tuple[str, ...] = on_demand
        self.can_defer: bool = can_defer
        self.is_of_one_row: bool = is_of_one_row
        self.is_of_deleted: bool = is_of_deleted
        self.is_sent_by_statements: bool = is_sent_by_statements
        self.filters: tuple[str, ...] = filters
        self.sent_by: str = sent_by
        self.defaults: Mapping[str, Any] = dict.fromkeys(optional)
        """The optional names, each with the value that receivers get if it isn't sent."""

    def before_the_fact(self) -> Payload:
        """The same payload for a signal that is sent before there is an outcome to defer until."""
        return Payload(
            self.required,
            self.optional,
            self.on_demand,
            can_defer=False,
            is_of_one_row=self.is_of_one_row,
            filters=self.filters,
            sent_by=self.sent_by,
        )

    def with_defaults(self, defaults: Mapping[str, Any]) -> Payload:
        """The same payload with further optional names, each with the value it has if not sent."""
        payload = Payload(self.required, (*self.optional, *defaults), self.on_demand)
        payload.defaults = {**self.defaults, **defaults}
        return payload

    @classmethod
    def of(cls, providing_args: Iterable[str] | Payload | None) -> Payload:
        """The payload of a custom signal.

        Raises:
            InvalidOptionError: ``providing_args`` is one string, not a list, or contains something
                other than argument names.
        """
        if isinstance(providing_args, Payload):
            return providing_args
        if issubclass(type(providing_args), str):
            raise InvalidOptionError(
                f"providing_args={shortened(providing_args)} is one string; give a list of names"
            )
        names = _names_of(providing_args)
        for name in names:
            if not issubclass(type(name), str) or not name.isidentifier() or name in RESERVED:
                raise InvalidOptionError(
                    f"providing_args holds {describe_sender(name)}; each must be the name of an "
                    f"argument, and signal and sender are passed to every receiver anyway: leave "
                    f"them out"
                )
        return cls(required=tuple(dict.fromkeys(names)))

    @property
    def is_declared(self) -> bool:
        """Whether there is any required or optional argument."""
        return bool(self.required or self.optional)

    @property
    def names(self) -> tuple[str, ...]:
        """Every declared argument."""
        return self.required + self.optional + self.on_demand

    def reject(self, signal_name: str, payload: Mapping[str, Any]) -> NoReturn:
        """Raise the error for a payload without a required argument, or with a reserved one.

        Raises:
            SignalPayloadError: Names the missing arguments, or the reserved one.
        """
        if "signal" in payload:
            raise SignalPayloadError(
                f"{signal_name} was sent with an argument named signal, which is the name under "
                f"which receivers get the signal itself; rename yours"
            )
        missing = [name for name in self.required if name not in payload]
        raise SignalPayloadError(
            f"{signal_name} was sent without {', '.join(missing)}; it declares "
            f"{', '.join(self.required)}: pass them all as keyword arguments"
        )


def _names_of(providing_args: Any) -> tuple[Any, ...]:
    if providing_args is None:
        return ()
    if issubclass(type(providing_args), dict):
        return tuple(providing_args)
    names = members_of(providing_args)
    if names is None:
        raise InvalidOptionError(
            f"providing_args was given {describe_sender(providing_args)}; give a list of the names "
            f"of the arguments that every send passes, as in providing_args=['amount']"
        )
    return names


class CallShape(NamedTuple):
    """How to call a receiver; worked out once, when it is connected."""

    positional: tuple[str, ...] = ()
    """The arguments to pass by position, in order; all others are passed by keyword."""
    on_demand: frozenset[str] = frozenset()
    """The on-demand arguments that the receiver names."""
    named: frozenset[str] = frozenset()
    """All arguments that a durable receiver names or takes by position; empty of any other one."""
    names_provenance: bool = False
    """Whether the receiver is given the values of :class:`~aksara_signals.provenance`, unless the
    signal is sent with an argument of that name."""


BY_KEYWORD = CallShape()
"""The shape of a receiver that takes everything by keyword."""


def call_shape(
    receiver: Receiver, payload: Payload, signal_name: str, further: tuple[str, ...] = ()
) -> CallShape:
    """Work out how to call a receiver.

    Args:
        receiver: The receiver.
        payload: What the signal sends.
        signal_name: The signal's name, for the error message.
        further: Arguments that the receiver is given besides.

    Raises:
        InvalidReceiverError: It is not callable, is a generator function or something else that
            can't be a receiver, doesn't accept ``**kwargs``, or has a parameter that the payload
            can't fill.
    """

    def error(problem: str) -> InvalidReceiverError:
        given: Any = receiver
        what = "None" if given is None else describe_receiver(receiver)
        return InvalidReceiverError(f"receiver {what} of signal {signal_name} {problem}")

    unfit = problem_of_kind(receiver)
    if unfit is not None:
        raise error(unfit)
    if not callable(receiver):
        raise error("is not callable; connect a function, a method or an object with __call__")
    parameters, accepts_any = _read(receiver, error)
    if not accepts_any:
        raise error(
            "must accept **kwargs, because a signal's payload may grow; "
            "add **kwargs to its signature"
        )
    is_declared = payload.is_declared
    names = payload.names
    named = {parameter.name for parameter in parameters}
    names_provenance = PROVENANCE in named
    if not is_declared and not any(each.is_by_position for each in parameters):
        return CallShape(names_provenance=True) if names_provenance else BY_KEYWORD
    instance = "instances" if "instances" in names else "instance"
    known = {*names, *RESERVED, PROVENANCE, *further}
    if not payload.optional:
        known.add(instance)  # a custom signal may be sent with an instance without declaring it
    unfilled = [name for name in ("sender", instance) if name in known and name not in named]
    leading = is_declared
    positional: list[str] = []
    by_position = 0
    for parameter in parameters:
        name = parameter.name
        if name in known:
            leading = leading and name in RESERVED
            if not parameter.is_by_keyword:
                positional.append(name)
                if parameter.is_by_position:
                    by_position = len(positional)
        elif parameter.has_default:
            # As in ``lambda s, i, model=model, **k``: the parameter exists for its default. All
            # parameters after it have defaults as well, so the rest is passed by keyword.
            leading = False
        elif not parameter.is_by_keyword and leading and unfilled:
            positional.append(unfilled.pop(0))
            by_position = len(positional)
        elif is_declared or parameter.is_by_position:
            raise error(f"has a parameter {name} that nothing fills; {_offer(payload)}")
    return CallShape(
        tuple(positional[:by_position]),
        frozenset(payload.on_demand) & named,
        names_provenance=names_provenance,
    )


def _read(
    receiver: Receiver, make_error: Callable[[str], InvalidReceiverError]
) -> tuple[list[Parameter], bool]:
    try:
        problem = problem_of_generators(receiver)
        if problem is None:
            return parameters_of(receiver)
    except Exception as cause:  # inspect reads attributes, which may run code of the receiver
        raise make_error(
            "has no signature that can be read; wrap it in a function that accepts **kwargs"
        ) from cause
    raise make_error(problem)


def _offer(payload: Payload) -> str:
    offered = ", ".join(dict.fromkeys((*RESERVED, *payload.names, PROVENANCE)))
    return f"the signal sends {offered}: use these names, or give it a default"

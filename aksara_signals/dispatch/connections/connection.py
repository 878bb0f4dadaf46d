"""One receiver connected to one sender."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from itertools import count
from typing import Any, NoReturn

from aksara_signals.dispatch.connections.redefinition import Origin
from aksara_signals.dispatch.provenance import current_provenance
from aksara_signals.dispatch.receivers.identity import SenderKey
from aksara_signals.dispatch.receivers.naming import describe_receiver, describe_sender
from aksara_signals.dispatch.receivers.patching import PatchPlace
from aksara_signals.dispatch.receivers.payload import PROVENANCE, CallShape
from aksara_signals.exceptions import SignalPayloadError
from aksara_signals.types import IMMEDIATE, DurableOptions, Receiver, Sender

connection_observers: list[Callable[[Connection], object]] = []
"""Called with each new connection, so that a mock can report that it was never connected."""

_numbers = count(1)

_DEFAULTS: dict[str, Any] = {
    "strong": None,
    "dispatch_uid": None,
    "priority": 0,
    "exact": False,
    "weak": False,
    "concurrent": False,
    "created": None,
    "phase": IMMEDIATE,
    "coalesce": False,
    "timeout_seconds": None,
    "durable": None,
    "statements": False,
    "fields": None,
    "transition": None,
    "is_async": False,
    "patch_place": None,
    "origin": None,
    "narrows_session": False,
}


class Connection:
    """A receiver connected to a sender, with its options, and how to call it.

    Made by :meth:`Signal.connect <aksara_signals.Signal.connect>`; never changes.
    """

    address: Hashable
    """Where the signal's index keeps it."""
    reference: Callable[[], Receiver | None]
    """Returns the receiver, or None when a weakly referenced one is gone."""
    strong: Receiver | None
    """The receiver itself, which the loops get at without a call; None if it is weakly referenced.
    """
    sender_key: SenderKey
    """The sender as a key, which doesn't keep it alive."""
    shape: CallShape
    """How the receiver's parameters are filled."""
    dispatch_uid: Hashable
    """The explicit name of the connection, or None."""
    priority: float
    """Higher is called first; equal ones in the order of connection."""
    exact: bool
    """Whether subclasses of the sender are left out."""
    weak: bool
    """Whether the receiver is referenced weakly."""
    concurrent: bool
    """Whether the receiver runs in a task group after the sequential ones."""
    created: bool | None
    """True narrows a save signal to INSERTs, False to UPDATEs, None doesn't narrow."""
    phase: str
    """When the receiver is called: ``immediate``, ``after_commit``, ``after_rollback``, or
    ``durable``: by a worker, from what was stored in the transaction."""
    coalesce: bool
    """Whether a deferred receiver is sent the net change of the transaction for each row."""
    timeout_seconds: float | None
    """How long a deferred receiver may run; None means without a limit."""
    durable: str | DurableOptions | None
    """What was given as ``durable=``, or None."""
    statements: bool
    """Whether the receiver is called for the rows of ORM statements, too."""
    fields: frozenset[str] | None
    """The receiver is called if one of these attributes has changed; None doesn't narrow."""
    transition: Mapping[str, tuple[Any, Any]] | None
    """The receiver is called if each of these attributes has changed from one value to another, as
    ``(old, new)``; None doesn't narrow."""
    watches: bool
    """Whether changes of a row are judged before the receiver is called: for ``fields`` or
    ``transition``."""
    is_async: bool
    """Whether the receiver is known to be async. If False, it may still return an awaitable."""
    patch_place: PatchPlace | None
    """Where a mock may replace the receiver."""
    origin: Origin | None
    """Where the receiver was defined, if a later definition of the same name may replace it."""
    narrows_session: bool
    """Whether ``session`` is sent as None, because two tasks can't share a session."""
    is_plain: bool
    """Whether the receiver takes the arguments just as they are sent, all by keyword."""
    number: int
    """Later connections, of whichever signal, have higher numbers."""

    __slots__ = (*__annotations__, "__weakref__")

    def __init__(self, **fields: Any) -> None:
        for name, value in (_DEFAULTS | fields).items():
            _fill[name](self, value)
        shape = self.shape
        is_plain = not (
            shape.positional or shape.on_demand or shape.names_provenance or self.narrows_session
        )
        _fill["is_plain"](self, is_plain)
        watches = self.fields is not None or self.transition is not None
        _fill["watches"](self, watches)
        _fill["number"](self, next(_numbers))
        for observe in connection_observers:
            observe(self)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a connection never changes: disconnect, and connect with {name}=")

    @property
    def receiver(self) -> Receiver | None:
        """The receiver; None once a weakly referenced one is gone."""
        return self.reference()

    @property
    def sender(self) -> Sender:
        """The sender; None for every sender."""
        return self.sender_key.get()

    @property
    def durable_name(self) -> str | None:
        """The name of a durable receiver; None of any other one."""
        durable = self.durable
        return durable if durable is None or isinstance(durable, str) else durable.name

    @property
    def watched(self) -> frozenset[str]:
        """The attributes whose changes are judged before the receiver is called."""
        return (self.fields or frozenset()).union(self.transition or ())

    @property
    def is_alive(self) -> bool:
        """Whether receiver and sender both still exist."""
        return self.reference() is not None and (
            self.sender_key.address is None or self.sender_key.get() is not None
        )

    def fit(
        self, arguments: Mapping[str, Any], extras: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Arrange the arguments for a receiver that isn't plain.

        Args:
            arguments: Everything that is sent, ``signal`` and ``sender`` included.
            extras: The on-demand arguments.

        Returns:
            Positional and keyword arguments, in new containers.

        Raises:
            SignalPayloadError: The receiver takes an argument by position that wasn't sent.
        """
        keywords = dict(arguments)
        for name in self.shape.on_demand:
            keywords.setdefault(name, extras.get(name))
        if self.shape.names_provenance:
            keywords.setdefault(PROVENANCE, current_provenance())
        if self.narrows_session:
            keywords["session"] = None
        try:
            return [keywords.pop(name) for name in self.shape.positional], keywords
        except KeyError as error:
            raise SignalPayloadError(
                f"receiver {describe_receiver(self.receiver)} takes {error.args[0]} by position, "
                f"and it was not sent; send it, or name the parameter after what is sent"
            ) from None

    def __repr__(self) -> str:
        receiver, sender = describe_receiver(self.receiver), describe_sender(self.sender)
        return f"<Connection of {receiver} to {sender}>"


_fill: dict[str, Callable[[Connection, object], None]] = {
    name: vars(Connection)[name].__set__ for name in Connection.__slots__ if name != "__weakref__"
}
"""What sets each field, once: ``object.__setattr__()`` looks it up each time."""

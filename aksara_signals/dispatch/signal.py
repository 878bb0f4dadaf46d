"""Signal: connect, disconnect, send, and inspect."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Unpack, overload

from aksara_signals.dispatch.adapter import defer, get_adapter
from aksara_signals.dispatch.blocks import block
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.connections.matching import changes_sent
from aksara_signals.dispatch.connections.narrowing import Target
from aksara_signals.dispatch.connections.options import check_filters
from aksara_signals.dispatch.connections.routing import NO_RECEIVERS, Plan
from aksara_signals.dispatch.connections.table import ConnectionTable
from aksara_signals.dispatch.context import get_active_contexts
from aksara_signals.dispatch.delivery.delivery import NO_EXTRAS, AnyDelivery
from aksara_signals.dispatch.delivery.specialized import GENERIC, Loops, loops_for
from aksara_signals.dispatch.live import SignalBase, register_signal
from aksara_signals.dispatch.receivers.identity import (
    is_class,
    is_plain_value,
    plain_text,
    type_name,
)
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.dispatch.receivers.payload import Payload
from aksara_signals.dispatch.senders import flattened, require_no_model
from aksara_signals.exceptions import InvalidOptionError, InvalidReceiverError
from aksara_signals.types import (
    ConnectOptions,
    Receiver,
    ReceiverT,
    Responses,
    Sender,
    Senders,
)


class Signal(SignalBase):
    """Something that happens, and the receivers to call when it does.

    Args:
        name: Its name in messages, in logs and for look-up; optional.
        providing_args: The names of the arguments that every send must pass. More may be passed.
            Without it, any arguments may be sent. A ``Payload`` declares optional ones too.
        doc: One sentence for readers and tools.

    Raises:
        InvalidOptionError: ``providing_args`` is not a list of argument names, or ``name`` or
            ``doc`` is not a string.

    >>> import asyncio
    >>> payment_processed = Signal("payment_processed", providing_args=["amount", "currency"])
    >>> @payment_processed.connect
    ... async def thank(sender, amount, currency, **kwargs):
    ...     return f"{amount} {currency}"
    >>> [(_, response)] = asyncio.run(payment_processed.send("shop", amount=5, currency="EUR"))
    >>> response
    '5 EUR'

    Source: Django's ``Signal``. Receivers are held strongly unless ``weak=True``, senders match
    their subclasses too, and ``send`` is async.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        providing_args: Iterable[str] | Payload | None = None,
        doc: str | None = None,
    ) -> None:
        if name is not None:
            if not issubclass(type(name), str):
                raise InvalidOptionError(
                    f"a signal's name must be a string, not {type_name(name)}; "
                    f"argument names go into providing_args="
                )
            name = plain_text(name)
        if doc is not None and not issubclass(type(doc), str):
            raise InvalidOptionError(
                f"a signal's doc must be a string, not {type_name(doc)}; it is one sentence for "
                f"readers and tools"
            )
        self.doc = doc
        if doc:
            self.__doc__ = doc
        self.payload: Payload = Payload.of(providing_args)
        self._required = frozenset(self.payload.required)
        self._defaults = self.payload.defaults
        self._table = ConnectionTable(self.payload, name)
        register_signal(self)

    # -- names ---------------------------------------------------------------------------------

    @property
    def name(self) -> str | None:
        """The name in messages, in logs and for look-up; None of an unnamed signal."""
        return self._table.name

    @property
    def display_name(self) -> str:
        """The name for messages; an unnamed signal has one as well."""
        return self._table.display_name

    @property
    def providing_args(self) -> tuple[str, ...]:
        """The arguments that every send must pass."""
        return self.payload.required

    def __repr__(self) -> str:
        return f"<Signal {self.display_name}>" if self.name else f"<Signal at {id(self):#x}>"

    if not TYPE_CHECKING:  # a type checker would accept every attribute

        def __getattr__(self, name: str) -> Any:
            from aksara_signals.dispatch.synonyms import missing_word

            raise missing_word("a signal", name, dir(type(self)), self)

    # -- connecting ----------------------------------------------------------------------------

    @overload
    def connect(
        self,
        receiver: ReceiverT,
        sender: Senders = None,
        *,
        senders: Senders = None,
        **options: Unpack[ConnectOptions],
    ) -> ReceiverT: ...

    @overload
    def connect(
        self,
        receiver: None = None,
        sender: Senders = None,
        *,
        senders: Senders = None,
        **options: Unpack[ConnectOptions],
    ) -> Callable[[ReceiverT], ReceiverT]: ...

    def connect(
        self,
        receiver: Receiver | None = None,
        sender: Senders = None,
        *,
        senders: Senders = None,
        **options: Any,
    ) -> Any:
        """Connect a receiver, or return a decorator that does.

        Args:
            receiver: Called as ``receiver(signal=…, sender=…, **payload)``; async or sync. It must
                accept ``**kwargs``. With a declared payload, leading parameters of other names
                take the sender and the instance by position.
            sender: A class (its subclasses match too), its name or dotted path (which need not
                exist yet), a number, any object, or None for every sender; or several of these in
                a list, tuple, set, frozenset, view of a dict, generator or other iterator.
                Anything else, such as an Enum class, is one sender.
            senders: The same as ``sender``; give one of the two.
            weak: Whether the receiver is referenced weakly; once collected, it is disconnected.
            dispatch_uid: Names the connection: a second one of that name for the sender is ignored.
            priority: Higher is called first; equal ones in the order of connection.
            exact: Whether to leave out the sender's subclasses.
            concurrent: Whether the receiver runs in a task group after the others. Model signals
                then send it ``session=None``.
            created: True for INSERTs only, False for UPDATEs only; for save signals.
            fields: Names of attributes, or attributes: the receiver is called only if one of them
                has changed (of a new row: if it was set). For save and update signals, and bulk
                updates, whose ``fields`` are judged. ``@post_save(Post.status)`` is short for
                ``@post_save(Post, fields=["status"])``.
            transition: Attributes, each with ``(old, new)``: the receiver is called only if all of
                them have changed in this way. Each side is a value, a set of values, or ``...`` for
                any; the old value of a new row is None. For the save and update signals of single
                rows.
            phase: ``immediate`` (inside the transaction), or ``after_commit`` or
                ``after_rollback``: once the outcome of the outermost transaction is known and its
                database connection is free. Instances are then detached copies, as they were at
                the send, and errors are logged and sent to ``on_delivery_error`` only.
            coalesce: Whether a deferred receiver is sent the net change of the transaction: one
                call per row, with ``created`` as it is at the end, and none without a net change.
            timeout_seconds: How long a deferred receiver may run before it is cancelled and the
                timeout logged. Under a plain ``Session`` it can't be cancelled.
            durable: The name of a durable receiver, such as ``"search.index"``, or
                :class:`~aksara_signals.contrib.outbox.Durable` with its options. What it is sent
                is stored in the transaction, and workers call it until it has succeeded. Its
                further argument ``event`` holds what is stored; ``instance`` is the row as it is
                then. Excludes ``phase``, ``weak``, ``concurrent``, ``coalesce`` and
                ``timeout_seconds``.
            statements: Whether the receiver is also called for each row that an ORM statement
                (``insert()``, ``update()``, ``delete()``) writes; for ``post_save``,
                ``post_update`` and ``post_delete``.

        Returns:
            The receiver itself, unchanged. Connecting it again to the same sender and phase, with
            the same options, does nothing; with another ``created``, ``fields`` or ``transition``
            it is a second connection, and one send still calls the receiver once. A function at the
            top level of a module replaces those of its name that an earlier execution of the module
            has connected.

        Raises:
            InvalidReceiverError: The receiver can't be called as above, or is a mapped class.
            InvalidSenderError: The sender is an empty or nested list or an empty string, or can
                never send this signal, as a table or an instance can't.
            AmbiguousSenderError: Two live mapped classes have the name given as the sender.
            InvalidOptionError: An option is unknown, doesn't fit this signal, or differs from the
                one that the receiver is already connected to the sender with. A ``dispatch_uid``
                distinguishes two such connections.
            UnknownFieldError: The sender has no attribute that ``fields`` or ``transition`` names.
                Where the class comes later, its first send raises this.
            InvalidPhaseError: The phase is unknown, or the signal is sent before there is an
                outcome to defer the receiver until.

        Source: Django's ``Signal.connect``; ``phase`` is Spring's ``@TransactionalEventListener``;
        the options from ``priority`` to ``created`` are ours.
        """
        several = self._table.targets(sender, senders, ".connect()", options)
        if receiver is None:
            return self._decorator(several, options)
        self._table.add(receiver, several, options)
        return receiver

    def _decorator(self, targets: tuple[Target, ...], options: dict[str, Any]) -> Any:
        options = self._table.checked(options)

        def decorate(function: ReceiverT) -> ReceiverT:
            self._table.add(function, targets, options)
            return function

        return decorate

    @overload
    def __call__(
        self, sender: type[Any], /, **options: Unpack[ConnectOptions]
    ) -> Callable[[ReceiverT], ReceiverT]: ...

    @overload
    def __call__(self, receiver: ReceiverT, /) -> ReceiverT: ...

    @overload
    def __call__(
        self,
        *given: type | str | Collection[Any] | Iterator[Any] | None,
        sender: Senders = None,
        senders: Senders = None,
        **options: Unpack[ConnectOptions],
    ) -> Callable[[ReceiverT], ReceiverT]: ...

    @overload
    def __call__(self, *given: Any, **options: Any) -> Any: ...

    def __call__(
        self, *given: Any, sender: Senders = None, senders: Senders = None, **options: Any
    ) -> Any:
        """Connect the decorated receiver: ``@post_save(Post)``, ``@post_save()``, ``@post_save``.

        Args:
            given: Any number of senders, also in one list; without any, every sender.
            sender: The same by keyword: ``@post_save(sender=Post)``.
            senders: The same by keyword: ``@post_save(senders=[Post, Tag])``.
            options: Those of :meth:`connect`.
        """
        is_named = sender is not None or senders is not None
        if len(given) == 1 and not options and not is_named and _is_receiver(given[0]):
            return self.connect(given[0])
        if given and is_named:
            raise InvalidOptionError(
                f"@{self.display_name}() was given senders by position, and by sender= or "
                f"senders= as well; give all senders in one way (to connect a receiver by calling, "
                f"use {self.display_name}.connect())"
            )
        if given:
            operation = f"@{self.display_name}()"
            sender = [each for one in given for each in flattened(one, operation)]
        return self._decorator(self._table.targets(sender, senders, "()", options), options)

    def disconnect(
        self,
        receiver: Receiver | None = None,
        sender: Senders = None,
        dispatch_uid: Hashable = None,
        *,
        senders: Senders = None,
        **filters: Any,
    ) -> bool:
        """Undo a :meth:`connect` with the same receiver, sender and ``dispatch_uid``.

        Args:
            receiver: As for :meth:`connect`; may be left out if there is a ``dispatch_uid``.
            sender: As for :meth:`connect`.
            dispatch_uid: The name that was given to the connection.
            senders: As for :meth:`connect`.
            filters: ``created``, ``fields`` and ``transition``, to undo only the connection with
                these filters. Without them, the receiver's connections are undone whatever their
                filters and phases are.

        Returns:
            Whether anything was connected that way.

        Raises:
            InvalidOptionError: Neither a receiver nor a ``dispatch_uid`` is given, the
                ``dispatch_uid`` is not hashable, or a filter is unknown.
            InvalidReceiverError: The receiver is not callable, or is a mapped class.
            InvalidSenderError: The sender is an empty or nested list or an empty string.

        Source: Django's ``Signal.disconnect``.
        """
        if receiver is None and dispatch_uid is None:
            raise InvalidOptionError(
                f"{self.display_name}.disconnect() needs the receiver, or the dispatch_uid it was "
                f"connected with"
            )
        if receiver is not None:
            self._require_receiver(receiver)
        check_filters(filters, self.display_name)
        filters = self._table.checked({**filters, "dispatch_uid": dispatch_uid})
        del filters["dispatch_uid"]
        several = self._table.known_targets(sender, senders, ".disconnect()", filters)
        return self._table.discard(receiver, several, dispatch_uid, filters)

    def _require_receiver(self, receiver: Any) -> None:
        """Reject what can't have been connected."""
        require_no_model(receiver, self.display_name)
        if not callable(receiver):
            raise InvalidReceiverError(
                f"{self.display_name}.disconnect() was given {describe_sender(receiver)}, which is "
                f"not a receiver; give the function that was connected, one at a time"
            )

    @block
    def connected_to(
        self,
        receiver: ReceiverT,
        sender: Senders = None,
        *,
        senders: Senders = None,
        **options: Any,
    ) -> Iterator[ReceiverT]:
        """Connect a receiver for the duration of a ``with`` or ``async with`` block.

        Also a decorator for functions, sync and async. At the end, exactly what this call has
        connected is disconnected: a receiver that was connected before stays.

        Args:
            receiver: As for :meth:`connect`.
            sender: As for :meth:`connect`.
            senders: As for :meth:`connect`.
            options: Those of :meth:`connect`.
        """
        several = self._table.targets(sender, senders, ".connected_to()", options)
        added = self._table.add(receiver, several, options, is_temporary=True)
        try:
            yield receiver
        finally:
            self._table.remove(added)

    # -- sending -------------------------------------------------------------------------------

    async def send(self, /, sender: Sender = None, **payload: Any) -> Responses:
        """Call every receiver of ``sender`` and await the async ones.

        Args:
            sender: The sending class or object.
            payload: Passed on by keyword.

        Returns:
            ``(receiver, response)`` pairs in call order.

        Raises:
            SignalPayloadError: A declared argument is missing. No receiver is called then.
            UnknownFieldError: The sender has no attribute that a receiver is narrowed to.
            NoSessionError: A receiver is deferred until the outcome of a transaction, and neither
                ``session`` nor ``instance`` says which transaction. No receiver is called then.
            SessionInUseError: A receiver is deferred until the outcome of a transaction that has
                ended, and whose deferred receivers are being called.
            SignalRecursionError: Receivers cause one another without end.
            BaseException: A receiver's error, of its own type, with a note that names the signal,
                the sender and the receiver. Later sequential receivers are not called. Errors of
                several concurrent receivers are raised as an ``ExceptionGroup``.
        """
        table = self._table
        if table.is_idle and "signal" not in payload:
            return []
        ready = _ready(self, table, sender, payload, True)
        if ready is None:
            return []
        loops, delivery, store = ready
        if store is not None:
            await store
        return [] if delivery is None else await loops.deliver((delivery,))

    async def send_robust(self, /, sender: Sender = None, **payload: Any) -> Responses:
        """As :meth:`send`, but every receiver is called, even after one has failed.

        Returns:
            ``(receiver, response)`` pairs in call order. The response of a failed receiver is its
            exception, which is also logged with its traceback (logger ``aksara_signals``).

        Raises:
            SignalPayloadError: A declared argument is missing. No receiver is called then.
            asyncio.CancelledError: Always raised, as is every ``BaseException`` that is not an
                ``Exception``.
        """
        ready = _ready(self, self._table, sender, payload, True)
        if ready is None:
            return []
        loops, delivery, store = ready
        if store is not None:
            await store
        return [] if delivery is None else await loops.deliver((delivery,), robust=True)

    def send_sync(self, /, sender: Sender = None, **payload: Any) -> Responses:
        """As :meth:`send`, from code that can't await.

        An async receiver is run to its end, provided that nothing it awaits has to wait.

        Raises:
            AsyncReceiverError: An async receiver has to wait.
        """
        ready = _ready(self, self._table, sender, payload)
        if ready is None or ready[1] is None:
            return []
        loops, delivery, _ = ready
        return loops.deliver_sync((delivery,))

    def send_robust_sync(self, /, sender: Sender = None, **payload: Any) -> Responses:
        """As :meth:`send_robust`, from code that can't await; see :meth:`send_sync`."""
        ready = _ready(self, self._table, sender, payload)
        if ready is None or ready[1] is None:
            return []
        loops, delivery, _ = ready
        return loops.deliver_sync((delivery,), robust=True)

    def _made_ready(self, sender: Sender, payload: dict[str, Any], can_await: bool) -> Ready | None:
        """As :func:`_ready`, of a send whose names have to be checked, or that depends on more."""
        if "signal" in payload or (self._required and not self._required <= payload.keys()):
            self.payload.reject(self.display_name, payload)
        plan = self.plan_for(sender)
        if plan is NO_RECEIVERS:
            return None
        given = tuple(payload)
        arguments = {**self._defaults, **payload} if self._defaults else payload
        arguments["signal"] = self
        arguments["sender"] = sender
        plan = plan.narrowed(arguments.get("created"))
        if plan.is_judged:
            plan = plan.judged(changes_sent(sender, arguments))
        if plan.deferred:
            defer(self, arguments, plan.deferred)
        store = None
        if plan.durable:
            store = get_adapter().store(self, arguments, plan.durable, can_await)
        if not plan.connections:
            return None if store is None else (GENERIC, None, store)
        loops = loops_for(tuple(arguments))
        if loops is not GENERIC and not self._defaults:
            self._plan_of(sender).note_sent(given, loops)
        delivery = (self, sender, plan.sequential, arguments, plan.concurrent, NO_EXTRAS)
        return loops, delivery, store

    def plan_for(self, sender: Sender) -> Plan:
        """The connections that a send by ``sender`` reaches now, active contexts considered."""
        plan = self._plan_of(sender)
        contexts = get_active_contexts()
        return plan.silenced(self, sender, contexts) if contexts else plan

    def _plan_of(self, sender: Sender) -> Plan:
        cached = self._table.of_objects.get(id(sender))
        # The address may have been reused by another object: compare the live objects.
        if cached is not None and cached[0]() is sender:
            return cached[1]
        if is_plain_value(sender):
            kept = self._table.of_values.get(sender)
            if kept is not None:
                return kept
        return self._table.plans.make(sender) if self._table.index.all else NO_RECEIVERS

    # -- looking inside ------------------------------------------------------------------------

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The live connections, in the order they were made."""
        return tuple(each for each in save_connections(self) if each.is_alive)

    def connections_for(self, sender: Sender) -> tuple[Connection, ...]:
        """The connections that a send by ``sender`` reaches, in call order; ignores contexts."""
        plan = self._plan_of(sender)
        return tuple(each for each in plan.all_connections if each.is_alive)

    def receivers_for(self, sender: Sender) -> list[Receiver]:
        """The receivers that a send by ``sender`` calls, in call order; ignores contexts."""
        plan = self._plan_of(sender)
        return [receiver for each in plan.once if (receiver := each.receiver) is not None]

    def has_receivers(self, sender: Sender = None) -> bool:
        """Whether a send by ``sender`` calls any receiver; ignores contexts.

        Args:
            sender: With None, only receivers that are connected to every sender count.
        """
        return bool(self._table.index.all and self.receivers_for(sender))

    has_listeners = has_receivers
    """Django's name for :meth:`has_receivers`."""

    @property
    def is_connected(self) -> bool:
        """Whether there is any connection, to any sender."""
        return bool(self._table.index.all)

    def durable_connections(self, name: str | None = None) -> list[Connection]:
        """The connections of durable receivers, in the order they were made.

        Args:
            name: The name of the durable receiver; None for all.
        """
        found = self._table.index.durable
        several = (found.get(name, {}),) if name is not None else tuple(found.values())
        numbered = {number: each for members in several for number, each in members.items()}
        return [numbered[number] for number in sorted(numbered) if numbered[number].is_alive]

    @property
    def asks_for_statements(self) -> bool:
        """Whether any connection asks for the rows of ORM statements."""
        return self._table.index.asking > 0


def save_connections(signal: Signal) -> list[Connection]:
    """The present connections of a signal, for :func:`restore_connections`."""
    return list(signal._table.index.all.values())


def restore_connections(signal: Signal, connections: list[Connection]) -> None:
    """Replace a signal's connections by those that :func:`save_connections` has returned."""
    signal._table.restore(connections)


def remove_connections(signal: Signal, connections: list[Connection]) -> None:
    """Remove these connections, as far as they are still there."""
    signal._table.remove(connections)


def forget_plans(signal: Signal) -> None:
    """Discard what string senders were resolved to, because a class has come or gone."""
    signal._table.forget_names()


Ready = tuple[Loops, AnyDelivery | None, Awaitable[object] | None]
"""The loops for the names of a delivery, the delivery, if any receiver is called at once, and what
has to be awaited before: the row for durable receivers is stored then."""


def _ready(
    signal: Signal,
    table: ConnectionTable,
    sender: Sender,
    payload: dict[str, Any],
    can_await: bool = False,
) -> Ready | None:
    """What a send needs; None if it has no receivers.

    A function, as each look at an attribute of a signal is felt in a send: on Python 3.11, those of
    a class with ``__getattr__`` take three times as long.
    """
    # As _plan_of(), in place where everything is known.
    cached = table.of_objects.get(id(sender))
    plan: Plan | None = None
    if cached is not None and cached[0]() is sender:
        plan = cached[1]
    elif type(sender) is str or type(sender) is int:
        plan = table.of_values.get(sender)
    if plan is None or (known := plan.sent) is None or known[0] != (*payload,):
        return signal._made_ready(sender, payload, can_await)
    contexts = get_active_contexts()
    if contexts and not (plan := plan.silenced(signal, sender, contexts)):
        return None
    payload["signal"] = signal
    payload["sender"] = sender
    delivery = (signal, sender, plan.sequential, payload, plan.concurrent, NO_EXTRAS)
    return known[1], delivery, None


class SignalGroup:
    """Several signals, and whether any of them is connected, where asking each costs too much.

    The owner of a group refreshes it when connections of its signals come or go.

    Args:
        signals: At least one.
    """

    __slots__ = ("is_connected", "signals")

    def __init__(self, *signals: Signal) -> None:
        self.signals: tuple[Signal, ...] = signals
        self.is_connected: bool = False
        """Whether any of the signals has a connection, to any sender."""

    def refresh(self) -> None:
        """Update ``is_connected``."""
        self.is_connected = any(signal.is_connected for signal in self.signals)


def _is_receiver(thing: Any) -> bool:
    """Whether the only argument is the receiver of ``@signal`` without parentheses.

    A class is a sender instead.
    """
    return callable(thing) and not is_class(thing)

"""Signals whose receivers are checked by type checkers."""

# These methods accept less than those of a plain Signal, on purpose.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    Unpack,
    overload,
)

from aksara_signals.dispatch.receivers.naming import describe_receiver
from aksara_signals.dispatch.receivers.payload import Payload
from aksara_signals.dispatch.receivers.signature import Parameter, parameters_of
from aksara_signals.dispatch.signal import Signal
from aksara_signals.exceptions import InvalidOptionError
from aksara_signals.types import (
    Attribute,
    ConnectOptions,
    OtherOptions,
    ReceiverT,
    Responses,
    Sender,
    Senders,
    Side,
)

M = TypeVar("M")
N = TypeVar("N")
P = ParamSpec("P")
M_co = TypeVar("M_co", covariant=True)
Given_contra = TypeVar("Given_contra", contravariant=True)
Returned_co = TypeVar("Returned_co", covariant=True)
Item = TypeVar("Item")
V = TypeVar("V")
Transition: TypeAlias = "Mapping[str, tuple[Any, Any]] | None"
R = TypeVar("R")


# Receivers as type checkers see them. A receiver names the arguments it uses and takes the others
# as **kwargs, so each protocol calls it with every argument there is. Only sender and instance have
# types that are checked. These classes are never used at run time.


class _OfInstance(Protocol[Given_contra, Returned_co]):
    """``async def receiver(sender, instance, created, **kwargs)``."""

    def __call__(
        self,
        *,
        signal: Any,
        sender: type[Given_contra],
        instance: Given_contra,
        created: Any,
        update_fields: Any,
        session: Any,
        raw: Any,
        changes: Any,
        child: Any,
        relation_name: Any,
        passed_args: Any,
        action: Any,
        reverse: Any,
        model: Any,
        pk_set: Any,
        objects: Any,
        event: Any,
        provenance: Any,
        **kwargs: Any,
    ) -> Returned_co: ...


class _OfInstanceByPosition(Protocol[Given_contra, Returned_co]):
    """``lambda s, i, **kwargs: …``: leading parameters with other names."""

    def __call__(
        self, sender: type[Given_contra], instance: Given_contra, /, *args: Any, **kwargs: Any
    ) -> Returned_co: ...


class _OfInstances(Protocol[Item, Returned_co]):
    """``async def receiver(sender, instances, **kwargs)``."""

    def __call__(
        self,
        *,
        signal: Any,
        sender: type[Item],
        instances: list[Item],
        fields: Any,
        session: Any,
        raw: Any,
        event: Any,
        provenance: Any,
        **kwargs: Any,
    ) -> Returned_co: ...


class ModelConnector(Protocol[M_co]):
    """The type of ``@post_save(Post)``: a decorator that returns the receiver."""

    @overload
    def __call__(self, receiver: _OfInstance[M_co, R], /) -> Callable[..., R]: ...

    @overload
    def __call__(self, receiver: _OfInstanceByPosition[M_co, R], /) -> Callable[..., R]: ...


class BulkConnector(Protocol[Item]):
    """The type of ``@post_bulk_create(Post)``: a decorator that returns the receiver."""

    def __call__(self, receiver: _OfInstances[Item, R], /) -> Callable[..., R]:
        """Connect the receiver."""
        ...


class ModelSignal(Signal):
    """A signal that model classes send for one instance.

    A type checker compares the type of ``instance``, in a receiver that ``@post_save(Post)``
    decorates, with ``Post``. If the attributes of a transition are given themselves and have one
    type, it compares the values with that type instead. At run time it is a plain :class:`Signal`.
    """

    @overload  # type: ignore[override]  # narrower than a plain Signal
    def __call__(
        self,
        sender: type[M],
        /,
        *,
        transition: Transition = None,
        **options: Unpack[OtherOptions],
    ) -> ModelConnector[M]: ...

    @overload
    def __call__(
        self,
        sender: type[M],
        /,
        *,
        transition: Mapping[Attribute[V], tuple[Side[V], Side[V]]],
        **options: Unpack[OtherOptions],
    ) -> Callable[[ReceiverT], ReceiverT]: ...

    @overload
    def __call__(
        self,
        sender: type[M],
        other: type[N],
        /,
        *,
        transition: Transition = None,
        **options: Unpack[OtherOptions],
    ) -> ModelConnector[M | N]: ...

    @overload
    def __call__(
        self,
        *given: str | Attribute[Any] | Collection[Any] | Iterator[Any] | None,
        sender: Senders = None,
        senders: Senders = None,
        transition: Transition = None,
        **options: Unpack[OtherOptions],
    ) -> Callable[[ReceiverT], ReceiverT]: ...

    @overload
    def __call__(self, receiver: ReceiverT, /) -> ReceiverT: ...

    @overload
    def __call__(
        self,
        *given: Any,
        sender: Senders = None,
        senders: Senders = None,
        transition: Transition = None,
        **options: Unpack[OtherOptions],
    ) -> Any: ...

    def __call__(self, *given: Any, **options: Any) -> Any:
        """As :meth:`Signal.__call__ <aksara_signals.Signal.__call__>`."""
        return super().__call__(*given, **options)


class BulkSignal(Signal):
    """A signal that model classes send for a list of instances; see :class:`ModelSignal`."""

    @overload  # type: ignore[override]  # narrower than a plain Signal
    def __call__(
        self, sender: type[M], /, **options: Unpack[ConnectOptions]
    ) -> BulkConnector[M]: ...

    @overload
    def __call__(
        self,
        *given: str | Collection[Any] | Iterator[Any] | None,
        sender: Senders = None,
        senders: Senders = None,
        **options: Unpack[ConnectOptions],
    ) -> Callable[[ReceiverT], ReceiverT]: ...

    @overload
    def __call__(self, receiver: ReceiverT, /) -> ReceiverT: ...

    @overload
    def __call__(self, *given: Any, **options: Any) -> Any: ...

    def __call__(self, *given: Any, **options: Any) -> Any:
        """As :meth:`Signal.__call__ <aksara_signals.Signal.__call__>`."""
        return super().__call__(*given, **options)


class TypedSignal(Signal, Generic[P]):
    """A signal whose sends and receivers are checked against an example: :func:`typed_signal`."""

    if TYPE_CHECKING:

        async def send(self, /, *args: P.args, **payload: P.kwargs) -> Responses:
            """As :meth:`Signal.send <aksara_signals.Signal.send>`, typed as the example."""
            ...

        async def send_robust(self, /, *args: P.args, **payload: P.kwargs) -> Responses:
            """As :meth:`Signal.send_robust <aksara_signals.Signal.send_robust>`."""
            ...

        def send_sync(self, /, *args: P.args, **payload: P.kwargs) -> Responses:
            """As :meth:`Signal.send_sync <aksara_signals.Signal.send_sync>`."""
            ...

        def send_robust_sync(self, /, *args: P.args, **payload: P.kwargs) -> Responses:
            """As :meth:`Signal.send_robust_sync <aksara_signals.Signal.send_robust_sync>`."""
            ...

    @overload  # type: ignore[override]  # narrower than a plain Signal
    def connect(
        self,
        receiver: Callable[P, N],
        sender: Senders = None,
        *,
        senders: Senders = None,
        **options: Unpack[ConnectOptions],
    ) -> Callable[..., N]: ...

    @overload
    def connect(
        self,
        receiver: None = None,
        sender: Senders = None,
        *,
        senders: Senders = None,
        **options: Unpack[ConnectOptions],
    ) -> Callable[[Callable[P, N]], Callable[..., N]]: ...

    def connect(self, receiver: Any = None, sender: Senders = None, **options: Any) -> Any:
        """As :meth:`Signal.connect <aksara_signals.Signal.connect>`."""
        return super().connect(receiver, sender, **options)

    def __call__(  # type: ignore[override]  # narrower than a plain Signal
        self,
        *given: Sender,
        sender: Senders = None,
        senders: Senders = None,
        **options: Unpack[ConnectOptions],
    ) -> Callable[[Callable[P, N]], Callable[..., N]]:
        """As :meth:`Signal.__call__ <aksara_signals.Signal.__call__>`."""
        decorate: Any = super().__call__(*given, sender=sender, senders=senders, **options)
        return decorate  # type: ignore[no-any-return]  # what a checker knows as one of these


def typed_signal(example: Callable[P, object], /) -> TypedSignal[P]:
    """Make a signal from an example function with the signature of a receiver. It is never called.

    The first parameter is ``sender``; the others are the payload. A parameter with a default is
    optional: unless it is sent, receivers get the default. The signal has the function's name and
    documentation.

    >>> import asyncio
    >>> @typed_signal
    ... def order_paid(sender: type, *, amount: int, currency: str = "EUR") -> None:
    ...     "An order has been paid."
    >>> @order_paid.connect
    ... async def thank(sender: type, amount: int, currency: str, **kwargs: object) -> str:
    ...     return f"{amount} {currency}"
    >>> [(_, response)] = asyncio.run(order_paid.send(int, amount=5))
    >>> response
    '5 EUR'

    Raises:
        InvalidOptionError: The example is not a function, its first parameter is not ``sender``, or
            other parameters may be passed by position.
    """
    parameters = _parameters_of(example)
    names = [each.name for each in parameters]
    if names[:1] != ["sender"] or not all(each.is_by_keyword for each in parameters[1:]):
        raise InvalidOptionError(
            f"typed_signal() was given {describe_receiver(example)}; it takes an example such as "
            f"'def order_paid(sender: type[Order], *, amount: int) -> None', whose first parameter "
            f"is sender and whose others are by keyword only"
        )
    defaults: dict[str, Any] = dict(getattr(example, "__kwdefaults__", None) or {})
    required = tuple(name for name in names[1:] if name not in defaults)
    return TypedSignal(
        getattr(example, "__name__", None),
        providing_args=Payload.of(required).with_defaults(defaults),
        doc=getattr(example, "__doc__", None),
    )


def _parameters_of(example: Any) -> list[Parameter]:
    """The parameters of an example; empty if it isn't callable or has no readable signature."""
    if not callable(example):
        return []
    try:
        return parameters_of(example)[0]
    except (TypeError, ValueError):  # something that isn't written in Python
        return []

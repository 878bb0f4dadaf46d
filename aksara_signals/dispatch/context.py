"""SignalContext: silence for the current task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Never, Self, TypeVar

from aksara_signals.dispatch.blocks import decorated
from aksara_signals.dispatch.receivers.identity import SenderKey, same_receiver, sender_key
from aksara_signals.dispatch.receivers.naming import describe_sender, shortened
from aksara_signals.dispatch.silenced import (
    models_of,
    receivers_of,
    require_can_send,
    require_classes,
    signals_of,
)
from aksara_signals.exceptions import InvalidOptionError
from aksara_signals.types import Receiver, Sender, Senders

CallableT = TypeVar("CallableT", bound=Callable[..., Any])

_active: ContextVar[tuple[SignalContext, ...]] = ContextVar(
    "aksara_signals_active_contexts", default=()
)
get_active_contexts: Callable[[], tuple[SignalContext, ...]] = _active.get
"""The contexts entered in the current task, outermost first."""

silence_observers: list[Callable[[Sender, Sequence[Any]], object]] = []
"""Called with a sender and the connections that are silenced for it, so that tests can say so."""


class SignalContext:
    """Silences signals for the current task: with ``with``, ``async with``, or as a decorator.

    ``SignalContext(Post)`` is :meth:`disable_for`; :meth:`disable_all` makes one for everybody. One
    context may be entered many times, at once and from many tasks: it keeps nothing about who has
    entered it. What it does is visible in the task that entered it and in the tasks and greenlets
    started inside; no other task or thread is silenced. Leaving it anywhere else than where it was
    entered, as FastAPI does with dependencies that ``yield``, does nothing there.

    Source: Aksara's ``SignalContext``. There only models can be named; here signals and receivers
    too.
    """

    __slots__ = ("_keys", "_known", "_receivers", "_signals")

    _keys: tuple[SenderKey, ...]
    _signals: tuple[Any, ...] | None
    _receivers: tuple[Receiver, ...] | None
    _known: dict[str, Callable[[], type | None]]
    """The names that have been found to be a class's, and the class."""

    def __init__(
        self,
        *models: Senders,
        signals: Iterable[Any] | None = None,
        receivers: Iterable[Receiver] | None = None,
        **unknown: Never,
    ) -> None:
        if unknown:
            raise InvalidOptionError(
                f"SignalContext was given {', '.join(map(shortened, unknown))}; models are given "
                f"by position, and besides them there are signals= and receivers="
            )
        flat = models_of(models)
        if not flat and signals is None and receivers is None:
            raise InvalidOptionError(
                "SignalContext was given nothing to silence; name models, signals= or receivers=, "
                "or use SignalContext.disable_all()"
            )
        self._signals = None if signals is None else signals_of(signals)
        self._receivers = None if receivers is None else receivers_of(receivers)
        for model in flat:
            require_can_send(model, self._signals)
        self._keys = tuple(sender_key(model) for model in flat)
        self._known = {}

    @classmethod
    def disable_for(
        cls,
        *models: Senders,
        signals: Iterable[Any] | None = None,
        receivers: Iterable[Receiver] | None = None,
        **unknown: Never,
    ) -> Self:
        """Silence models: every signal they and their subclasses send, built in or custom.

        Args:
            models: Classes, their names, or any other senders. None at all means every sender,
                and needs ``signals`` or ``receivers``.
            signals: Only these signals, instead of all.
            receivers: Only these receivers, instead of all.
            unknown: Nothing: there are no other arguments.

        Raises:
            InvalidOptionError: Neither models nor signals nor receivers are given, or something
                else is, or something is no signal or no receiver.
            InvalidSenderError: Something could never send what is to be silenced, such as an
                instance of a model or its table. A name may be given before its class exists; if
                no class has it when a block begins, entering the block raises this error.
        """
        return cls(*models, signals=signals, receivers=receivers, **unknown)

    @staticmethod
    def disable_all(*given: Never, **options: Never) -> SignalContext:
        """Silence every signal of every sender.

        Args:
            given: Nothing.
            options: Nothing.

        Raises:
            InvalidOptionError: Something is given, or it decorates without parentheses.
        """
        if given or options:
            raise InvalidOptionError(
                "disable_all() takes nothing, because it silences everybody; for some of them "
                "write SignalContext.disable_for(Post), and to decorate a function "
                "@SignalContext.disable_all()"
            )
        return _Everything()

    def silences(self, signal: Any, sender: Sender) -> bool:
        """Whether this context has a say in what ``sender`` sends through ``signal``."""
        if self._signals is not None and not any(signal is one for one in self._signals):
            return False
        return not self._keys or any(key.matches(sender, exact=False) for key in self._keys)

    def exempts(self, receiver: Receiver) -> bool:
        """Whether a receiver is called although its signal is silenced."""
        return self._receivers is not None and not any(
            same_receiver(receiver, one) for one in self._receivers
        )

    def __enter__(self) -> Self:
        if self._keys:
            require_classes(self._keys, self._signals, self._known)
        _active.set((*_active.get(), self))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        active = _active.get()
        for place in reversed(range(len(active))):
            if active[place] is self:
                _active.set(active[:place] + active[place + 1 :])
                break

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, exc, traceback)

    def __call__(self, function: CallableT) -> CallableT:
        """Decorate a function, sync or async, so that it runs inside this context.

        Raises:
            InvalidOptionError: It is a generator function: what it does between two ``yield``
                would leak to whoever iterates. Use ``with`` inside it. Or it is a class, or can't
                be called.
        """
        return decorated(function, lambda: self, "SignalContext")

    def __repr__(self) -> str:
        models = ", ".join(describe_sender(key.get()) for key in self._keys) or "every sender"
        return f"<SignalContext silencing {models}>"


class _Everything(SignalContext):
    """Silences everybody."""

    __slots__ = ()

    def __init__(self) -> None:
        self._keys, self._known = (), {}
        self._signals = self._receivers = None

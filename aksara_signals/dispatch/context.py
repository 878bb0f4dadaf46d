"""SignalContext: silence for the current task."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, TypeVar

from aksara_signals.dispatch.describing import describe_receiver, describe_sender
from aksara_signals.dispatch.identity import SenderKey, same_receiver, sender_key
from aksara_signals.exceptions import InvalidOptionError
from aksara_signals.types import Receiver, Sender

__all__ = ["SignalContext", "get_active_contexts"]

CallableT = TypeVar("CallableT", bound=Callable[..., Any])

_active: ContextVar[tuple[SignalContext, ...]] = ContextVar(
    "aksara_signals_active_contexts", default=()
)
get_active_contexts: Callable[[], tuple[SignalContext, ...]] = _active.get
"""The contexts entered in the current task, outermost first."""


class SignalContext:
    """Silences signals for the current task: with ``with``, ``async with``, or as a decorator.

    Made by :meth:`disable_for` and :meth:`disable_all`. One context may be entered many times, at
    once and from many tasks: it keeps nothing about who has entered it. What it does is visible in
    the task that entered it and in the tasks and greenlets started inside; no other task or thread
    is silenced. Leaving it anywhere else than where it was entered, as FastAPI does with
    dependencies that ``yield``, does nothing there.

    Source: Aksara's ``SignalContext``. There only models can be named; here signals and receivers
    too.
    """

    __slots__ = ("_keys", "_receivers", "_signals")

    def __init__(
        self,
        models: Iterable[Sender] = (),
        *,
        signals: Iterable[Any] | None = None,
        receivers: Iterable[Receiver] | None = None,
    ) -> None:
        self._keys: tuple[SenderKey, ...] = tuple(sender_key(model) for model in models)
        self._signals = None if signals is None else _signals(signals)
        self._receivers = None if receivers is None else _receivers(receivers)

    @classmethod
    def disable_for(
        cls,
        *models: Sender,
        signals: Iterable[Any] | None = None,
        receivers: Iterable[Receiver] | None = None,
    ) -> SignalContext:
        """Silence models: every signal they and their subclasses send, built in or custom.

        Args:
            models: Classes, their names, or any other senders. None at all means every sender,
                and needs ``signals`` or ``receivers``.
            signals: Only these signals, instead of all.
            receivers: Only these receivers, instead of all.

        Raises:
            InvalidOptionError: Neither models nor signals nor receivers are given, or something is
                no signal or no receiver.
        """
        flat: list[Sender] = []
        for model in models:
            flat.extend(
                model if issubclass(type(model), (list, tuple, set, frozenset)) else (model,)
            )
        if any(model is None for model in flat):
            raise InvalidOptionError(
                "SignalContext.disable_for() was given None as a model; "
                "use SignalContext.disable_all() to silence every sender"
            )
        if not flat and signals is None and receivers is None:
            raise InvalidOptionError(
                "SignalContext.disable_for() was given nothing to silence; name models, signals= "
                "or receivers=, or use SignalContext.disable_all()"
            )
        return cls(flat, signals=signals, receivers=receivers)

    @classmethod
    def disable_all(cls) -> SignalContext:
        """Silence every signal of every sender."""
        return cls()

    def silences(self, signal: Any, sender: Sender) -> bool:
        """Whether this context has a say in what ``sender`` sends through ``signal``."""
        if self._signals is not None and not any(signal is one for one in self._signals):
            return False
        return not self._keys or any(key.matches(sender, exact=False) for key in self._keys)

    def spares(self, receiver: Receiver) -> bool:
        """Whether a receiver is called although its signal is silenced."""
        return self._receivers is not None and not any(
            same_receiver(receiver, one) for one in self._receivers
        )

    def __enter__(self) -> Self:
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
            InvalidOptionError: The function is a generator: what it does between two ``yield``
                would leak to whoever iterates. Use ``with`` inside it.
        """
        import inspect

        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InvalidOptionError(
                f"SignalContext can't decorate the generator {describe_receiver(function)}; "
                f"use 'with SignalContext…:' inside it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def silenced_async(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return silenced_async  # type: ignore[return-value]  # wraps() keeps the signature

        @functools.wraps(function)
        def silenced(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return silenced  # type: ignore[return-value]  # wraps() keeps the signature

    def __repr__(self) -> str:
        models = ", ".join(describe_sender(key.get()) for key in self._keys) or "every sender"
        return f"<SignalContext silencing {models}>"


def _signals(given: Any) -> tuple[Any, ...]:
    from aksara_signals.dispatch.signal import Signal

    signals = _several(given, "signals")
    for each in signals:
        if not isinstance(each, Signal):
            raise InvalidOptionError(
                f"signals= was given {describe_sender(each)}, which is no signal and would silence "
                f"nothing; give signals themselves, as in disable_for(Post, signals=[post_save])"
            )
    return signals


def _receivers(given: Any) -> tuple[Receiver, ...]:
    receivers = _several(given, "receivers")
    for each in receivers:
        if not callable(each):
            raise InvalidOptionError(
                f"receivers= was given {describe_sender(each)}, which is no receiver and would "
                f"silence nothing; give what was connected"
            )
    return receivers


def _several(things: Any, option: str) -> tuple[Any, ...]:
    if not issubclass(type(things), (list, tuple, set, frozenset)):
        things = (things,)
    if not things:
        raise InvalidOptionError(f"{option}= is empty and would silence nothing; leave it out")
    return tuple(things)

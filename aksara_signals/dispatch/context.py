"""SignalContext: silences signals for the current task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Never, Self

from aksara_signals.dispatch.blocks import EveryBlock
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

_active: ContextVar[tuple[SignalContext, ...]] = ContextVar(
    "aksara_signals_active_contexts", default=()
)
get_active_contexts: Callable[[], tuple[SignalContext, ...]] = _active.get
"""The contexts entered in the current task, outermost first."""

silence_observers: list[Callable[[Any, Sender, Sequence[Any], SignalContext], object]] = []
"""Called with a signal, a sender, the connections that are silenced for it, and the context that
silences them, so that somebody can be shown them. A flush asks once for each class."""


class SignalContext(EveryBlock["SignalContext"]):
    """Silences signals for the current task: by ``with``, ``async with``, or as a decorator.

    ``SignalContext(Post)`` is the same as :meth:`disable_for`; :meth:`disable_all` silences every
    sender. A context silences the task that entered it and the tasks and greenlets started inside
    the block, but no other task or thread. It may be entered any number of times, by many tasks at
    once, because it stores nothing about where it was entered. Leaving it in another task than the
    one that entered it, as FastAPI does with dependencies that ``yield``, has no effect there.

    Source: Aksara's ``SignalContext``, which takes models only; this one takes signals and
    receivers as well.
    """

    __slots__ = ("__weakref__", "_keys", "_known", "_receivers", "_signals")

    _name = "SignalContext"
    _keys: tuple[SenderKey, ...]
    _signals: tuple[Any, ...] | None
    _receivers: tuple[Receiver, ...] | None
    _known: dict[str, Callable[[], type | None]]
    """The classes found so far for the senders that were given by name."""

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
                f"by position, and its other arguments are signals= and receivers="
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
            models: Classes, their names, or any other senders. Without any, every sender is
                meant; then ``signals`` or ``receivers`` must be given.
            signals: Only these signals, instead of all.
            receivers: Only these receivers, instead of all.
            unknown: Must be empty: there are no other arguments.

        Raises:
            InvalidOptionError: No model, signal or receiver is given, an unknown argument is, or
                one of ``signals`` or ``receivers`` is not a signal or not a receiver.
            InvalidSenderError: A model can never send what is to be silenced, as an instance of a
                model or its table can't. A name may be given before its class exists; if no class
                has it when a block begins, entering the block raises this error.
        """
        return cls(*models, signals=signals, receivers=receivers, **unknown)

    @staticmethod
    def disable_all(*given: Never, **options: Never) -> SignalContext:
        """Silence every signal of every sender.

        Args:
            given: Must be empty: there are no arguments.
            options: Must be empty as well.

        Raises:
            InvalidOptionError: An argument is given, or it is used as a decorator without
                parentheses.
        """
        if given or options:
            raise InvalidOptionError(
                "disable_all() takes no arguments, because it silences every sender; to silence "
                "some of them, write SignalContext.disable_for(Post), and to decorate a function, "
                "@SignalContext.disable_all()"
            )
        return _Everything()

    def silences(self, signal: Any, sender: Sender) -> bool:
        """Whether this context applies to ``signal`` sent by ``sender``."""
        if self._signals is not None and not any(signal is one for one in self._signals):
            return False
        return not self._keys or any(key.matches(sender, exact=False) for key in self._keys)

    def exempts(self, receiver: Receiver) -> bool:
        """Whether a receiver is called although this context applies to its signal."""
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

    def __repr__(self) -> str:
        models = ", ".join(describe_sender(key.get()) for key in self._keys) or "every sender"
        return f"<SignalContext silencing {models}>"


class _Everything(SignalContext):
    """Silences every sender."""

    __slots__ = ()

    def __init__(self) -> None:
        self._keys, self._known = (), {}
        self._signals = self._receivers = None

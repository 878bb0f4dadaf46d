"""``Model.signals``: the built-in and custom signals of one model."""

from __future__ import annotations

import difflib
import weakref
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from aksara_signals import signals as built_in
from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.receivers.naming import describe_sender, shortened
from aksara_signals.dispatch.signal import Signal
from aksara_signals.dispatch.synonyms import missing_word
from aksara_signals.exceptions import InvalidOptionError, UnknownSignalError
from aksara_signals.types import Receiver, ReceiverT, Responses

NEARLY = 0.8
"""From which similarity a name counts as a misspelt one: ``post_sav`` does, ``on_save`` doesn't."""

_custom: weakref.WeakKeyDictionary[type, dict[str, Signal]] = weakref.WeakKeyDictionary()


class BoundSignal:
    """A built-in signal whose sender is one model.

    Source: ormar's ``Model.Meta.signals``, where each model has signals of its own. Here it is the
    signal of :mod:`aksara_signals.signals`, with the sender filled in.
    """

    __slots__ = ("model", "signal")

    def __init__(self, signal: Signal, model: type) -> None:
        self.signal: Signal = signal
        """The signal itself."""
        self.model: type = model
        """The sender that is filled in."""

    @property
    def name(self) -> str | None:
        """The signal's name."""
        return self.signal.name

    def __repr__(self) -> str:
        return f"<{self.signal!r} of {describe_sender(self.model)}>"

    if not TYPE_CHECKING:  # a type checker would accept any attribute

        def __getattr__(self, name: str) -> Any:
            if not name.startswith("_") and hasattr(Signal, name):
                raise AttributeError(
                    f"a model's signal has no attribute {name!r}; the signal itself has it, as in "
                    f"post_save.{name}, where the model is given as the sender",
                    name=name,
                    obj=self,
                )
            raise missing_word("a model's signal", name, dir(type(self)), self)

    def connect(self, receiver: Receiver | None = None, **options: Any) -> Any:
        """Connect a receiver to this model; see :meth:`~aksara_signals.Signal.connect`.

        It can be used as a decorator.

        Raises:
            InvalidOptionError: Another sender than this model is given.
        """
        return self.signal.connect(receiver, self.model, **self._without_sender(options))

    def __call__(self, receiver: Receiver | None = None, **options: Any) -> Any:
        """``@Model.signals.post_save`` and ``@Model.signals.post_save(priority=1)``."""
        return self.connect(receiver, **options)

    def disconnect(self, receiver: Receiver | None = None, **options: Any) -> bool:
        """Undo :meth:`connect`; see :meth:`~aksara_signals.Signal.disconnect`."""
        return self.signal.disconnect(receiver, self.model, **self._without_sender(options))

    def _without_sender(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options without the sender, which may only be this model.

        Raises:
            InvalidOptionError: Another sender was given.
        """
        for option in ("sender", "senders"):
            if option in options and options.pop(option) is not self.model:
                raise InvalidOptionError(
                    f"{self.signal.display_name} of {describe_sender(self.model)} was given "
                    f"{option}=, and it has its sender already; leave it out, or connect to the "
                    f"signal itself"
                )
        return options

    def connected_to(
        self, receiver: ReceiverT, **options: Any
    ) -> AbstractContextManager[ReceiverT]:
        """Connect for a block; see :meth:`~aksara_signals.Signal.connected_to`."""
        return self.signal.connected_to(receiver, self.model, **self._without_sender(options))

    async def send(self, /, sender: Any = None, **payload: Any) -> Responses:
        """Send by hand; the sender is this model unless another is given."""
        return await self.signal.send(self._sender(sender), **payload)

    async def send_robust(self, /, sender: Any = None, **payload: Any) -> Responses:
        """As :meth:`send`, but every receiver runs.

        See :meth:`~aksara_signals.Signal.send_robust`.
        """
        return await self.signal.send_robust(self._sender(sender), **payload)

    def send_sync(self, /, sender: Any = None, **payload: Any) -> Responses:
        """As :meth:`send`, from code that can't await.

        See :meth:`~aksara_signals.Signal.send_sync`.
        """
        return self.signal.send_sync(self._sender(sender), **payload)

    def send_robust_sync(self, /, sender: Any = None, **payload: Any) -> Responses:
        """As :meth:`send_robust`, from code that can't await."""
        return self.signal.send_robust_sync(self._sender(sender), **payload)

    def _sender(self, given: Any) -> Any:
        return self.model if given is None else given

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The connections that this model's sends reach, in call order."""
        return self.signal.connections_for(self.model)

    @property
    def receivers(self) -> list[Receiver]:
        """The receivers that are called for this model, in call order."""
        return self.signal.receivers_for(self.model)

    def has_receivers(self) -> bool:
        """Whether any receiver is called for this model."""
        return self.signal.has_receivers(self.model)

    has_listeners = has_receivers
    """Django's name for :meth:`has_receivers`."""


class Emitter:
    """The signals of one model, as attributes.

    Built-in signals are bound to the model. Any other name is a custom signal of the model and its
    subclasses: assigned (``User.signals.on_verify = Signal()``), or created at the first access.
    Names that look like misspelt built-in signals raise, and so do names of a signal's own methods:
    ``User.signals.connect``.

    Source: ormar's ``SignalEmitter``, which creates a signal for any misspelling.
    """

    __slots__ = ("_model",)

    def __init__(self, model: type) -> None:
        object.__setattr__(self, "_model", model)

    def __getattr__(self, name: str) -> Any:
        model: type = self._model
        if name in built_in.__all__:
            return BoundSignal(getattr(built_in, name), model)
        for cls in model.__mro__:
            found = _custom.get(cls, {}).get(name)
            if found is not None:
                return found
        self._require_new_name(name)
        # If several threads are first at the same time, all of them get the same signal.
        signal = Signal(f"{model.__name__}.{name}")
        return _custom.setdefault(model, {}).setdefault(name, signal)

    def __setattr__(self, name: str, signal: Any) -> None:
        if not isinstance(signal, Signal):
            raise InvalidOptionError(
                f"{self._model.__name__}.signals.{name} was given {describe_sender(signal)}; "
                f"assign a Signal()"
            )
        if name in built_in.__all__:
            raise InvalidOptionError(
                f"{self._model.__name__}.signals.{name} is built in and can't be replaced; choose "
                f"another name for a signal of your own"
            )
        self._require_new_name(name)
        _custom.setdefault(self._model, {})[name] = signal

    def __delattr__(self, name: str) -> None:
        if _custom.get(self._model, {}).pop(name, None) is None:
            raise UnknownSignalError(
                f"{self._model.__name__} has no custom signal {name!r} of its own to delete"
            )

    def __dir__(self) -> list[str]:
        own = {name for cls in self._model.__mro__ for name in _custom.get(cls, ())}
        return sorted({*built_in.__all__, *own})

    def __repr__(self) -> str:
        return f"<Emitter of {describe_sender(self._model)}>"

    def _require_new_name(self, name: str) -> None:
        if name.startswith("_"):
            raise UnknownSignalError(
                f"{self._model.__name__}.signals has no {name!r}: names of signals don't begin "
                f"with an underscore"
            )
        if callable(getattr(Signal, name, None)) or name == "connections":
            raise UnknownSignalError(
                f"{self._model.__name__}.signals has no {shortened(name)}: each signal has "
                f"it, as in {self._model.__name__}.signals.post_save.{name}; a signal of your own "
                f"needs another name"
            )
        close = difflib.get_close_matches(name.lower(), built_in.__all__, n=1, cutoff=NEARLY)
        if close:
            raise UnknownSignalError(
                f"{self._model.__name__}.signals has no {name!r}; did you mean {close[0]!r}? A "
                f"signal of your own needs a less similar name"
            )


class EmitterAttribute:
    """``Model.signals`` and ``instance.signals``: the emitter of the class."""

    def __get__(self, instance: object, owner: type) -> Emitter:
        return Emitter(owner)

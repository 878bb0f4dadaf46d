"""Recording what is sent, and saying in a failure what was sent instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from math import inf
from types import TracebackType
from typing import Any, NoReturn, TypeAlias, overload

from aksara_signals import all_signals, lookup
from aksara_signals.dispatch.delivery.frame import key_of
from aksara_signals.dispatch.receivers.identity import type_name
from aksara_signals.dispatch.receivers.naming import describe_sender, shortened
from aksara_signals.dispatch.receivers.several import members_of
from aksara_signals.dispatch.signal import Signal
from aksara_signals.exceptions import InvalidOptionError, InvalidSenderError
from aksara_signals.testing.circumstances import Circumstances
from aksara_signals.types import Receiver, Sender, Senders

__all__ = ["Call", "Calls", "capture_signals"]

AnySignal: TypeAlias = Signal | str
"""A signal, or its name."""

_ANY = object()


class Call:
    """One send, as a receiver saw it. The payload is read as attributes: ``call.instance``."""

    def __init__(self, signal: Signal, sender: Sender, payload: dict[str, Any]) -> None:
        self.signal: Signal = signal
        self.sender: Sender = sender
        self.kwargs: dict[str, Any] = payload
        """The whole payload."""

    def __getattr__(self, name: str) -> Any:
        try:
            return vars(self)["kwargs"][name]
        except KeyError:
            raise AttributeError(
                f"{self.signal.display_name} was sent without {name}; it was sent with "
                f"{', '.join(self.kwargs) or 'nothing'}"
            ) from None

    def __repr__(self) -> str:
        payload = (f", {name}={_shown(value)}" for name, value in self.kwargs.items())
        return f"{self.signal.display_name}({describe_sender(self.sender)}{''.join(payload)})"


def _shown(value: Any) -> str:
    """A value for a message: class and key of an instance, never its columns."""
    if value is None or isinstance(value, (bool, int, float, str, bytes, type)):
        return shortened(value)
    key = key_of(value)
    return f"<{type_name(value)}{f' {key}' if key else ''}>"


class Calls(Sequence[Call]):
    """The sends that were captured, in order, with the assertions of ``unittest.mock``.

    Each assertion takes a signal, where several are captured; those with a payload look at the
    arguments that they are given, and leave the others alone.
    """

    def __init__(
        self, calls: list[Call] | None = None, circumstances: Circumstances | None = None
    ) -> None:
        self._calls: list[Call] = [] if calls is None else calls
        self._circumstances = circumstances

    # -- looking -------------------------------------------------------------------------------

    @overload
    def __getitem__(self, index: int) -> Call: ...

    @overload
    def __getitem__(self, index: slice) -> Calls: ...

    def __getitem__(self, index: int | slice) -> Call | Calls:
        if isinstance(index, slice):
            return Calls(self._calls[index], self._circumstances)
        try:
            return self._calls[index]
        except IndexError:
            raise IndexError(f"there is no call {index}; {self._what_was_sent()}") from None
        except TypeError:
            raise InvalidOptionError(
                f"calls[{describe_sender(index)}] means nothing: calls are numbered; "
                f"calls.of(signal) gives those of one signal"
            ) from None

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(self._calls)

    def __repr__(self) -> str:
        return f"<Calls {self._calls!r}>"

    @property
    def called(self) -> bool:
        """Whether anything was sent."""
        return bool(self._calls)

    @property
    def call_count(self) -> int:
        """How many sends there were."""
        return len(self._calls)

    @property
    def signals(self) -> list[Signal]:
        """The signal of each send, in order."""
        return [call.signal for call in self._calls]

    @property
    def names(self) -> list[str]:
        """The name of each send's signal, in order."""
        return [call.signal.display_name for call in self._calls]

    def of(self, signal: AnySignal | None = None, sender: Any = _ANY) -> Calls:
        """The sends of one signal, by one sender, or both.

        Raises:
            InvalidOptionError: What was given is neither a signal nor a name.
            UnknownSignalError: No signal has the name.
        """
        if signal is not None:
            self._require_signal(signal)
        return Calls(
            [
                call
                for call in self._calls
                if (signal is None or signal is call.signal or signal == call.signal.name)
                and (sender is _ANY or call.sender is sender)
            ],
            self._circumstances,
        )

    def reset_mock(self) -> None:
        """Forget the sends so far."""
        self._calls.clear()

    # -- asserting -----------------------------------------------------------------------------

    def assert_called(self, signal: AnySignal | None = None) -> None:
        """Assert that there was a send."""
        if not self.of(signal):
            self._fail(f"{_named(signal)} was not sent")

    def assert_called_once(self, signal: AnySignal | None = None) -> None:
        """Assert that there was one send."""
        count = len(self.of(signal))
        if count != 1:
            self._fail(f"{_named(signal)} was sent {_times(count)} instead of once")

    def assert_not_called(self, signal: AnySignal | None = None) -> None:
        """Assert that there was no send."""
        count = len(self.of(signal))
        if count:
            self._fail(f"{_named(signal)} was sent {_times(count)} instead of never")

    def assert_called_with(
        self, signal: AnySignal | None = None, /, sender: Any = _ANY, **payload: Any
    ) -> None:
        """Assert that the last send had this sender and, among its payload, these arguments."""
        calls = self.of(signal)
        if not calls or not _matches(calls[-1], sender, payload):
            self._fail(f"the last send was not {_expected(signal, sender, payload)}")

    def assert_called_once_with(
        self, signal: AnySignal | None = None, /, sender: Any = _ANY, **payload: Any
    ) -> None:
        """Assert that there was one send, and that it was like this."""
        self.assert_called_once(signal)
        self.assert_called_with(signal, sender, **payload)

    def assert_any_call(
        self, signal: AnySignal | None = None, /, sender: Any = _ANY, **payload: Any
    ) -> None:
        """Assert that one of the sends was like this."""
        if not any(_matches(call, sender, payload) for call in self.of(signal)):
            self._fail(f"no send was {_expected(signal, sender, payload)}")

    def assert_order(self, *signals: AnySignal) -> None:
        """Assert that exactly these signals were sent, in this order."""
        for each in signals:
            self._require_signal(each)
        wanted = [_named(each) for each in signals]
        if self.names != wanted:
            self._fail(f"expected were {', '.join(wanted) or 'no sends'}, in this order")

    def _require_signal(self, signal: Any) -> None:
        """Refuse what is no signal, and a name that none has: it was never sent, and never will."""
        if not isinstance(signal, Signal) and signal not in self.names:
            _signal_of(signal, "calls")

    def _fail(self, problem: str) -> None:
        __tracebackhide__ = True
        raise AssertionError(f"{problem}; {self._what_was_sent()}")

    def _what_was_sent(self) -> str:
        lines = [f"{number}. {call!r}" for number, call in enumerate(self._calls, 1)]
        if self._circumstances is not None:
            lines += self._circumstances.explain()
        said = "sent was:" if self._calls else "nothing was sent"
        return "\n  ".join((said, *lines))


def _named(signal: AnySignal | None) -> str:
    if signal is None:
        return "a signal"
    return signal if isinstance(signal, str) else signal.display_name


def _signal_of(given: Any, whose: str) -> Signal:
    """A signal, given itself or by its name.

    Raises:
        InvalidOptionError: It is neither.
        UnknownSignalError: No signal has the name.
    """
    if isinstance(given, Signal):
        return given
    if isinstance(given, str):
        return lookup(given)
    raise InvalidOptionError(
        f"{whose} was given {describe_sender(given)}, which is no signal; give signals or their "
        f"names, such as post_save; whose sends is said by sender="
    )


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _matches(call: Call, sender: Any, payload: dict[str, Any]) -> bool:
    if sender is not _ANY and call.sender is not sender:
        return False
    return all(
        name in call.kwargs and (call.kwargs[name] is value or call.kwargs[name] == value)
        for name, value in payload.items()
    )


def _expected(signal: AnySignal | None, sender: Any, payload: dict[str, Any]) -> str:
    parts = [] if sender is _ANY else [describe_sender(sender)]
    parts += [f"{name}={_shown(value)}" for name, value in payload.items()]
    return f"{_named(signal)}({', '.join(parts)})"


class capture_signals:  # noqa: N801 - used like a function, as contextlib's are
    """Record what is sent inside a ``with`` or an ``async with`` block.

    >>> from aksara_signals import Signal
    >>> order_paid = Signal("order_paid")
    >>> with capture_signals(order_paid) as calls:
    ...     _ = order_paid.send_sync("shop", amount=5)
    >>> calls[0].amount
    5
    >>> calls.assert_called_once_with(order_paid, sender="shop", amount=6)
    Traceback (most recent call last):
    AssertionError: the last send was not order_paid('shop', amount=6); sent was:
      1. order_paid('shop', amount=5)

    Sends are recorded before other receivers run, so that one which raises hides nothing. What a
    ``SignalContext`` silences isn't sent. The recorder is a receiver like others, so it stands
    first among the responses of a send; it is disconnected at the end, exactly; the
    calls stay.

    Args:
        signals: Signals or their names, each alone or in a list; without any, every signal that
            there is.
        sender: Whose sends; None means everybody's.

    Raises:
        InvalidOptionError: Something is neither a signal nor a name, or a list is empty.
        UnknownSignalError: No signal has a name, when the block begins.
    """

    def __init__(self, *signals: AnySignal | Iterable[AnySignal], sender: Senders = None) -> None:
        self._signals: list[AnySignal] = []
        for given in signals:
            members = members_of(given)
            if members == ():
                raise InvalidOptionError(
                    "capture_signals() was given an empty list of signals; give at least one, or "
                    "nothing at all for every signal"
                )
            for each in (given,) if members is None else members:
                is_name = isinstance(each, str)  # of a signal that may be made later
                self._signals.append(each if is_name else _signal_of(each, "capture_signals()"))
        senders = members_of(sender)  # an iterator would be used up by the first signal
        self._sender = sender if senders is None else list(senders)
        self._undo = ExitStack()

    def __call__(self, _: object) -> NoReturn:
        """Never decorates.

        Raises:
            InvalidOptionError: Always: nobody would be given the calls.
        """
        raise InvalidOptionError(
            "capture_signals() can't decorate, because it gives the calls to its block; write "
            "'with capture_signals(…) as calls'"
        )

    def __enter__(self) -> Calls:
        calls: list[Call] = []
        recorders: list[Receiver] = []
        circumstances = Circumstances(
            # What is called after a commit may send any signal.
            concerns=lambda receiver: any(receiver is each for each in recorders),
            concerns_queued=lambda _: True,
        )
        signals = [_signal_of(each, "capture_signals()") for each in self._signals]
        with ExitStack() as connected:  # which undoes all, if one of them refuses the sender
            refusal: InvalidSenderError | None = None
            for signal in dict.fromkeys(signals or all_signals()):
                recorder = _recorder(calls)
                try:
                    connected.enter_context(
                        signal.connected_to(recorder, self._sender, priority=inf)
                    )
                    recorders.append(recorder)
                except InvalidSenderError as error:  # it isn't sent by such a sender
                    refusal = error
            if refusal is not None and (signals or not recorders):
                raise refusal
            circumstances.begin()
            connected.callback(circumstances.end)
            self._undo.push(connected.pop_all())
        return Calls(calls, circumstances)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._undo.close()

    async def __aenter__(self) -> Calls:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, exc, traceback)


def _recorder(calls: list[Call]) -> Callable[..., None]:
    def record(signal: Signal, sender: Sender, **payload: Any) -> None:
        calls.append(Call(signal, sender, payload))

    return record

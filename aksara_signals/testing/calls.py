"""The sends that were captured, and assertions that say in a failure what was sent instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, overload

from aksara_signals import lookup
from aksara_signals.dispatch.delivery.frame import key_of
from aksara_signals.dispatch.receivers.identity import type_name
from aksara_signals.dispatch.receivers.naming import describe_sender, shortened
from aksara_signals.dispatch.signal import Signal
from aksara_signals.exceptions import InvalidOptionError
from aksara_signals.testing.circumstances import Circumstances
from aksara_signals.types import Sender

__all__ = ["AnySignal", "Call", "Calls", "signal_given"]

AnySignal: TypeAlias = Signal | str
"""A signal, or its name."""

_ANY = object()


def signal_given(given: Any, whose: str) -> Signal:
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
        f"{whose} was given {describe_sender(given)}, which is not a signal; give signals or their "
        f"names, such as post_save, and give a sender as sender="
    )


class Call:
    """One send, as a receiver gets it. The payload is read as attributes: ``call.instance``."""

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
    """A value for a message: the class and the key of an instance, never its columns."""
    if value is None or isinstance(value, (bool, int, float, str, bytes, type)):
        return shortened(value)
    key = key_of(value)
    return f"<{type_name(value)}{f' {key}' if key else ''}>"


class Calls(Sequence[Call]):
    """The sends that were captured, in order, with the assertions of ``unittest.mock``.

    Each assertion takes a signal, for when several are captured. Assertions about a payload compare
    only the arguments that they are given.
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
                f"calls[{describe_sender(index)}] has no meaning: an index is a number; "
                f"calls.of(signal) returns the calls of one signal"
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
        """The sends of one signal, of one sender, or of one signal by one sender.

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
        """Assert that there was at least one send."""
        if not self.of(signal):
            self._fail(f"{_named(signal)} was not sent")

    def assert_called_once(self, signal: AnySignal | None = None) -> None:
        """Assert that there was exactly one send."""
        count = len(self.of(signal))
        if count != 1:
            self._fail(f"{_named(signal)} was expected once, and was {_sent(count)}")

    def assert_not_called(self, signal: AnySignal | None = None) -> None:
        """Assert that there was no send."""
        count = len(self.of(signal))
        if count:
            self._fail(f"{_named(signal)} was not expected, and was {_sent(count)}")

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
        """Assert that there was exactly one send, with this sender and these arguments."""
        self.assert_called_once(signal)
        self.assert_called_with(signal, sender, **payload)

    def assert_any_call(
        self, signal: AnySignal | None = None, /, sender: Any = _ANY, **payload: Any
    ) -> None:
        """Assert that one of the sends had this sender and these arguments."""
        if not any(_matches(call, sender, payload) for call in self.of(signal)):
            self._fail(f"no send was {_expected(signal, sender, payload)}")

    def assert_order(self, *signals: AnySignal) -> None:
        """Assert that exactly these signals were sent, in this order."""
        for each in signals:
            self._require_signal(each)
        wanted = [_named(each) for each in signals]
        if self.names != wanted:
            self._fail(f"expected {', '.join(wanted) or 'no sends'}, in this order")

    def _require_signal(self, signal: Any) -> None:
        """Raise if this is not a signal, or is a name that no signal has: it can never be sent."""
        if not isinstance(signal, Signal) and signal not in self.names:
            signal_given(signal, "calls")

    def _fail(self, problem: str) -> None:
        __tracebackhide__ = True
        raise AssertionError(f"{problem}; {self._what_was_sent()}")

    def _what_was_sent(self) -> str:
        lines = [f"{number}. {call!r}" for number, call in enumerate(self._calls, 1)]
        if self._circumstances is not None:
            lines += self._circumstances.explain()
        said = "what was sent:" if self._calls else "nothing was sent"
        return "\n  ".join((said, *lines))


def _named(signal: AnySignal | None) -> str:
    if signal is None:
        return "a signal"
    return signal if isinstance(signal, str) else signal.display_name


def _sent(count: int) -> str:
    return {0: "not sent", 1: "sent once", 2: "sent twice"}.get(count, f"sent {count} times")


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

"""Recording what is sent in a block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from math import inf
from typing import Any

from aksara_signals import all_signals
from aksara_signals.dispatch.blocks import Block
from aksara_signals.dispatch.receivers.several import members_of
from aksara_signals.dispatch.signal import Signal
from aksara_signals.exceptions import InvalidOptionError, InvalidSenderError
from aksara_signals.testing.calls import AnySignal, Call, Calls, signal_given
from aksara_signals.testing.circumstances import Circumstances
from aksara_signals.types import Receiver, Sender, Senders

__all__ = ["capture_signals"]


def capture_signals(
    *signals: AnySignal | Iterable[AnySignal], sender: Senders = None, statements: bool = False
) -> Block[Calls]:
    """Record what is sent inside a ``with`` or an ``async with`` block.

    >>> from aksara_signals import Signal
    >>> order_paid = Signal("order_paid")
    >>> with capture_signals(order_paid) as calls:
    ...     _ = order_paid.send_sync("shop", amount=5)
    >>> calls[0].amount
    5
    >>> calls.assert_called_once_with(order_paid, sender="shop", amount=6)
    Traceback (most recent call last):
    AssertionError: the last send was not order_paid('shop', amount=6); what was sent:
      1. order_paid('shop', amount=5)

    Sends are recorded before other receivers run, so a receiver that raises hides nothing. What a
    ``SignalContext`` silences isn't sent. The recorder is a receiver like any other, so its
    response comes first among those of a send. At the end it is disconnected, and nothing else is;
    the calls remain.

    Args:
        signals: Signals or their names, each alone or in a list; without any, every signal.
        sender: Record only what this sender sends; None records every sender.
        statements: Record the rows of ORM statements as well, as a receiver with
            ``statements=True`` gets them: they are returned by the statements.

    Raises:
        InvalidOptionError: Something is neither a signal nor a name, or a list is empty.
        UnknownSignalError: When the block begins, no signal has one of the names.
    """
    wanted: list[AnySignal] = []
    for given in signals:
        members = members_of(given)
        if members == ():
            raise InvalidOptionError(
                "capture_signals() was given an empty list of signals; give at least one, or "
                "nothing at all for every signal"
            )
        for each in (given,) if members is None else members:
            is_name = isinstance(each, str)  # of a signal that may be made later
            wanted.append(each if is_name else signal_given(each, "capture_signals()"))
    senders = members_of(sender)  # an iterator would be used up by the first signal
    return Block(
        partial(_captured, wanted, sender if senders is None else list(senders), statements),
        "capture_signals()",
        undecorated="it gives the calls to its block; write 'with capture_signals(…) as calls'",
    )


@contextmanager
def _captured(wanted: list[AnySignal], sender: Senders, statements: bool) -> Iterator[Calls]:
    calls: list[Call] = []
    recorders: list[Receiver] = []
    circumstances = Circumstances(
        # A receiver that is called after the commit may send any signal.
        concerns=lambda receiver: any(receiver is each for each in recorders),
        concerns_queued=lambda _: True,
    )
    signals = [signal_given(each, "capture_signals()") for each in wanted]
    with ExitStack() as connected:  # disconnects all, also if one of them rejects the sender
        wrong_sender: InvalidSenderError | None = None
        for signal in dict.fromkeys(signals or all_signals()):
            recorder = _recorder(calls)
            has_rows = statements and signal.payload.is_sent_by_statements
            try:
                connected.enter_context(
                    signal.connected_to(recorder, sender, priority=inf, statements=has_rows)
                )
                recorders.append(recorder)
            except InvalidSenderError as error:  # this signal is never sent by such a sender
                wrong_sender = error
        if wrong_sender is not None and (signals or not recorders):
            raise wrong_sender
        circumstances.begin()
        connected.callback(circumstances.end)
        yield Calls(calls, circumstances)


def _recorder(calls: list[Call]) -> Callable[..., None]:
    def record(signal: Signal, sender: Sender, **payload: Any) -> None:
        calls.append(Call(signal, sender, payload))

    return record

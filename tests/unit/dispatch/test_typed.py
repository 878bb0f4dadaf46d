"""Signals that are declared by an example, and what type checkers see of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aksara_signals import (
    InvalidOptionError,
    InvalidReceiverError,
    Signal,
    SignalPayloadError,
    post_bulk_create,
    post_save,
    typed_signal,
)


def order_paid(sender: type, *, amount: int, currency: str = "EUR") -> None:
    """An order has been paid."""


async def test_an_example_declares_name_payload_and_documentation() -> None:
    """Required are the parameters without a default; the others have theirs."""
    signal = typed_signal(order_paid)
    assert (signal.name, signal.doc) == ("order_paid", "An order has been paid.")
    assert signal.providing_args == ("amount",)
    received: list[tuple[int, str]] = []

    @signal.connect
    async def note(sender: type, amount: int, currency: str = "", **kwargs: Any) -> None:
        received.append((amount, currency))

    await signal.send(int, amount=5)
    signal.send_sync(int, amount=6, currency="GBP")
    with pytest.raises(SignalPayloadError, match="amount"):
        await signal.send(int)
    assert received == [(5, "EUR"), (6, "GBP")]
    assert await signal.send_robust(int, amount=7) == [(note, None)]
    assert signal.send_robust_sync(int, amount=8) == [(note, None)]


def test_receivers_are_held_against_the_example_when_connected() -> None:
    """A parameter that nothing fills is refused, as with any declared payload."""
    signal = typed_signal(order_paid)

    @signal(int, priority=2)
    def fits(sender: type, amount: int, **kwargs: Any) -> None: ...

    assert signal.receivers_for(int) == [fits]

    def asks_too_much(sender: type, amount: int, weight: float, **kwargs: Any) -> None: ...

    with pytest.raises(InvalidReceiverError, match="weight"):
        signal.connect(asks_too_much)


@pytest.mark.parametrize(
    "example",
    [lambda: None, lambda amount: None, lambda sender, amount: None, lambda **kwargs: None],
    ids=["nothing", "no sender", "by position", "only **kwargs"],
)
def test_an_example_that_says_too_little_is_refused(example: Any) -> None:
    """The message shows what an example looks like."""
    with pytest.raises(InvalidOptionError, match="def order_paid"):
        typed_signal(example)


def test_model_signals_are_signals() -> None:
    """They differ for type checkers only."""
    assert isinstance(post_save, Signal)
    assert isinstance(post_bulk_create, Signal)
    for signal, name in (post_save, "instance"), (post_bulk_create, "instances"):
        received: list[Any] = []

        def note(received: Any = received, name: str = name, **kwargs: Any) -> None:
            received.append(kwargs[name])

        assert signal(Path)(note) is note
        signal.send_sync(Path, **{name: 1})
        signal.disconnect(note, Path)
        assert received == [1]


def test_declared_arguments_may_be_by_keyword_only() -> None:
    """As an example writes them."""
    signal = typed_signal(order_paid)

    @signal.connect
    def thank(sender: type, *, amount: int, currency: str = "", **kwargs: Any) -> str:
        return f"{amount} {currency}"

    assert signal.send_sync(int, amount=5) == [(thank, "5 EUR")]

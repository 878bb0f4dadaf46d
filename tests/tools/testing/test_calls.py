"""What was captured, and what failures say."""

from __future__ import annotations

import unittest.mock
from collections.abc import Iterator
from typing import Any

import pytest

from aksara_signals import Signal
from aksara_signals.testing import Calls, capture_signals


class Shop:
    """Sends."""


@pytest.fixture
def paid() -> Signal:
    return Signal("paid", providing_args=["amount"])


@pytest.fixture
def shipped() -> Signal:
    return Signal("shipped")


@pytest.fixture
def calls(paid: Signal, shipped: Signal) -> Iterator[Calls]:
    with capture_signals(paid, shipped) as captured:
        paid.send_sync(Shop, amount=5)
        shipped.send_sync(Shop)
        paid.send_sync("other", amount=6)
        yield captured


def test_looking_is_like_a_list(calls: Calls, paid: Signal, shipped: Signal) -> None:
    """Counts, order, slices and subsets."""
    assert calls.called
    assert calls.call_count == len(calls) == 3
    assert calls.signals == [paid, shipped, paid]
    assert [call.amount for call in calls.of(paid)] == [5, 6]
    assert [call.amount for call in calls.of("paid", sender=Shop)] == [5]
    assert calls[1:].names == ["shipped", "paid"]
    assert repr(calls[:1]) == "<Calls [paid(test_calls.Shop, amount=5)]>".replace(
        "test_calls", Shop.__module__
    )
    calls.reset_mock()
    assert not calls.called
    with pytest.raises(IndexError, match="there is no call 0; nothing was sent"):
        calls[0]


def test_a_missing_argument_says_what_there_is(calls: Calls) -> None:
    """An AttributeError, so that hasattr and getattr work."""
    with pytest.raises(AttributeError, match="paid was sent without weight; it was sent with amo"):
        _ = calls[0].weight
    with pytest.raises(AttributeError, match="it was sent with nothing"):
        _ = calls[1].weight
    assert getattr(calls[0], "weight", None) is None


def test_assertions_that_hold_say_nothing(calls: Calls, paid: Signal, shipped: Signal) -> None:
    """They are named as those of a mock."""
    calls.assert_called()
    calls.assert_called("paid")
    calls.assert_called_once(shipped)
    calls.assert_called_with(amount=6)
    calls.assert_called_with(paid, sender="other", amount=unittest.mock.ANY)
    calls.assert_called_once_with(shipped, sender=Shop)
    calls.assert_any_call(amount=5)
    calls.assert_order("paid", shipped, paid)
    calls.of(paid, sender=list).assert_not_called()


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        (
            lambda calls: calls.of("shipped", sender=list).assert_called(),
            "a signal was not sent; n",
        ),
        (
            lambda calls: calls.assert_called_once("paid"),
            "paid was expected once, and was sent twice; wh",
        ),
        (
            lambda calls: calls.of("paid", sender=list).assert_called_once(),
            "a signal was expected once, and was not sent; nothing was sent",
        ),
        (
            lambda calls: calls.assert_called_once(),
            "a signal was expected once, and was sent 3 times",
        ),
        (
            lambda calls: calls.assert_not_called("shipped"),
            "shipped was not expected, and was sent once",
        ),
        (lambda calls: calls.assert_called_with("paid", sender=Shop), "the last send was not paid"),
        (lambda calls: calls.assert_called_with(weight=None), "not a signal.weight=None."),
        (lambda calls: calls.assert_called_once_with("shipped", a=1), "not shipped.a=1."),
        (
            lambda calls: calls.assert_any_call("paid", amount=[7]),
            "no send was paid.amount=<list>.",
        ),
        (lambda calls: calls.assert_order("paid"), "expected paid, in this order"),
        (lambda calls: calls.assert_order(), "expected no sends, in this order; what was sent:"),
    ],
)
def test_assertions_that_fail_say_what_was_sent(calls: Calls, fail: Any, message: str) -> None:
    """In the words of the test."""
    with pytest.raises(AssertionError, match=message):
        fail(calls)

"""Capturing what is sent, and what failures say."""

from __future__ import annotations

import asyncio
import unittest.mock
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import String
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aksara_signals import InvalidOptionError, Signal, SignalContext, post_save, pre_save
from aksara_signals.orm import SignalMixin
from aksara_signals.testing import Calls, capture_signals


class Base(SignalMixin, DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "captured_user"

    id: Mapped[int] = mapped_column(primary_key=True)
    password: Mapped[str] = mapped_column(String(50))


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


async def test_real_writes_are_captured_with_their_payload(async_engine: AsyncEngine) -> None:
    """By attribute, in order, and no longer than the block."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(async_engine) as session:
        async with capture_signals(pre_save, post_save, sender=User) as calls:
            session.add(user := User(password="secret"))
            await session.commit()
        session.add(User(password="later"))
        await session.commit()
    assert calls.names == ["pre_save", "post_save"]
    assert calls[0].instance is user
    assert calls[1].created is True
    assert calls[-1].session is session
    assert calls[0].sender is User
    assert not post_save.has_receivers(User)


async def test_a_failure_shows_class_and_key_but_no_column(async_engine: AsyncEngine) -> None:
    """What was sent instead is listed; passwords are not."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(async_engine) as session:
        with capture_signals(post_save) as calls:
            session.add(User(id=7, password="secret"))
            await session.commit()
    with pytest.raises(AssertionError) as caught:
        calls.assert_called_with(post_save, created=False, instance=User(password="secret"))
    assert "post_save(created=False, instance=<User>)" in str(caught.value)
    assert "1. post_save(" in str(caught.value)
    assert "User, instance=<User 7>, created=True, " in str(caught.value)
    assert "secret" not in str(caught.value)


def test_looking_is_like_a_list(calls: Calls, paid: Signal, shipped: Signal) -> None:
    """Counts, order, slices and subsets."""
    assert calls.called
    assert calls.call_count == len(calls) == 3
    assert calls.signals == [paid, shipped, paid]
    assert [call.amount for call in calls.of(paid)] == [5, 6]
    assert [call.amount for call in calls.of("paid", sender=Shop)] == [5]
    assert calls[1:].names == ["shipped", "paid"]
    assert repr(calls[:1]) == "<Calls [paid(test_capture.Shop, amount=5)]>".replace(
        "test_capture", Shop.__module__
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
        (lambda calls: calls.assert_called_once("paid"), "paid was sent twice instead of once; se"),
        (lambda calls: calls.assert_called_once(), "a signal was sent 3 times instead of once"),
        (
            lambda calls: calls.assert_not_called("shipped"),
            "shipped was sent once instead of never",
        ),
        (lambda calls: calls.assert_called_with("paid", sender=Shop), "the last send was not paid"),
        (lambda calls: calls.assert_called_with(weight=None), "not a signal.weight=None."),
        (lambda calls: calls.assert_called_once_with("shipped", a=1), "not shipped.a=1."),
        (
            lambda calls: calls.assert_any_call("paid", amount=[7]),
            "no send was paid.amount=<list>.",
        ),
        (lambda calls: calls.assert_order("paid"), "expected were paid, in this order"),
        (lambda calls: calls.assert_order(), "expected were no sends, in this order; sent was:"),
    ],
)
def test_assertions_that_fail_say_what_was_sent(calls: Calls, fail: Any, message: str) -> None:
    """In the words of the test."""
    with pytest.raises(AssertionError, match=message):
        fail(calls)


async def test_without_signals_all_are_captured(paid: Signal) -> None:
    """Also those of one's own."""
    with capture_signals(sender=Shop) as calls:
        await paid.send(Shop, amount=1)
        await paid.send("other", amount=2)
        post_save.send_sync(Shop, instance=1)
    assert calls.names == ["paid", "post_save"]


def test_one_that_raises_hides_nothing(paid: Signal) -> None:
    """Sends are recorded before other receivers run."""

    @paid.connect(priority=1000)
    def refuse(**kwargs: Any) -> None:
        raise ValueError

    with capture_signals(paid, "post_save") as calls, pytest.raises(ValueError):
        paid.send_sync(Shop, amount=1)
    calls.assert_called_once()


async def test_silence_is_no_send(paid: Signal) -> None:
    """As for any receiver."""
    with capture_signals(paid) as calls, SignalContext.disable_for(Shop):
        await paid.send(Shop, amount=1)
    calls.assert_not_called()


async def test_captures_nest_and_run_side_by_side(paid: Signal) -> None:
    """Each has its own calls; the same one can be used again."""
    capture = capture_signals(paid)
    with capture as outer:
        with capture_signals(paid) as inner:
            await asyncio.gather(*(paid.send(Shop, amount=number) for number in range(3)))
        await paid.send(Shop, amount=3)
    with capture as again:
        await paid.send(Shop, amount=4)
    assert [len(calls) for calls in (outer, inner, again)] == [4, 3, 1]
    assert paid.connections == ()


def test_a_capture_decorates_nothing(paid: Signal) -> None:
    """Nobody would be given the calls."""
    with pytest.raises(InvalidOptionError, match="with capture_signals"):

        @capture_signals(paid)
        def test() -> None: ...

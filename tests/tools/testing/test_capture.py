"""Capturing what is sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import String, insert, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aksara_signals import InvalidOptionError, Signal, SignalContext, post_save, pre_save
from aksara_signals.orm import SignalMixin
from aksara_signals.testing import capture_signals


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


async def test_rows_of_statements_are_captured_if_wanted(async_engine: AsyncEngine) -> None:
    """Each row, and the statement itself in any case; without the option only the statement."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(async_engine) as session:
        async with capture_signals(statements=True) as calls:
            await session.execute(insert(User), [{"password": "a"}, {"password": "b"}])
            await session.execute(update(User).values(password="c"))
        async with capture_signals() as others:
            await session.execute(update(User).values(password="d"))
    updates = ["post_update", "post_save"] * 2
    assert calls.names == ["post_save"] * 2 + ["post_statement", *updates, "post_statement"]
    assert others.names == ["post_statement"]


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
    def reject(**kwargs: Any) -> None:
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
    """The calls would be lost."""
    with pytest.raises(InvalidOptionError, match="with capture_signals"):

        @capture_signals(paid)
        def test() -> None: ...

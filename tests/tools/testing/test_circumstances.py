"""What a failing assertion says about silence, and about deliveries that are queued for a commit."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import call

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from aksara_signals import Signal, SignalContext, post_save, pre_save
from aksara_signals.orm import SignalMixin, on_commit
from aksara_signals.testing import (
    Calls,
    as_if_committed,
    capture_signals,
    mock_receiver,
    rolled_back,
)


class Base(SignalMixin, DeclarativeBase):
    pass


class Mail(Base):
    __tablename__ = "circumstances_mail"

    id: Mapped[int] = mapped_column(primary_key=True)


mailed = Signal("mailed")


async def notify(**kwargs: Any) -> None:
    """Sends a signal of its own when it is called."""
    await mailed.send(Mail)


@pytest.fixture
async def session(async_engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with rolled_back(async_engine) as session:
        yield session


def failure(assertion: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        assertion(*args, **kwargs)
    return str(caught.value)


ASSERTIONS = [
    lambda mock: mock.assert_called(),
    lambda mock: mock.assert_called_once(),
    lambda mock: mock.assert_called_with(5),
    lambda mock: mock.assert_called_once_with(5),
    lambda mock: mock.assert_any_call(5),
    lambda mock: mock.assert_has_calls([call(5)]),
    lambda mock: mock.assert_awaited(),
    lambda mock: mock.assert_awaited_once(),
    lambda mock: mock.assert_awaited_with(5),
    lambda mock: mock.assert_awaited_once_with(5),
    lambda mock: mock.assert_any_await(5),
    lambda mock: mock.assert_has_awaits([call(5)]),
]


async def test_a_mock_says_that_its_calls_are_queued_for_a_commit(session: AsyncSession) -> None:
    """Each assertion does, once, and only while it is so."""
    post_save.connect(notify, Mail, phase="after_commit")
    with mock_receiver(notify) as mocked:
        session.add(Mail())
        await session.flush()
        for assertion in ASSERTIONS:
            said = failure(assertion, mocked)
            queued = (
                f"1 delivery to {__name__}.notify is queued for a commit: commit the session, or"
            )
            assert said.count(queued) == said.count("async with as_if_committed(session)") == 1
        session.add(Mail())
        await session.flush()
        assert f"2 deliveries to {__name__}.notify are queued for a commit" in failure(
            mocked.assert_called
        )
        await session.commit()
    assert "commit" not in failure(mocked.assert_called_once)
    assert mocked.await_count == 2


async def test_what_was_queued_is_said_after_the_rollback_too(async_engine: AsyncEngine) -> None:
    """The usual test asserts when its session is gone."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    post_save.connect(notify, Mail, phase="after_commit")
    async with rolled_back(async_engine) as session:
        with mock_receiver(notify) as mocked, capture_signals(mailed) as calls:
            session.add(Mail())
            await session.flush()
    queued = f"1 delivery to {__name__}.notify was queued for a commit when the block ended: commit"
    assert queued in failure(mocked.assert_called)
    assert queued in failure(calls.assert_called)
    assert queued in failure(calls.of(mailed)[:1].assert_called)


async def test_a_capture_says_what_is_queued_for_a_commit(session: AsyncSession) -> None:
    """What is called after the commit might have sent it; callbacks count, too."""
    post_save.connect(notify, Mail, phase="after_commit")
    post_save.connect(notify, Mail, phase="after_rollback")

    def call_back() -> None: ...

    with capture_signals(post_save, mailed) as calls:
        async with as_if_committed(session):
            session.add(Mail())
            await session.flush()
            on_commit(session, call_back)
            said = failure(calls.assert_called, mailed)
            assert "what was sent:\n  1. post_save(" in said
            assert f"2 deliveries to {__name__}.notify, " in said
            assert (
                "call_back are queued for a commit: commit the session, or write inside 'a" in said
            )
        calls.assert_called_once(mailed)
    assert "commit" not in failure(calls.assert_not_called)


async def test_other_receivers_dont_matter_to_a_mock(session: AsyncSession) -> None:
    """Nor what was rolled back to a savepoint."""

    @pre_save(Mail)
    async def other(**kwargs: Any) -> None: ...

    post_save.connect(notify, Mail, phase="after_commit")
    with mock_receiver(other) as mocked, mock_receiver(notify) as undone:
        savepoint = await session.begin_nested()
        session.add(Mail())
        await session.flush()
        assert "commit" not in failure(mocked.assert_not_called)
        await savepoint.rollback()
        assert "commit" not in failure(undone.assert_called)


async def test_silence_is_said(session: AsyncSession) -> None:
    """The senders that a context has silenced, after what was sent instead, and in the failures of mocks."""
    post_save.connect(notify, Mail)
    pre_save.connect(spared := lambda **kwargs: None, Mail)
    with (
        capture_signals(post_save) as calls,
        mock_receiver(notify) as mocked,
        mock_receiver(spared) as other,
    ):
        with SignalContext.disable_for(Mail, signals=[post_save]):
            session.add(Mail())
            await session.commit()
        silenced = f"a SignalContext silenced signals of {__name__}.Mail"
        assert f"nothing was sent\n  {silenced}" == failure(calls.assert_called).split("; ")[1]
        assert silenced in failure(mocked.assert_awaited)
        assert "silenced" not in failure(other.assert_not_called)
    assert silenced in failure(mocked.assert_called)
    with capture_signals(post_save) as calls:
        session.add(Mail())
        await session.commit()
    assert "silenced" not in failure(calls.assert_not_called)


async def test_receivers_alone_may_be_silenced(session: AsyncSession) -> None:
    """A capture has missed nothing then."""
    post_save.connect(notify, Mail)
    with (
        capture_signals(post_save) as calls,
        mock_receiver(notify) as mocked,
        SignalContext.disable_for(Mail, receivers=[notify]),
    ):
        session.add(Mail())
        await session.commit()
    assert "silenced" not in failure(calls.assert_not_called)
    assert f"silenced signals of {__name__}.Mail" in failure(mocked.assert_called)


def test_nothing_is_said_where_nothing_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor by the children of a mock, which stand for no receiver."""
    monkeypatch.delitem(sys.modules, "aksara_signals.orm.outcome.queue")
    assert failure(Calls().assert_called) == "a signal was not sent; nothing was sent"
    mailed.connect(plain := lambda **kwargs: None)
    with mock_receiver(plain) as mocked, capture_signals(mailed) as calls:
        assert failure(calls.assert_called) == "a signal was not sent; nothing was sent"
        assert failure(mocked.assert_called) == "Expected 'mock' to have been called."
        child = mocked.return_value.child
        assert failure(child.assert_called) == "Expected 'child' to have been called."
    mailed.disconnect(plain)


def test_synchronous_sessions_are_seen(sync_engine: Any) -> None:
    """Whatever the kind of session."""
    Base.metadata.create_all(sync_engine)
    post_save.connect(notify, Mail, phase="after_commit")
    with Session(sync_engine) as session, mock_receiver(notify) as mocked:
        session.add(Mail())
        session.flush()
        assert "1 delivery to" in failure(mocked.assert_called)

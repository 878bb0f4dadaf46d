"""A delivery hook that raises: like a receiver that does, once a transaction has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kit import databases
from kit.misfits import Account, Base, assert_nothing_is_left, do
from sqlalchemy import Engine, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from aksara_signals import (
    DeliveryStep,
    add_delivery_hook,
    on_delivery_error,
    post_save,
    remove_delivery_hook,
)
from aksara_signals.orm import on_commit

PHASES = ["after_commit", "after_rollback"]


class Broken(Exception):  # noqa: N818 - named by what is odd about it
    """Raised by a hook."""


class Tracing:
    """A hook that raises around some steps, before or after them."""

    def __init__(self, when: str, of: Callable[[DeliveryStep], bool], error: Any = Broken) -> None:
        self.when, self.of, self.error = when, of, error
        self.open = 0

    @contextmanager
    def __call__(self, step: DeliveryStep) -> Iterator[None]:
        if self.when == "before" and self.of(step):
            raise self.error("tracing")
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1
            if self.when == "after" and self.of(step):
                raise self.error("tracing")


@contextmanager
def traced(tracing: Tracing) -> Iterator[None]:
    add_delivery_hook(tracing)
    try:
        yield
    finally:
        assert remove_delivery_hook(tracing)
        assert tracing.open == 0


@pytest.fixture
def failures() -> Iterator[list[Any]]:
    """What failed, and which receiver."""
    failures: list[Any] = []

    def note(error: Any, connection: Any, failed_signal: Any, payload: Any, **kwargs: Any) -> None:
        assert payload == {} or payload["instance"].name == "a"
        failures.append((type(error), connection.receiver.__name__))

    with on_delivery_error.connected_to(note):
        yield failures


@pytest.fixture
async def session(async_engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    await databases.create_all(async_engine, Base.metadata)
    async with AsyncSession(async_engine) as session:
        yield session


def connect_four(phase: str, calls: list[str]) -> None:
    """One after another, within a time limit, and together with others."""

    def first(**kwargs: Any) -> None:
        calls.append("first")

    def second(**kwargs: Any) -> None:
        calls.append("second")

    def limited(**kwargs: Any) -> None:
        calls.append("limited")

    def together(**kwargs: Any) -> None:
        calls.append("together")

    post_save.connect(first, sender=Account, phase=phase)
    post_save.connect(second, sender=Account, phase=phase)
    post_save.connect(limited, sender=Account, phase=phase, timeout_seconds=60)
    post_save.connect(together, sender=Account, phase=phase, concurrent=True)


NAMES = ["first", "second", "limited", "together"]


def nth_send(number: int) -> Callable[[DeliveryStep], bool]:
    """Whether a step is the n-th send of post_save after the transaction."""
    sends: list[DeliveryStep] = []

    def is_it(step: DeliveryStep) -> bool:
        if step.is_send and step.signal_name == "post_save":
            sends.append(step)
            return len(sends) == number
        return False

    return is_it


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("phase", PHASES)
async def test_the_rest_is_delivered(
    phase: str,
    when: str,
    session: AsyncSession,
    failures: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A hook that raises around one send costs no other; it is logged and reported."""
    calls: list[str] = []
    connect_four(phase, calls)
    for number, name in enumerate(NAMES, 1):
        session.add(Account(name="a"))
        await session.flush()
        with traced(Tracing(when, nth_send(number))):
            await do(session, "commit" if phase == "after_commit" else "rollback")
        assert calls == [each for each in NAMES if when == "after" or each != name]
        assert failures == [(Broken, name)]
        [record] = caplog.records
        assert record.name == "aksara_signals"
        assert record.message.startswith("a delivery hook failed: post_save sent by")
        assert record.exc_info
        assert record.exc_info[0] is Broken
        for each in (calls, failures, caplog.records):
            each.clear()
        assert_nothing_is_left(session)
    committed = await session.scalar(select(func.count(Account.id)))
    assert committed == (4 if phase == "after_commit" else 0)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("phase", PHASES)
def test_the_rest_is_delivered_under_a_plain_session(
    phase: str, when: str, sync_engine: Engine, failures: list[Any]
) -> None:
    """The same in a sync send, which can't wait."""
    calls: list[str] = []
    connect_four(phase, calls)
    Base.metadata.create_all(sync_engine)
    for number, name in enumerate(NAMES, 1):
        with Session(sync_engine) as session:
            session.add(Account(name="a"))
            session.flush()
            with traced(Tracing(when, nth_send(number))):
                session.commit() if phase == "after_commit" else session.rollback()
            assert_nothing_is_left(session)
        assert calls == [each for each in NAMES if when == "after" or each != name]
        assert failures == [(Broken, name)]
        for each in (calls, failures):
            each.clear()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_hook_that_always_raises_never_reaches_who_commits(
    when: str, session: AsyncSession, sync_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Also around the report of what it did, and around callbacks; each is logged."""
    calls: list[str] = []
    connect_four("after_commit", calls)

    def report(**kwargs: Any) -> None:
        calls.append("report")

    with (
        on_delivery_error.connected_to(report),
        traced(Tracing(when, lambda step: step.is_send)),
        Session(sync_engine) as plain,
    ):
        for each in (session, plain):
            on_commit(each, lambda: calls.append("callback"))
            each.add(Account(name="a"))
            await do(each, "commit")
            called = [name for name in calls if name != "report"]
            assert sorted(called) == (sorted([*NAMES, "callback"]) if when == "after" else [])
            assert calls.count("report") == (5 if when == "after" else 0)
            assert len(caplog.records) == 10
            for each_list in (calls, caplog.records):
                each_list.clear()
            assert_nothing_is_left(each)
    assert await session.scalar(select(func.count(Account.id))) == 2


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_inside_the_transaction_it_fails_the_flush(error: Any, sync_engine: Engine) -> None:
    """As ever; and what is no Exception escapes after a commit, too, as a receiver's does."""
    Base.metadata.create_all(sync_engine)
    post_save.connect(lambda **kwargs: None, sender=Account)
    with Session(sync_engine) as session:
        session.add(Account(name="a"))
        with traced(Tracing("before", lambda step: step.is_send, error)), pytest.raises(error):
            session.commit()
        session.rollback()
        assert session.scalar(select(func.count(Account.id))) == 0
    post_save.connect(lambda **kwargs: None, sender=Account, phase="after_commit")
    with Session(sync_engine) as session:
        session.add(Account(name="a"))
        session.flush()
        with traced(Tracing("after", lambda step: step.is_send, error)):
            if error is KeyError:
                session.commit()
            else:
                with pytest.raises(KeyboardInterrupt):
                    session.commit()
        assert_nothing_is_left(session)
        assert session.scalar(select(func.count(Account.id))) == 1


async def test_an_error_that_is_under_way_is_no_failure_of_the_hook(
    session: AsyncSession, failures: list[Any]
) -> None:
    """Hooks that are left with a receiver's BaseException hand it on; nothing is called after it."""
    calls: list[str] = []
    left: list[str] = []

    class Own(BaseException):
        pass

    def fail(**kwargs: Any) -> None:
        raise Own

    @contextmanager
    def see(step: DeliveryStep) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            left.append(type(error).__name__)
            raise

    post_save.connect(fail, sender=Account, phase="after_commit")
    connect_four("after_commit", calls)
    session.add(Account(name="a"))
    add_delivery_hook(see)
    try:
        with pytest.raises(Own):
            await session.commit()
    finally:
        remove_delivery_hook(see)
    assert (calls, left, failures) == ([], ["Own", "Own"], [])

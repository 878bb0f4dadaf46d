"""Durable receivers in tests: ``drain_outbox`` and ``pending``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from aksara_signals import (
    AsyncReceiverError,
    OutboxError,
    SessionInUseError,
    SignalContext,
    post_delete,
    post_save,
)
from aksara_signals.contrib.outbox import Durable, DurableEvent, Outbox
from aksara_signals.orm import SignalMixin
from aksara_signals.testing import (
    drain_outbox,
    drain_outbox_sync,
    mock_receiver,
    pending,
    pending_sync,
    rolled_back,
)


class Base(SignalMixin, DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "drained_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Receipt(Base):
    __tablename__ = "drained_receipt"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int]


outbox = Outbox(Base.metadata)


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    """The outbox is installed for the test."""
    outbox.install()
    yield
    outbox.uninstall()


@pytest.fixture
async def session(async_engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """A session whose commits are rolled back at the end."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with rolled_back(async_engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture
def sync_session(sync_engine: Engine) -> Iterator[Session]:
    """The same without async."""
    Base.metadata.create_all(sync_engine)
    with rolled_back(sync_engine, expire_on_commit=False) as session:
        yield session


async def write_receipt(instance: Order, session: AsyncSession, **kwargs: Any) -> None:
    session.add(Receipt(order_id=instance.id))


async def receipts(session: AsyncSession) -> int:
    return await session.scalar(select(func.count()).select_from(Receipt)) or 0


async def test_what_is_due_is_called_here_and_now(session: AsyncSession) -> None:
    """In the session of the test, after and before a commit, once."""
    post_save.connect(write_receipt, Order, durable="drained.receipt")
    session.add(Order(text="one"))
    await session.commit()
    session.add(Order(text="two"))
    assert [event.key for event in await pending(session)] == [(1,), (2,)]
    assert await receipts(session) == 0
    assert await drain_outbox(session) == 2
    assert await receipts(session) == 2
    assert await pending(session) == []
    assert await drain_outbox(session) == 0


async def test_the_order_is_that_of_the_sends(session: AsyncSession) -> None:
    """Across receivers, whether they name the session or not, are async or not."""
    seen: list[tuple[str, Any, bool | None]] = []

    @post_save(Order, durable="drained.first")
    async def first(event: DurableEvent, session: AsyncSession, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        seen.append(("first", event.key, event.created))

    @post_save(Order, durable="drained.second")
    def second(event: DurableEvent, session: Any = None, **kwargs: Any) -> None:
        seen.append(("second", event.key, event.created))

    @post_delete(Order, durable=Durable("drained.gone", include=("text",)))
    async def gone(event: DurableEvent, **kwargs: Any) -> None:
        seen.append((event.values["text"], event.key, event.created))

    order = Order(text="one")
    session.add(order)
    await session.commit()
    order.text = "two"
    await session.commit()
    await session.delete(order)
    await session.commit()
    await drain_outbox(session)
    assert seen == [
        ("first", (1,), True),
        ("second", (1,), True),
        ("first", (1,), False),
        ("second", (1,), False),
        ("two", (1,), None),
    ]


async def test_what_receivers_cause_is_called_as_well(session: AsyncSession) -> None:
    """Until nothing is due."""
    written: list[int] = []
    post_save.connect(write_receipt, Order, durable="drained.receipt")

    @post_save(Receipt, durable="drained.after")
    async def after(instance: Receipt, **kwargs: Any) -> None:
        written.append(instance.order_id)

    session.add(Order(text="one"))
    assert await drain_outbox(session) == 2
    assert written == [1]


async def test_an_error_is_raised_and_undone(session: AsyncSession) -> None:
    """What the receiver did is rolled back, and its row and the later ones are due again."""
    problems = [ValueError("not yet")]

    @post_save(Order, durable="drained.receipt")
    async def fail_once(instance: Order, session: AsyncSession, **kwargs: Any) -> None:
        session.add(Receipt(order_id=instance.id))
        await session.flush()
        if problems:
            raise problems.pop()

    session.add_all([Order(text="one"), Order(text="two")])
    with pytest.raises(ValueError, match="not yet"):
        await drain_outbox(session)
    assert await receipts(session) == 0
    assert [event.attempt for event in await pending(session)] == [1, 1]
    assert await drain_outbox(session) == 2
    assert await receipts(session) == 2


async def test_a_receiver_must_not_commit(session: AsyncSession) -> None:
    """As in a worker."""

    @post_save(Order, durable="drained.receipt")
    async def commit(session: AsyncSession, **kwargs: Any) -> None:
        await session.commit()

    session.add(Order(text="one"))
    with pytest.raises(SessionInUseError, match="worker"):
        await drain_outbox(session)


async def test_a_row_of_an_unknown_receiver_is_an_error(session: AsyncSession) -> None:
    """Nobody would call it."""
    with post_save.connected_to(write_receipt, Order, durable="drained.lost"):
        session.add(Order(text="one"))
        await session.flush()
    with pytest.raises(OutboxError, match=r"drained\.lost.*import its module"):
        await drain_outbox(session)


async def test_a_silenced_write_leaves_nothing_to_call(session: AsyncSession) -> None:
    """A SignalContext silences durable receivers, too."""
    post_save.connect(write_receipt, Order, durable="drained.receipt")
    with SignalContext(Order):
        session.add(Order(text="one"))
        await session.flush()
    assert await pending(session) == []


async def test_a_mock_is_called_in_the_place_of_a_durable_receiver(session: AsyncSession) -> None:
    """And a failing assertion names drain_outbox()."""
    post_save.connect(write_receipt, Order, durable="drained.receipt")
    with mock_receiver(write_receipt) as mock:
        session.add(Order(text="one"))
        await session.commit()
        with pytest.raises(AssertionError, match=r"drain_outbox\(session\)"):
            mock.assert_awaited_once()
        await drain_outbox(session)
        mock.assert_awaited_once()
    assert await receipts(session) == 0


def test_plain_sessions_are_drained_without_await(sync_session: Session) -> None:
    """A receiver that has to wait can't be."""
    seen: list[str] = []

    @post_save(Order, durable="drained.seen")
    def note(instance: Order, session: Session, **kwargs: Any) -> None:
        seen.append(instance.text)
        session.add(Receipt(order_id=instance.id))

    sync_session.add(Order(text="one"))
    sync_session.commit()
    assert [event.key for event in pending_sync(sync_session)] == [(1,)]
    assert drain_outbox_sync(sync_session) == 1
    assert seen == ["one"]

    @post_save(Order, durable="drained.slow")
    async def slow(**kwargs: Any) -> None:
        await asyncio.sleep(0)

    sync_session.add(Order(text="two"))
    with pytest.raises(AsyncReceiverError):
        drain_outbox_sync(sync_session)


async def test_plain_sessions_are_drained_with_await(sync_session: Session) -> None:
    """Then async receivers can wait, in a synchronous session as well."""
    seen: list[str] = []

    @post_save(Order, durable="drained.slow")
    async def slow(instance: Order, session: Session, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        seen.append(instance.text)

    sync_session.add(Order(text="one"))
    assert len(await pending(sync_session)) == 1
    assert await drain_outbox(sync_session) == 1
    assert seen == ["one"]


async def test_the_outbox_is_found_or_given(session: AsyncSession) -> None:
    """The installed one is meant, if it is the only one."""
    outbox.uninstall()
    with pytest.raises(OutboxError, match="no outboxes are installed"):
        await drain_outbox(session)
    assert await drain_outbox(session, outbox=outbox) == 0
    assert await pending(session, outbox=outbox) == []


async def test_the_fixture_restores_what_is_installed(pytester: pytest.Pytester) -> None:
    """An outbox that a test installs isn't there in the next one."""
    pytester.makepyfile(
        """
        from aksara_signals.contrib.outbox import Outbox
        from aksara_signals.testing import drain_outbox as imported
        from sqlalchemy import MetaData

        outbox = Outbox(MetaData())

        def test_install(drain_outbox):
            outbox.install()
            assert drain_outbox is imported

        def test_next():
            assert not outbox.is_installed
        """
    )
    result = pytester.runpytest_subprocess(
        "-p", "no:aksara_signals", "-p", "aksara_signals.testing.plugin", "-p", "no:cacheprovider"
    )
    result.assert_outcomes(passed=2)

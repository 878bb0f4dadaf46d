"""The queue of the outcome at random: what is delivered as committed is what the database keeps.

Every flush writes a row of its own, so the database says which flushes really count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from kit.databases import Database
from kit.effort import times
from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, SessionTransaction, mapped_column

from aksara_signals import post_save
from aksara_signals.orm import SignalMixin, on_commit, on_rollback


class Base(SignalMixin, DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "row_of_a_flush"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(default="")


class Driver(Protocol):
    """Does synchronous work with one session, as its users would."""

    def do(self, work: Callable[[Session], Any]) -> Any: ...

    def renew(self) -> None: ...


class SyncDriver:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.session = Session(engine)

    def do(self, work: Callable[[Session], Any]) -> Any:
        return work(self.session)

    def renew(self) -> None:
        self.session.close()
        self.session = Session(self._engine)


class AsyncDriver:
    def __init__(self, engine: AsyncEngine, runner: asyncio.Runner) -> None:
        self._engine = engine
        self._runner = runner
        self.session = AsyncSession(engine)

    def do(self, work: Callable[[Session], Any]) -> Any:
        return self._runner.run(self.session.run_sync(work))

    def renew(self) -> None:
        self._runner.run(self.session.close())
        self.session = AsyncSession(self._engine)


class Transactions(RuleBasedStateMachine):
    """Random work with one session after another."""

    driver: Driver
    committed_rows: Callable[[], set[int]]
    count = 0
    """Numbers are never used twice, whatever the example: rows stay in the database."""

    def __init__(self) -> None:
        super().__init__()
        self.savepoints: list[SessionTransaction] = []
        self.flushed: list[int] = []
        self.delivered: dict[str, list[int]] = {"after_commit": [], "after_rollback": []}
        self.called: dict[str, list[int]] = {"after_commit": [], "after_rollback": []}
        self.settled: tuple[int, int] = (0, 0)
        self.before = type(self).committed_rows()
        for phase in self.delivered:
            post_save.connect(self._receiver(phase), sender=Row, phase=phase, dispatch_uid=phase)

    def _receiver(self, phase: str) -> Callable[..., Any]:
        async def deliver(instance: Row, **kwargs: Any) -> None:
            self.delivered[phase].append(instance.id)

        return deliver

    def do(self, work: Callable[[Session], Any]) -> Any:
        return type(self).driver.do(work)

    def next_number(self) -> int:
        Transactions.count += 1
        return Transactions.count

    @property
    def is_open(self) -> bool:
        return bool(self.do(lambda session: session.in_transaction()))

    def settle(self) -> None:
        """The outermost transaction has ended: all that was flushed must have been sent."""
        assert not self.is_open
        self.savepoints = []
        kept = self.committed_rows() - self.before
        assert self.delivered["after_commit"] == [n for n in self.flushed if n in kept]
        assert self.delivered["after_rollback"] == [n for n in self.flushed if n not in kept]
        assert self.called == self.delivered
        self.settled = tuple(len(each) for each in self.delivered.values())

    def _write(self, session: Session, number: int) -> None:
        """A flush of one row, and callbacks that go the same way."""
        on_commit(session, lambda: self.called["after_commit"].append(number))
        on_rollback(session, lambda: self.called["after_rollback"].append(number))
        session.add(Row(id=number))
        session.flush()

    # -- steps ---------------------------------------------------------------------------------

    @precondition(lambda self: not self.is_open)
    @rule()
    def begin(self) -> None:
        self.do(lambda session: session.begin())

    @precondition(lambda self: len(self.savepoints) < 3)
    @rule()
    def begin_nested(self) -> None:
        self.savepoints.append(self.do(lambda session: session.begin_nested()))

    @rule()
    def flush(self) -> None:
        number = self.next_number()
        self.do(lambda session: self._write(session, number))
        self.flushed.append(number)

    @precondition(lambda self: self.savepoints)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.savepoints) - 1))
        savepoint = self.savepoints[place]
        self.do(lambda _: savepoint.commit())
        del self.savepoints[place:]

    @precondition(lambda self: self.savepoints)
    @rule(data=st.data())
    def roll_back_to(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.savepoints) - 1))
        savepoint = self.savepoints[place]
        self.do(lambda _: savepoint.rollback())
        del self.savepoints[place:]

    @rule()
    def fail_in_a_savepoint(self) -> None:
        number = self.next_number()

        def work(session: Session) -> None:
            with pytest.raises(IntegrityError), session.begin_nested():
                self._write(session, number)
                session.execute(Row.__table__.insert(), [{"id": number, "text": ""}])

        self.do(work)
        self.flushed.append(number)

    @rule(is_rolled_back=st.booleans())
    def flush_in_a_receiver(self, is_rolled_back: bool) -> None:
        """A receiver opens a savepoint inside the flush that calls it, and flushes a row there."""
        outer, inner = self.next_number(), self.next_number()

        def receiver(instance: Row, session: Any, **kwargs: Any) -> None:
            if instance.id == outer:
                plain = getattr(session, "sync_session", session)
                savepoint = plain.begin_nested()
                self._write(plain, inner)
                if is_rolled_back:
                    savepoint.rollback()
                else:
                    savepoint.commit()

        def work(session: Session) -> None:
            with post_save.connected_to(receiver, sender=Row):
                self._write(session, outer)

        self.do(work)
        self.flushed += [outer, inner]

    @rule(in_a_receiver=st.booleans())
    def fail_and_go_on(self, in_a_receiver: bool) -> None:
        """A failed flush, and the rollback that it takes to use the session again.

        What a veto refuses was flushed already; what the database refuses never was.
        """

        def veto(**kwargs: Any) -> None:
            raise ZeroDivisionError

        def work(session: Session) -> None:
            if in_a_receiver:
                with post_save.connected_to(veto, sender=Row), pytest.raises(ZeroDivisionError):
                    self._write(session, number)
            else:
                session.add(Row(id=None))
                with pytest.raises(Exception):  # noqa: B017 - each database has its own
                    session.flush()
            session.rollback()

        number = self.next_number()
        self.do(work)
        if in_a_receiver:
            self.flushed.append(number)
        self.settle()

    @rule(
        how=st.sampled_from(["commit", "commit", "commit", "rollback", "close", "reset", "renew"])
    )
    def end(self, how: str) -> None:
        if how == "renew":
            self.driver.renew()
        else:
            self.do(lambda session: getattr(session, how)())
        self.settle()

    @invariant()
    def nothing_is_delivered_early(self) -> None:
        if self.is_open:
            assert self.settled == tuple(len(each) for each in self.delivered.values())

    def teardown(self) -> None:
        self.driver.renew()
        self.settle()
        for phase in self.delivered:
            post_save.disconnect(dispatch_uid=phase, sender=Row)


@pytest.fixture(params=["sync", "async"])
def machine(
    request: pytest.FixtureRequest, database: Database
) -> Iterator[type[RuleBasedStateMachine]]:
    """The machine on one database, through a plain session and through an async one."""
    sync_engine = database.create_sync_engine()
    Base.metadata.create_all(sync_engine)

    def committed_rows() -> set[int]:
        with sync_engine.connect() as connection:
            return set(connection.execute(select(Row.id)).scalars())

    members: dict[str, Any] = {"committed_rows": staticmethod(committed_rows)}
    if request.param == "sync":
        driver: Any = SyncDriver(sync_engine)
        yield type("SyncTransactions", (Transactions,), members | {"driver": driver})
        driver.renew()
    else:
        with asyncio.Runner() as runner:
            engine = database.create_async_engine()
            driver = AsyncDriver(engine, runner)
            yield type("AsyncTransactions", (Transactions,), members | {"driver": driver})
            driver.renew()
            runner.run(engine.dispose())
    sync_engine.dispose()


def test_delivered_is_what_was_committed(machine: type[RuleBasedStateMachine]) -> None:
    """Delivered after commit: exactly the flushes whose transaction and savepoints all committed."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=times(60),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

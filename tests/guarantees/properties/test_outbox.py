"""Random transactions: the outbox holds what was committed, in order, and nothing else.

Every step that is sent to a durable receiver writes a row of its own beside it, or stands for one,
so that the database itself says what counts.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.databases import Database
from kit.effort import IS_ORDINARY, times
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from aksara_signals import Signal, post_delete, post_save
from aksara_signals.contrib.outbox import Outbox
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Step(Base):
    __tablename__ = "step_of_a_program"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[int] = mapped_column(default=0)


outbox = Outbox(Base.metadata)
rows = outbox.tables.outbox
sent = Signal("sent_in_a_program")


def receive(**kwargs: Any) -> None: ...


sent.connect(receive, durable="program.sent")


@pytest.fixture
def connected() -> Iterator[None]:
    outbox.install()
    for signal in (post_save, post_delete):
        signal.connect(receive, sender=Step, durable="program.steps")
    yield
    outbox.uninstall()


ACTIONS = (
    "insert",
    "insert and flush",
    "update",
    "delete",
    "send",
    "send_sync",
    "savepoint",
    "release",
    "rollback to savepoint",
    "flush",
    "commit",
    "rollback",
    "close",
)


class Program:
    """Runs actions in one session, and knows what has to be there at the end."""

    def __init__(self, session: Session | AsyncSession) -> None:
        self.session: Any = session
        self.numbers = itertools.count(1)
        self.frames: list[list[tuple[str, int]]] = [[]]
        """What was written or sent: in the transaction, and in each open savepoint."""
        self.pending: list[tuple[str, int]] = []
        """What the next flush will write, in the order of the actions."""
        self.committed: list[tuple[str, int]] = []
        self.savepoints: list[Any] = []

    async def do(self, action: str) -> None:
        await getattr(self, action.replace(" ", "_"))()

    async def call(self, name: str, *arguments: Any) -> Any:
        result = getattr(self.session, name)(*arguments)
        return await result if isinstance(self.session, AsyncSession) else result

    async def flush(self) -> None:
        await self.call("flush")
        self.frames[-1] += self.pending
        self.pending = []

    async def insert(self) -> None:
        number = next(self.numbers)
        self.session.add(Step(id=number))
        self.pending.append(("post_save", number))

    async def insert_and_flush(self) -> None:
        await self.insert()
        await self.flush()

    async def some(self) -> Step | None:
        await self.flush()
        found = await self.call("scalars", select(Step).order_by(Step.id.desc()).limit(1))
        return found.first()  # type: ignore[no-any-return]

    async def update(self) -> None:
        step = await self.some()
        if step is not None:
            step.state += 1
            self.pending.append(("post_save", step.id))

    async def delete(self) -> None:
        step = await self.some()
        if step is not None:
            number = step.id
            deleted = self.session.delete(step)
            if isinstance(self.session, AsyncSession):
                await deleted
            self.pending.append(("post_delete", number))
            await self.flush()

    async def send(self) -> None:
        number = next(self.numbers)
        if isinstance(self.session, AsyncSession):
            await sent.send("program", session=self.session, number=number)
        else:
            sent.send_sync("program", session=self.session, number=number)
        self.frames[-1].append(("sent", number))

    async def send_sync(self) -> None:
        number = next(self.numbers)
        sent.send_sync("program", session=self.session, number=number)
        self.frames[-1].append(("sent", number))

    async def savepoint(self) -> None:
        await self.flush()  # as begin_nested() does
        if len(self.savepoints) < 3:
            self.savepoints.append(await self.call("begin_nested"))
            self.frames.append([])

    async def end_savepoint(self, name: str) -> list[tuple[str, int]]:
        ended = getattr(self.savepoints.pop(), name)()
        if isinstance(self.session, AsyncSession):
            await ended
        return self.frames.pop()

    async def release(self) -> None:
        if self.savepoints:
            await self.flush()
            found = await self.end_savepoint("commit")
            self.frames[-1] += found

    async def rollback_to_savepoint(self) -> None:
        if self.savepoints:
            self.pending = []
            await self.end_savepoint("rollback")

    async def commit(self) -> None:
        await self.call("commit")
        self.committed += [*itertools.chain(*self.frames), *self.pending]
        self.forget()

    async def rollback(self) -> None:
        await self.call("rollback")
        self.forget()

    async def close(self) -> None:
        await self.call("close")
        self.forget()

    def forget(self) -> None:
        self.frames, self.pending, self.savepoints = [[]], [], []


def stored(session: Session) -> list[tuple[str, int]]:
    """What the outbox holds, in the order of its rows."""
    return [
        ("sent", row.payload["data"]["number"])
        if row.type == sent.name
        else (row.type, row.payload["key"][0])
        for row in session.execute(select(rows).order_by(rows.c.seq))
    ]


def by_object(found: list[tuple[str, int]]) -> dict[int, list[str]]:
    """The order that counts: that of the rows about one object."""
    ordered: dict[int, list[str]] = {}
    for what, number in found:
        ordered.setdefault(number, []).append(what)
    return ordered


def check(session: Session, program: Program) -> None:
    found = stored(session)
    assert sorted(found) == sorted(program.committed)
    assert by_object(found) == by_object(program.committed)
    alive = {number for what, number in program.committed if what == "post_save"} - {
        number for what, number in program.committed if what == "post_delete"
    }
    assert set(session.scalars(select(Step.id))) == alive
    for of in (Step, rows):
        session.execute(delete(of))
    session.commit()


EXAMPLES = settings(
    max_examples=times(60),
    deadline=None,
    derandomize=IS_ORDINARY,
    suppress_health_check=list(HealthCheck),
)
PROGRAMS = st.lists(st.sampled_from(ACTIONS), max_size=25)


@pytest.mark.usefixtures("connected")
def test_plain_sessions_store_what_they_commit(database: Database) -> None:
    """Whatever they flush, send, roll back and release before."""
    engine = database.create_sync_engine()
    Base.metadata.create_all(engine)

    @EXAMPLES
    @given(actions=PROGRAMS)
    def run(actions: list[str]) -> None:
        async def story() -> Program:
            with Session(engine) as session:
                program = Program(session)
                for action in actions:
                    await program.do(action)
            return program

        coroutine = story()
        with pytest.raises(StopIteration) as ended:
            coroutine.send(None)
        with Session(engine) as session:
            check(session, ended.value.value)

    run()
    engine.dispose()


@pytest.mark.usefixtures("connected")
def test_async_sessions_store_what_they_commit(database: Database) -> None:
    """The same, with rows that are buffered because send_sync() can't await."""
    with asyncio.Runner() as runner:
        engine: AsyncEngine = database.create_async_engine()
        runner.run(_create(engine))

        @EXAMPLES
        @given(actions=PROGRAMS)
        def run(actions: list[str]) -> None:
            runner.run(_story(engine, actions))

        run()
        runner.run(engine.dispose())


async def _create(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


async def _story(engine: AsyncEngine, actions: list[str]) -> None:
    async with AsyncSession(engine) as session:
        program = Program(session)
        for action in actions:
            await program.do(action)
    async with AsyncSession(engine) as session:
        await session.run_sync(check, program)

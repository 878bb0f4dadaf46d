"""Receivers that raise the unusual, in every place where the unit of work calls receivers."""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from kit import databases
from kit.effort import EFFORT
from kit.misfits import (
    AFTER_COMMIT,
    AFTER_ROLLBACK,
    ENDS_THE_LOOP,
    EXCEPTIONS,
    IMMEDIATE,
    IN_TASKS,
    SINGLETON,
    Account,
    Base,
    assert_nothing_is_left,
    do,
    is_same,
    raising,
    write,
)
from sqlalchemy import Engine, delete, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from aksara_signals import SessionInUseError, post_save, signals
from aksara_signals.dispatch.signal import restore_connections

GROUPS = ["immediate", "after_commit", "after_rollback"]
PLACES = IMMEDIATE | AFTER_COMMIT | AFTER_ROLLBACK
BUILT_IN = [getattr(signals, name) for name in signals.__all__]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Tracebacks of exceptions that can't be shown are not for pytest's log."""
    logger = logging.getLogger("aksara_signals")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logger, "callHandlers", lambda record: None)
        yield


def forget_all() -> None:
    for signal in BUILT_IN:
        restore_connections(signal, [])


class Trial:
    """One exception in one place: what the session does, what the caller and a good receiver get."""

    def __init__(self, engine: Any, place: str, name: str, is_async: bool) -> None:
        self.engine, self.place, self.name = engine, place, name
        self.thrown: list[BaseException] = []
        self.receiver = raising(EXCEPTIONS[name], is_async, self.thrown)
        self.caught: BaseException | None = None
        self.after: list[str] = []

    def session(self) -> Any:
        if isinstance(self.engine, AsyncEngine):
            return AsyncSession(self.engine)
        return Session(self.engine)

    async def run(self) -> None:
        session = self.session()
        try:
            PLACES[self.place](self.receiver, session)
            last = "after_rollback" if self.place in AFTER_ROLLBACK else "after_commit"
            post_save.connect(lambda **kwargs: self.after.append("received"), Account, phase=last)
            try:
                await write(session, "tried")
                await do(session, "rollback" if self.place in AFTER_ROLLBACK else "commit")
            except BaseException as error:
                self.caught = error
            forget_all()
            assert_nothing_is_left(session)
            await do(session, "rollback")
            await write(session, "plain")
            await do(session, "commit")
        finally:
            forget_all()
            await do(session, "close")
        assert self.thrown, "the receiver was called"

    @property
    def is_collected(self) -> bool:
        """Whether the outcome stands, and the error is logged and kept from the caller."""
        error = self.thrown[0]
        is_own_cancellation = isinstance(error, asyncio.CancelledError)
        return self.place not in IMMEDIATE and (isinstance(error, Exception) or is_own_cancellation)

    def check(self, names: list[str]) -> None:
        what = f"{self.name} in {self.place}"
        error = self.thrown[0]
        if self.is_collected:
            assert self.caught is None, what
            assert self.after == ["received"], what
        else:
            assert self.caught is not None, what
            assert is_same(self.caught, error), what
            if self.place in IMMEDIATE:
                assert self.after == [], what
        survives = self.place in AFTER_COMMIT
        assert names == (["plain", "tried"] if survives else ["plain"]), what


def chosen(place: str) -> list[tuple[str, bool]]:
    """Exceptions, each with whether an async receiver raises it: a third in an ordinary run."""
    both = [(name, is_async) for name in EXCEPTIONS for is_async in (False, True)]
    return both if EFFORT > 1 else both[list(PLACES).index(place) % 3 :: 3]


async def run_all(engine: Any, place: str) -> None:
    for name, is_async in chosen(place):
        if name in ENDS_THE_LOOP and place in IN_TASKS and isinstance(engine, AsyncEngine):
            continue  # below
        trial = Trial(engine, place, name, is_async)
        await trial.run()
        async_session = isinstance(engine, AsyncEngine)
        reader = AsyncSession(engine) if async_session else Session(engine)
        found = reader.scalars(select(Account.name).order_by(Account.name))
        names = [*(await found if async_session else found)]
        trial.check(names)
        for table in (*reversed(Base.metadata.sorted_tables),):
            gone = reader.execute(delete(table))
            if async_session:
                await gone
        await do(reader, "commit")
        await do(reader, "close")
        assert engine.pool.checkedout() == 0, f"{name} in {place}"
        SINGLETON.__traceback__ = None


@pytest.mark.parametrize("places", [IMMEDIATE, AFTER_COMMIT, AFTER_ROLLBACK], ids=GROUPS)
async def test_under_an_async_session(places: Any, async_engine: AsyncEngine) -> None:
    """Inside the transaction everything escapes and undoes; after it, only what is no Exception."""
    await databases.create_all(async_engine, Base.metadata)
    for place in places:
        await run_all(async_engine, place)


@pytest.mark.parametrize("places", [IMMEDIATE, AFTER_COMMIT, AFTER_ROLLBACK], ids=GROUPS)
async def test_under_a_plain_session(places: Any, sync_engine: Engine) -> None:
    """The same rules as under an AsyncSession."""
    Base.metadata.create_all(sync_engine)
    for place in places:
        await run_all(sync_engine, place)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("place", PLACES)
async def test_the_end_of_a_greenlet_is_no_silent_end_of_a_commit(
    place: str, is_async: bool, async_engine: AsyncEngine
) -> None:
    """SQLAlchemy's greenlet takes GreenletExit for its result: the block ended, with no rows."""
    await databases.create_all(async_engine, Base.metadata)
    trial = Trial(async_engine, place, "GreenletExit", is_async)
    await trial.run()
    assert type(trial.caught) is SessionInUseError
    async with AsyncSession(async_engine) as session:
        trial.check([*await session.scalars(select(Account.name).order_by(Account.name))])


@pytest.mark.parametrize("name", ENDS_THE_LOOP)
@pytest.mark.parametrize(
    "place", ["concurrent", "after_commit", "concurrent after_commit", "on_rollback"]
)
def test_what_ends_a_process_ends_the_loop(
    place: str, name: str, database: databases.Database, sync_engine: Engine
) -> None:
    """From a task of the library's own, too: the rows are as the transaction left them."""
    Base.metadata.create_all(sync_engine)
    engines: list[AsyncEngine] = []

    async def program() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        engine = database.create_async_engine()
        engines.append(engine)
        try:
            async with AsyncSession(engine) as session:
                PLACES[place](raising(EXCEPTIONS[name], True, []), session)
                await write(session, "tried")
                await do(session, "rollback" if place in AFTER_ROLLBACK else "commit")
        finally:
            await engine.dispose()

    with pytest.raises((KeyboardInterrupt, SystemExit)) as caught:
        asyncio.run(program())
    assert type(caught.value).__name__ == name
    assert engines.pop().pool.checkedout() == 0
    forget_all()
    del caught  # by its traceback, it holds the connection
    with warnings.catch_warnings():
        # The drivers' connections can't be closed any more, as their loop has ended: this is no fault.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    with Session(sync_engine) as session:
        assert session.scalar(select(func.count(Account.id))) == (place in AFTER_COMMIT)
        session.add(Account(name="plain"))
        session.commit()
    assert sync_engine.pool.checkedout() == 0
